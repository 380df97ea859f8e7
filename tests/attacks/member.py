"""What a member that attacks changes in its own ClientApp: the adapters, the probe, the bytes or the name that it sends.

The file that FEDSCA_ATTACK names holds the name of the attack and a move for every round from `FIRST` on: `honest`, `silent` (it declines),
or `attack`. Every message has a process of its own: beside the file the member keeps, for each round, what it honestly had, what it sent,
and the bytes. What else it remembers follows from its seed.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.simulated_federation import Attacker, FloatArray, Move
from fed_backend import client_app, client_site, wire, wire_frame
from fed_backend.errors import RoundError
from fed_backend.outgoing import Door
from sam_adapters.schema import AdapterState
from tests.attacks import stand_in

FIRST = 2
"""The round in which an attacker joins."""


class Mole:
    """One message's worth of an attacker."""

    def __init__(self, file: Path, attacker: Attacker, moves: list[str]) -> None:
        self.file, self.attacker, self.moves = file, attacker, moves
        before = [number for number in range(FIRST, FIRST + len(moves)) if self._file(number, "message").exists()]
        self.attacker.memory["payloads"] = {number: self._file(number, "message").read_bytes() for number in before}
        self.attacker.memory["kept"] = [np.load(self._file(number, "honest.npy")) for number in before]

    def _file(self, number: int, ending: str) -> Path:
        return self.file.with_suffix(f".{number}.{ending}")

    def attacks(self, number: int) -> bool:
        """Whether it attacks in round `number`."""
        return self.moves[number - FIRST] == "attack"

    def move(self, name: str, number: int, honest: FloatArray) -> Move:
        """What the attack's functions are given."""
        seed = int.from_bytes(name.encode()[-4:], "big")
        self.attacker.memory.setdefault("descent", -stand_in.gradient(name, len(honest)))
        return Move(name, number - FIRST, honest, np.random.default_rng((seed, 7)), self.attacker.memory)

    def keep(self, number: int, honest: FloatArray, values: FloatArray, payload: bytes) -> None:
        """What was sent, and what would have been."""
        np.save(self._file(number, "honest.npy"), honest)
        np.save(self._file(number, "npy"), values)
        self._file(number, "message").write_bytes(payload)

    def update(self, encode: Any, member: Any, info: Any, door: Any, message: Any) -> bytes:
        """In place of `client_site._encoded_update`."""
        if self.moves[info.round - FIRST] == "silent":
            raise RoundError("It stays away.")
        honest = message.state.to_vector().astype(np.float64)
        move = self.move(member.name, info.round, honest)
        values = self.attacker.update(move) if self.attacks(info.round) and self.attacker.update is not None else honest
        vector = values.astype(np.float32)
        if np.isfinite(vector).all():
            state = AdapterState.from_vector(message.state.schema, vector)
            payload: bytes = encode(member, info, door, dataclasses.replace(message, state=state))
        else:
            payload = forged(message, vector)
        if self.attacks(info.round) and self.attacker.message is not None:
            payload = self.attacker.message(move, payload)
        self.keep(info.round, honest, values, payload)
        return payload

    def probe(self, measure: Any, site: Any, settings: Any, common: Any, **given: Any) -> Any:
        """In place of `probe_halves`."""
        halves = measure(site, settings, common, **given)
        if self.attacker.probe is None:
            return halves
        move = self.move(settings.name, FIRST, common.to_vector().astype(np.float64))
        a, b = self.attacker.probe(move, halves.a.astype(np.float64), halves.b.astype(np.float64))
        halves.a, halves.b = a.astype(np.float32), b.astype(np.float32)
        return halves


def forged(message: wire.UpdateMessage, vector: Any) -> bytes:
    """What the product's own encoder refuses to write: a well-formed message with values that are not finite."""
    layout = message.state.schema
    header = {"site": message.site, "round": message.round, "cases": message.cases, "base": layout.base, "schema": layout.id}
    with np.errstate(over="ignore"):
        return wire_frame.sealed("update", wire.PLAIN_VERSION, {**header, "count": layout.size}, vector.astype("<f2").tobytes())


def install(path: str) -> None:
    """Change this process."""
    from tests.attacks.attack_list import ATTACKS

    file = Path(path)
    plan = json.loads(file.read_text(encoding="utf-8"))
    mole = Mole(file, ATTACKS[plan["attack"]].make(), plan["moves"])
    Door.leaves = lambda *_given, **_named: None  # type: ignore[method-assign]  # it keeps to no policy of its own
    encode, member_of = client_site._encoded_update, client_app._member
    client_site._encoded_update = lambda *given: mole.update(encode, *given)
    if mole.attacker.name:
        client_app._member = lambda context: dataclasses.replace(member_of(context), name=mole.attacker.name)
    if mole.attacker.claims_noise:
        collect = client_site.collect_update
        client_site.collect_update = lambda *given: dataclasses.replace(collect(*given), epsilon=1.0, delta=1e-5)
    stand_in_probe = stand_in.probe_halves
    stand_in.probe_halves = lambda *given, **named: mole.probe(stand_in_probe, *given, **named)
    stand_in.install()
