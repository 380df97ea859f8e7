"""Attacks by a member of a federation: what the server says to each, and what is left of it in the others' mixtures. No network, no image.

    python -m benchmarks.attacks [--rounds 6] [--seeds 100] [--out FILE.json] [--table docs/robustness.md]

Eight sites run whole rounds through `federated_round`, with real messages, checks, SGCA and quarantine. Their tuning is simulated
and made to
look like real ones (see `docs/robustness.md`): adapters grow from zero with the square root of the tunings, those of two sites have a
cosine of about 0.15 after the first round and more later, an adapter and the site's own gradient about -0.1, the two halves of a
probe 0.3 to 0.6.
From round 3 on the attackers (the last site, or the last two) do what they do; every attack runs on the same draws. Most join in
that round; those that need a
past were honest members before.

Reported for each: what was said and when, the largest relative L2 distance between an honest site's mixture and the one that it
gets in a federation
without the attackers, in any round from the attack on, and the same for plain FedAvg, the mean weighted by cases of whatever
arrives. Attacks that are not
refused are compared with the same member's going on honestly.
Last, how often honest sites are refused over many seeds.
"""

import argparse
import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine
from fed_backend import server_state, wire
from fed_backend.federated_round import FederatedRound, SiteAnswer, Value
from fed_backend.projection import project
from fed_backend.run_config import FederationSettings
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

    def halves(self, common: FloatArray, seed: int) -> tuple[FloatArray, FloatArray]:
        """Projected halves of the probe: gradients point away from where the site tunes to."""
        mean = -(GRADIENT_SHARED * self.shared + GRADIENT_OWN * self.own) + GRADIENT_REST * self.rest
        found = [0.6 * mean + HALF_NOISE * unit(self.draws.normal(size=len(mean))) * self.draws.uniform(0.8, 1.2) for _ in range(2)]
        projected = project(np.stack(found), seed=seed, size=PROBE_SIZE).astype(np.float64)
        return projected[0], projected[1]


@dataclass
class Attacker:
    """What an attacker changes: the adapters, the probe's halves, the update's bytes, the name; `memory` is kept between rounds."""

    update: Callable[["Move"], FloatArray] | None = None
    probe: Callable[["Move", FloatArray, FloatArray], tuple[FloatArray, FloatArray]] | None = None
    message: Callable[["Move", bytes], bytes] | None = None
    name: str = ""
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
    """The sites before the first round. Half of them have more in common with each other than with the rest."""
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
    settings = FederationSettings(min_sites=2, projection_size=PROBE_SIZE)
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
        return wire._sealed("update", wire.PLAIN_VERSION, header, vector.astype("<f2").tobytes())


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


# --- the attacks ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attack:
    """`make` gives a fresh attacker for each of `sites`.

    `beside`: what the federation without the attack is: one in which they are `never` members (and join when the attack begins), fall
    `silent` when it begins, or go on as `honest` members.
    """

    name: str
    make: Callable[[], Attacker]
    sites: tuple[str, ...] = (SITES[-1],)
    beside: Literal["never", "silent", "honest"] = "never"


def _drift(move: Move) -> FloatArray:
    direction = move.memory.setdefault("direction", unit(move.rng.normal(size=len(move.honest))))
    return np.asarray(move.honest + 0.3 * (move.after + 1) * direction, np.float64)


def _backdoor(move: Move) -> FloatArray:
    """A small fixed part in few values, on top of honest tuning."""
    part = move.memory.setdefault("part", np.where(move.rng.random(len(move.honest)) < 0.01, move.rng.normal(size=len(move.honest)), 0))
    return np.asarray(move.honest + 0.4 * np.linalg.norm(move.honest) * unit(part), np.float64)


def _replayed_message(move: Move, payload: bytes) -> bytes:
    """A good message of an earlier round, as it was."""
    layout = schema(len(move.honest))
    return wire.encode_update(wire.UpdateMessage(move.site, 1, 40, AdapterState.from_vector(layout, move.honest.astype(np.float32))))


def _replayed_values(move: Move) -> FloatArray:
    """New in the attack's first round, from then on that again after another one: what is sent is old and says it is new."""
    kept = move.memory.setdefault("kept", [])
    kept.append(move.honest)
    return np.asarray(kept[0] if move.after >= 2 else move.honest, np.float64)


def _climb(move: Move) -> FloatArray:
    """What makes the site's own loss larger, at an ordinary norm: the honest probe says so."""
    return np.asarray(-1.2 * np.linalg.norm(move.honest) * unit(move.memory["descent"]), np.float64)


def _same_halves(move: Move, a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    mean = (a + b) / 2
    return mean, mean


def _oversized(move: Move, payload: bytes) -> bytes:
    header = int.from_bytes(payload[8:12], "little")
    return payload[:12] + (2**31).to_bytes(4, "little") + payload[16 : 16 + header] + b"\0" * 3_000_000


def _malformed(move: Move, payload: bytes) -> bytes:
    changed = bytearray(payload)
    for place in move.rng.integers(0, len(changed), 40):
        changed[place] ^= int(move.rng.integers(1, 256))
    return bytes(changed[: int(move.rng.integers(1, len(changed)))])


def attacks() -> tuple[Attack, ...]:
    """All of them, in the order of the table, and an honest member for comparison with those that are hard to tell from one."""
    scaled: Callable[[float], Callable[[], Attacker]] = lambda factor: lambda: Attacker(lambda move: factor * move.honest)  # noqa: E731
    return (
        Attack("sign flip x 8", scaled(-8.0)),
        Attack("sign flip", scaled(-1.0)),
        Attack("scaling x 100", scaled(100.0)),
        Attack("random values", lambda: Attacker(lambda move: move.rng.normal(size=len(move.honest)))),
        Attack(
            "random, ordinary norm",
            lambda: Attacker(lambda move: float(np.linalg.norm(move.honest)) * unit(move.rng.normal(size=len(move.honest)))),
        ),
        Attack("NaN", lambda: Attacker(lambda move: np.full(len(move.honest), np.nan))),
        Attack("zero", lambda: Attacker(lambda move: np.zeros(len(move.honest)))),
        Attack("constant, 2 of 8 alike", lambda: Attacker(lambda move: np.full(len(move.honest), 0.005)), SITES[-2:]),
        Attack(
            "constant, 2 of 8 nearly alike",
            lambda: Attacker(lambda move: 0.005 + 0.0005 * move.rng.normal(size=len(move.honest))),
            SITES[-2:],
        ),
        Attack("(an honest member)", Attacker, beside="silent"),
        Attack("slow drift", lambda: Attacker(_drift), beside="honest"),
        Attack("backdoor-like", lambda: Attacker(_backdoor), beside="honest"),
        Attack("old round's message", lambda: Attacker(message=_replayed_message), beside="silent"),
        Attack("old round's adapters as new", lambda: Attacker(_replayed_values), beside="honest"),
        Attack("another site's name", lambda: Attacker(name=SITES[0])),
        Attack("honest probe, poisoned update", lambda: Attacker(_climb)),
        Attack("probe that claims no noise", lambda: Attacker(probe=_same_halves)),
        Attack("oversized payload", lambda: Attacker(message=_oversized)),
        Attack("malformed bytes", lambda: Attacker(message=_malformed)),
    )


@dataclass(frozen=True)
class Result:
    """One attack's line of the table. `deviation`: of SGCA's mixtures; `fedavg`: of the plain mean (infinite where it is not finite)."""

    name: str
    verdict: str
    first_refused: int | None
    quarantined: bool
    deviation: float
    fedavg: float
    honest_refused: int


@functools.lru_cache(maxsize=8)
def reference(seed: int, without: tuple[str, ...], silent: tuple[str, ...], rounds: int, values: int) -> Outcome:
    """The federation without the attackers."""
    return run(seed, without=without, silent=silent, rounds=rounds, values=values)


def measure(attack: Attack, seed: int = 0, rounds: int = ROUNDS, values: int = VALUES) -> Result:
    """Run an attack, and the federation without it."""
    attackers = {site: attack.make() for site in attack.sites}
    for site, attacker in attackers.items():
        one = tunings(seed, values)[site]
        attacker.memory["descent"] = GRADIENT_SHARED * one.shared + GRADIENT_OWN * one.own - GRADIENT_REST * one.rest
    joining = attack.sites if attack.beside == "never" else ()
    silent = attack.sites if attack.beside == "silent" else ()
    attacked = run(seed, attackers, joining=joining, rounds=rounds, values=values)
    without = reference(seed, joining, silent, rounds, values)
    honest = [site for site in SITES if site not in attack.sites]
    pairs = [
        (attacked.mixtures[number][site], without.mixtures[number][site])
        for number in range(STARTS, rounds + 1)
        for site in honest
        if site in attacked.mixtures[number]
    ]
    means = [(attacked.fedavg[number], without.fedavg[number]) for number in range(STARTS, rounds + 1)]
    said = [(number, reason) for number, site, reason in attacked.refusals if site not in honest]
    noted = [text for _, site, text in attacked.notes if site not in honest]
    return Result(
        attack.name,
        said[0][1] if said else noted[0] if noted else "Taken: nothing that a check can see.",
        said[0][0] if said else None,
        any("quarantine" in reason for _, reason in said),
        max(_relative(x, y) for x, y in pairs),
        max(_relative(x, y) for x, y in means),
        sum(site in honest for _, site, _ in attacked.refusals),
    )


def _relative(found: FloatArray, expected: FloatArray) -> float:
    with np.errstate(all="ignore"):
        value = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    return value if np.isfinite(value) else float("inf")


def honest_refusals(seeds: int, rounds: int = ROUNDS, values: int = VALUES) -> dict[str, int]:
    """How many updates of honest sites were judged and refused over `seeds` federations, and the first reason."""
    judged = refused = 0
    for seed in range(seeds):
        outcome = run(1000 + seed, rounds=rounds, values=values)
        judged += rounds * len(SITES)
        refused += len(outcome.refusals)
    return {"seeds": seeds, "updates": judged, "refused": refused}


def table(results: Sequence[Result], rates: Mapping[str, int]) -> str:
    """The table of docs/robustness.md."""
    lines = [
        "| attack | refused in its | quarantine | others' mixtures change by | plain FedAvg by | what is said |",
        "|---|---|---|---|---|---|",
    ]
    for one in results:
        when = "-" if one.first_refused is None else f"round {one.first_refused - STARTS + 1}"
        fedavg = "destroyed" if np.isinf(one.fedavg) else f"{100 * one.fedavg:.0f} %"
        lines.append(
            f"| {one.name} | {when} | {'yes' if one.quarantined else 'no'} | {100 * one.deviation:.1f} % | {fedavg} | {one.verdict} |"
        )
    lines.append("")
    lines.append(f"Honest sites refused: {rates['refused']} of {rates['updates']} updates, {rates['seeds']} seeds.")
    return "\n".join(lines)


BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"rounds of a run, at least {STARTS} (default {ROUNDS})")
    parser.add_argument("--values", type=int, default=VALUES, help=f"values of an adapter, a multiple of 8 (default {VALUES})")
    parser.add_argument("--seeds", type=int, default=100, help="federations of honest sites (default 100)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/attacks.json"), help="JSON file to write")
    parser.add_argument("--table", type=Path, help="Markdown file whose table is replaced")
    options = parser.parse_args(arguments)
    results = []
    for attack in attacks():
        results.append(one := measure(attack, rounds=options.rounds, values=options.values))
        print(f"{one.name}: {one.deviation:.4f} (FedAvg {one.fedavg:.3g}), honest refused {one.honest_refused}. {one.verdict}", flush=True)
    rates = honest_refusals(options.seeds, options.rounds, options.values)
    write(results, rates, options)


def write(results: Sequence[Result], rates: Mapping[str, int], options: argparse.Namespace) -> None:
    """Print the table, and write it to where the options say."""
    text = table(results, rates)
    print(text)
    figures = [{**dataclasses.asdict(one), "fedavg": None if np.isinf(one.fedavg) else one.fedavg} for one in results]
    options.out.write_text(
        json.dumps(
            {"rounds": options.rounds, "values": options.values, "attacks": figures, "honest": rates, "machine": machine()}, indent=1
        )
        + "\n",
        encoding="utf-8",
    )
    if options.table:
        old = options.table.read_text(encoding="utf-8")
        before, after = old.split(BEGIN)[0], old.split(END)[1]
        options.table.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
