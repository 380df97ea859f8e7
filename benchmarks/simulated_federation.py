"""A federation of eight hospitals that runs whole rounds through the server's own code, with simulated tunings and members that attack.

Real are messages, checks, SGCA and quarantine; simulated is what a tuning makes of an adapter and what a probe measures. There are two
groups of four hospitals: within a group adapters (cosine .7 to .9 after six rounds) and gradients are alike, so that SGCA really mixes
them. What was measured on real tunings stands in `docs/robustness.md`.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_backend import server_state, wire, wire_frame
from fed_backend.federated_round import FederatedRound
from fed_backend.projection import project
from fed_backend.run_config import FederationSettings
from fed_backend.site_answer import SiteAnswer, Value
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

FloatArray = NDArray[np.float64]

SITES = tuple(f"hospital-{letter}" for letter in "abcdefgh")
CASES = (58, 28, 18, 21, 46, 24, 12, 40)
STARTS = 3
ROUNDS = 6
VALUES = 52_992
PROBE_SIZE = 4096
SHARED, OWN, NOISE = 0.30, 0.25, 0.92
"""Parts of a tuning step: what all sites have in common, what a site has always, what is this tuning's alone."""
GRADIENT_SHARED, GRADIENT_OWN, GRADIENT_REST = 0.25, 0.25, 0.6
HALF_NOISE = 0.45


@dataclass
class Tuning:
    """The simulated tuning of one site. `draws` gives its random numbers, the same whatever others do."""

    name: str
    cases: int
    shared: FloatArray
    own: FloatArray
    rest: FloatArray
    draws: np.random.Generator
    size: float
    state: FloatArray

    def tune(self, number: int) -> FloatArray:
        """The adapter after this round's tuning, from what is active; about every fifth time there was nothing to tune on."""
        noise = unit(self.draws.normal(size=len(self.state)))
        if self.draws.random() > 0.2 or number == 1:
            self.state = self.state + self.size * (SHARED * self.shared + OWN * self.own + NOISE * noise)
        return self.state

    def gradient(self) -> FloatArray:
        """Its gradient but for the probe's noise and scale: it points away from where the site tunes to."""
        return -(GRADIENT_SHARED * self.shared + GRADIENT_OWN * self.own) + GRADIENT_REST * self.rest

    def halves(self, common: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
        """Projected halves of the probe."""
        mean = self.gradient()
        found = [0.6 * mean + HALF_NOISE * unit(self.draws.normal(size=len(mean))) * self.draws.uniform(0.8, 1.2) for _ in range(2)]
        projected = project(np.stack(found), seed=seed, size=PROBE_SIZE).astype(np.float64)
        return projected[0], projected[1]


@dataclass
class Attacker:
    """What an attacker changes: the adapters, the probe's halves, the update's bytes, the name, or that it says it adds noise for privacy.

    `memory` is kept between rounds.
    """

    update: Callable[["Move"], FloatArray] | None = None
    probe: Callable[["Move", FloatArray, FloatArray], tuple[FloatArray, FloatArray]] | None = None
    message: Callable[["Move", bytes], bytes] | None = None
    name: str = ""
    claims_noise: bool = False
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Move:
    """What an attacker knows when it moves."""

    site: str
    after: int
    honest: FloatArray
    rng: np.random.Generator
    memory: dict[str, Any]


def unit(vector: FloatArray) -> FloatArray:
    """The vector at norm 1."""
    return np.asarray(vector / np.linalg.norm(vector), np.float64)


def schema(values: int = VALUES) -> AdapterSchema:
    """The layout of the simulated adapters."""
    return AdapterSchema("ab" * 32, rank=8, shared_depth=0.5, tensors=(TensorSpec("all.B", (values // 8, 8)),))


def tunings(seed: int, values: int) -> dict[str, Tuning]:
    """The sites before the first round, every second of them in one group."""
    rng = np.random.default_rng(seed)
    everybody = unit(rng.normal(size=values))
    found = {}
    for index, (name, cases) in enumerate(zip(SITES, CASES, strict=True)):
        draws = np.random.default_rng((seed, index))
        group = np.random.default_rng((seed, 100 + index % 2)).normal(size=values)
        own, rest = unit(draws.normal(size=values) + group), unit(draws.normal(size=values) + 2.0 * group)
        size = float(draws.uniform(0.7, 1.8))
        found[name] = Tuning(name, cases, everybody, own, rest, draws, size, np.zeros(values))
    return found


@dataclass
class Outcome:
    """One run: mixtures by round and site, FedAvg's mean by round, and what was refused or remarked."""

    mixtures: dict[int, dict[str, FloatArray]] = field(default_factory=dict)
    fedavg: dict[int, FloatArray] = field(default_factory=dict)
    refusals: list[tuple[int, str, str]] = field(default_factory=list)
    notes: list[tuple[int, str, str]] = field(default_factory=list)


def run(
    seed: int,
    attackers: Mapping[str, Attacker] | None = None,
    *,
    without: Sequence[str] = (),
    silent: Sequence[str] = (),
    joining: Sequence[str] = (),
    rounds: int = ROUNDS,
    values: int = VALUES,
) -> Outcome:
    """Whole rounds. `without`: sites that are never members; `silent`: that leave when the attack begins; `joining`: that join then."""
    with tempfile.TemporaryDirectory() as folder:
        return _run(seed, dict(attackers or {}), set(without), set(silent), set(joining), rounds, values, Path(folder))


def _run(
    seed: int,
    attackers: dict[str, Attacker],
    without: set[str],
    silent: set[str],
    joining: set[str],
    rounds: int,
    values: int,
    folder: Path,
) -> Outcome:
    layout, sites = schema(values), tunings(seed, values)
    state = dataclasses.replace(server_state.new_state(layout), federation=f"simulated-{seed}")
    settings = FederationSettings(min_sites=2, projection_size=PROBE_SIZE, encoding="fp16")
    outcome = Outcome()
    moves = {name: np.random.default_rng((seed, 7, index)) for index, name in enumerate(SITES)}
    for number in range(1, rounds + 1):
        current = FederatedRound(state, settings, run="", save=lambda state: None, folder=folder)
        begun = number >= STARTS
        acting = attackers if begun else {}
        names = [name for name in SITES if name not in without | (silent if begun else joining)]
        answers, arrived = [], {}
        for node, name in enumerate(names):
            honest = sites[name].tune(number)
            who = acting.get(name)
            move = Move(name, number - STARTS, honest, moves[name], who.memory if who else {})
            answers.append(_update(node, name, number, sites[name].cases, layout, who, move, arrived))
        current.take_updates(answers)
        outcome.fedavg[number] = _fedavg(arrived)
        _probe(current, names, sites, acting, number, moves)
        payloads = current.mixtures()
        found = {}
        for name, payload in payloads.items():
            found[name] = wire.decode_mixture(payload, layout, site=name, round=number).state.to_vector().astype(np.float64)
            if sites[name].draws.random() > 0.15:  # its gate takes the mixture
                sites[name].state = found[name]
        outcome.mixtures[number] = found
        outcome.refusals += [(number, refusal.site, refusal.reason) for refusal in current.report.refusals]
        outcome.notes += [(number, name, line.note) for name, line in current.report.sites.items() if line.note]
        current.finish()
        state = current.state
    return outcome


def _update(
    node: int, name: str, number: int, cases: int, layout: AdapterSchema, who: Attacker | None, move: Move, arrived: dict[str, Any]
) -> SiteAnswer:
    values = move.honest if who is None or who.update is None else who.update(move)
    vector = values.astype(np.float32)
    arrived[name] = (cases, vector.astype(np.float64))
    claimed = who.name if who and who.name else name
    fields: dict[str, Value] = {"site": claimed, "version": "v"}
    if who and who.claims_noise:
        fields |= {"epsilon": 1.0, "delta": 1e-5}
    if np.isfinite(vector).all() and np.abs(vector).max() < 60_000:
        payload = wire.encode_update(wire.UpdateMessage(claimed, number, cases, AdapterState.from_vector(layout, vector)))
    else:
        payload = _forged(name, number, cases, layout, vector)
    fields["payload"] = payload if who is None or who.message is None else who.message(move, payload)
    return SiteAnswer(node, name, fields)


def _forged(name: str, number: int, cases: int, layout: AdapterSchema, vector: NDArray[np.float32]) -> bytes:
    """What our own encoder refuses to write: a well-formed message with values that are not finite."""
    header = {"site": name, "round": number, "cases": cases, "base": layout.base, "schema": layout.id, "count": layout.size}
    with np.errstate(over="ignore"):
        return wire_frame.sealed("update", wire.PLAIN_VERSION, header, vector.astype("<f2").tobytes())


def _probe(
    current: FederatedRound,
    names: Sequence[str],
    sites: Mapping[str, Tuning],
    acting: Mapping[str, Attacker],
    number: int,
    moves: Mapping[str, np.random.Generator],
) -> None:
    answers = []
    requests = current.probe_requests()
    for node, name in enumerate(names):
        if name not in requests:
            continue
        request = wire.decode_probe_request(requests[name], current.state.schema)
        a, b = sites[name].halves(request.state.to_vector().astype(np.float64), request.seed)
        who = acting.get(name)
        if who is not None and who.probe is not None:
            a, b = who.probe(Move(name, number - STARTS, sites[name].state, moves[name], who.memory), a, b)
        half = max(sites[name].cases // 2, 1)
        reply = wire.ProbeReply(name, number, request.seed, (min(half, 16), min(half, 16)), a.astype(np.float32), b.astype(np.float32))
        answers.append(SiteAnswer(node, name, {"site": name, "payload": wire.encode_probe_reply(reply)}))
    if requests:
        current.take_probe_replies(answers)


def _fedavg(arrived: Mapping[str, tuple[int, FloatArray]]) -> FloatArray:
    total = sum(cases for cases, _ in arrived.values())
    mean = np.zeros_like(next(iter(arrived.values()))[1])
    with np.errstate(all="ignore"):
        for cases, vector in arrived.values():
            mean += cases / total * vector
    return mean
