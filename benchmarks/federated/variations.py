"""Every variation of an experiment in one table: each method in each arm beside the same method with nothing varied."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.federated.configuration import MAIN
from benchmarks.federated.statistics import Comparison, Pair, by_site_and_seed, bytes_by_round, compare, last_rounds, spread

ODD_ONES = ("small_site", "newcomer_site", "inverted_site", "spoiler_site")
"""Values of an arm that name the one site at which something is different."""


@dataclass(frozen=True)
class Variation:
    """One method in one arm, for one kind of prompt, after the last round.

    Attributes:
        mean, deviation: of the sites' mean Dice over seeds.
        seeds: how many.
        unvaried: against the same method in the arm `main`, over common sites and seeds; None where there is none.
        odd: name of the arm's odd site and the method's mean Dice there minus local only's in the same arm; None where either is missing.
        kilobytes: of a site and round, both directions.
    """

    arm: str
    method: str
    mean: float
    deviation: float
    seeds: int
    unvaried: Comparison | None
    odd: tuple[str, float] | None
    kilobytes: float


def variations(result: Mapping[str, Any], kind: str, methods_of: Callable[[Sequence[Any], str], list[str]]) -> list[Variation]:
    """All of them, arm by arm in the order of the result; empty where nothing was varied."""
    units: Sequence[Any] = result["units"]
    names = list(dict.fromkeys(unit["arm"] for unit in units))
    if len(names) < 2:
        return []
    found = []
    for arm in sorted(names, key=lambda name: name != MAIN):
        local = by_site_and_seed(last_rounds(units, arm, "local"), kind)
        for method in methods_of(units, arm):
            last = last_rounds(units, arm, method)
            dice = by_site_and_seed(last, kind)
            if not dice:
                continue
            seeds = sorted({seed for _, seed in dice})
            mean, deviation = spread([float(np.mean([value for (_, one), value in dice.items() if one == seed])) for seed in seeds])
            usual = by_site_and_seed(last_rounds(units, MAIN, method), kind) if arm != MAIN else {}
            odd = _odd(result["arms"].get(arm, {}), dice, local) if method != "local" else None
            found.append(Variation(arm, method, mean, deviation, len(seeds), compare(dice, usual), odd, bytes_by_round(last) / 1000))
    return found


def _odd(changes: Mapping[str, Any], dice: Mapping[Pair, float], local: Mapping[Pair, float]) -> tuple[str, float] | None:
    """The gain over local only at the site at which the arm differs."""
    site = next((str(changes[key]) for key in ODD_ONES if changes.get(key)), None)
    gains = [value - local[pair] for pair, value in dice.items() if pair[0] == site and pair in local]
    return (site, float(np.mean(gains))) if site and gains else None
