"""Figures out of finished rounds, and paired tests over sites and seeds. numpy and scipy; no torch."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

EXACT_UP_TO = 14
DRAWS = 20_000
Unit = Mapping[str, Any]
Pair = tuple[str, int]
"""Site and seed."""


def last_rounds(units: Iterable[Unit], arm: str, method: str) -> list[Unit]:
    """The last finished round of each seed."""
    found: dict[int, Unit] = {}
    for unit in units:
        if unit["arm"] == arm and unit["method"] == method and unit["round"] >= found.get(unit["seed"], unit)["round"]:
            found[unit["seed"]] = unit
    return [found[seed] for seed in sorted(found)]


def by_site_and_seed(units: Iterable[Unit], kind: str, metric: str = "dice") -> dict[Pair, float]:
    """(site, seed) -> mean of the metric over the test cases."""
    return {
        (site, unit["seed"]): float(np.mean([case[metric] for case in kinds[kind]]))
        for unit in units
        for site, kinds in unit["scores"].items()
        if kinds.get(kind)
    }


@dataclass(frozen=True)
class Comparison:
    """One method against another over the same sites and seeds.

    Attributes:
        pairs: number of (site, seed) pairs.
        difference: mean of method - other.
        wilcoxon: two-sided p of the signed-rank test; 1 where all differences are 0.
        permutation: two-sided p of the mean under random signs.
        worse: sites whose mean over seeds is below the other's.
    """

    pairs: int
    difference: float
    wilcoxon: float
    permutation: float
    worse: tuple[str, ...]


def compare(method: Mapping[Pair, float], other: Mapping[Pair, float]) -> Comparison | None:
    """Paired tests; None without a common pair. Seeds of one site share its test cases: p-values are rather too small than too large."""
    common = sorted(set(method) & set(other))
    if not common:
        return None
    differences = np.array([method[pair] - other[pair] for pair in common])
    sites = sorted({site for site, _ in common})
    means = {site: np.mean([value for (name, _), value in zip(common, differences, strict=True) if name == site]) for site in sites}
    return Comparison(
        pairs=len(common),
        difference=float(differences.mean()),
        wilcoxon=1.0 if not differences.any() else float(wilcoxon(differences).pvalue),
        permutation=sign_flip_p(differences),
        worse=tuple(site for site in sites if means[site] < 0),
    )


def sign_flip_p(differences: NDArray[np.float64]) -> float:
    """Share of sign patterns whose |mean| is at least the observed; all patterns up to 14 pairs, else 20,000 seeded draws."""
    observed = abs(differences.mean()) - 1e-12
    if len(differences) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
        return float(np.mean(np.abs(signs @ differences) / len(differences) >= observed))
    signs = np.random.default_rng(0).choice((-1, 1), size=(DRAWS, len(differences)))
    return float((1 + np.sum(np.abs(signs @ differences) / len(differences) >= observed)) / (1 + DRAWS))


def bytes_by_round(units: Iterable[Unit]) -> float:
    """Mean bytes of a site and round, both directions."""
    sizes = [unit["bytes_up"][site] + unit["bytes_down"][site] for unit in units for site in unit["bytes_up"]]
    return float(np.mean(sizes)) if sizes else 0.0


def gap_closed(method: float, local: float, pooled: float) -> float | None:
    """(method - local) / (pooled - local); None where pooling gains less than a hundredth, so that there is no gap to speak of."""
    return None if pooled - local < 0.01 else (method - local) / (pooled - local)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
