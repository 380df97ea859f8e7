"""Attacks by a member of a federation: what the server says to each, and what is left of it in the others' mixtures. No network, no image.

    python -m benchmarks.attacks [--rounds 6] [--seeds 100] [--out FILE.json] [--table docs/robustness.md]

Eight sites run whole rounds (`simulated_federation`). From round 3 on the attackers (the last site, or the last two) do what they do; every
attack runs on the same draws. Most join in that round; those that need a past were honest members before.

Reported for each: what was said and when, the largest relative L2 distance between an honest site's mixture and the one that it gets in a
federation without the attackers, in any round from the attack on, and the same for plain FedAvg, the mean weighted by cases of whatever
arrives. Attacks that are not refused are compared with the same member's going on honestly. Last, how often honest sites are refused over
many seeds.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.document_table import put_table
from benchmarks.machine import machine
from benchmarks.simulated_federation import ROUNDS, SITES, STARTS, VALUES, Attacker, FloatArray, Move, Outcome, run, schema, tunings, unit
from fed_backend import wire
from sam_adapters.schema import AdapterState


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
        Attack("sign flip x 8, said to be noised", lambda: Attacker(lambda move: -8.0 * move.honest, claims_noise=True)),
        Attack("sign flip, said to be noised", lambda: Attacker(lambda move: -move.honest, claims_noise=True)),
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
        attacker.memory["descent"] = -tunings(seed, values)[site].gradient()
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
        put_table(options.table, BEGIN, END, text)


if __name__ == "__main__":
    main()
