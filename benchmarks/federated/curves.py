"""How the figures run over rounds: how steady a method is, and how soon it is as good as tuning alone ends. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.federated.statistics import Unit, by_site_and_seed, bytes_by_round, spread

ROUNDING = 1e-9
FALL = 0.01
"""Dice that a site loses from one round to the next, from which it counts as a fall."""


@dataclass(frozen=True)
class Steadiness:
    """Spread of a method.

    Attributes:
        over_seeds: standard deviation over seeds of the sites' mean Dice in the last round; None with one seed.
        over_rounds: mean size of a site's change of Dice from one round to the next.
        falls: share of these changes that are falls.
    """

    over_seeds: float | None
    over_rounds: float
    falls: float


@dataclass(frozen=True)
class Reached:
    """When the mean over sites and seeds first reached a Dice: round, kB of a site until then (both ways), seconds of a site's tunings."""

    round: int
    kilobytes: float
    seconds: float


def curve(units: Iterable[Unit], arm: str, method: str, kind: str) -> dict[tuple[str, int], dict[int, float]]:
    """(site, seed) -> round -> Dice."""
    found: dict[tuple[str, int], dict[int, float]] = {}
    for unit in _of(units, arm, method):
        for pair, dice in by_site_and_seed([unit], kind).items():
            found.setdefault(pair, {})[unit["round"]] = dice
    return found


def steadiness(units: Iterable[Unit], arm: str, method: str, kind: str) -> Steadiness | None:
    """Spread over seeds and rounds; None without two rounds one after the other."""
    found = curve(units, arm, method, kind)
    changes = [dice[number] - dice[number - 1] for dice in found.values() for number in dice if number - 1 in dice]
    if not changes:
        return None
    ends: dict[int, list[float]] = {}
    for (_, seed), dice in found.items():
        ends.setdefault(seed, []).append(dice[max(dice)])
    means = [float(np.mean(values)) for values in ends.values()]
    return Steadiness(
        over_seeds=spread(means)[1] if len(means) > 1 else None,
        over_rounds=float(np.mean(np.abs(changes))),
        falls=float(np.mean([change < -FALL for change in changes])),
    )


def reached(units: Iterable[Unit], arm: str, method: str, kind: str, dice: float) -> Reached | None:
    """The first round whose mean over sites and seeds is at least `dice`; None if none is."""
    units = list(_of(units, arm, method))
    kilobytes = seconds = 0.0
    for number in sorted({unit["round"] for unit in units}):
        now = [unit for unit in units if unit["round"] == number]
        kilobytes += bytes_by_round(now) / 1000
        tunings = [value for unit in now for value in unit.get("tuning_seconds", {}).values()]
        seconds += float(np.mean(tunings)) if tunings else 0.0
        values = list(by_site_and_seed(now, kind).values())
        if values and np.mean(values) >= dice - ROUNDING:
            return Reached(number, kilobytes, seconds)
    return None


def _of(units: Iterable[Unit], arm: str, method: str) -> list[Unit]:
    return [unit for unit in units if (unit["arm"], unit["method"]) == (arm, method)]
