"""Distances between sites that come and go, averaged over probes (`docs/sgca.md`). Pure numpy, no state, no threads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fed_backend.array_checks import FloatArray, real_array
from fed_backend.errors import AggregationError

DISTANCE_RATE = 0.5


@dataclass(frozen=True)
class DistanceTable:
    """Distances between named sites, averaged over probes.

    Attributes:
        sites: names, in the order of rows and columns.
        distance: (n, n) float64, symmetric, zero diagonal; ∞ for a pair never probed together; may be slightly negative (see
            `sgca.probe_statistics`), which `sgca.collaboration_weights` takes as 0.
        probes: (n, n) int64, in how many probes each pair took part together.
    """

    sites: tuple[str, ...]
    distance: FloatArray
    probes: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.sites)
        if len(set(self.sites)) != n or self.distance.shape != (n, n) or self.probes.shape != (n, n):
            raise AggregationError(
                f"Distance table of {n} names ({len(set(self.sites))} different), distances {list(self.distance.shape)} and counts "
                f"{list(self.probes.shape)}: expected different names and (n, n) twice."
            )

    @classmethod
    def empty(cls) -> "DistanceTable":
        """The table before the first probe."""
        return cls((), np.zeros((0, 0)), np.zeros((0, 0), np.int64))

    def select(self, sites: Sequence[str]) -> FloatArray:
        """Distances (m, m) between `sites` in that order; ∞ between those never probed together, 0 on the diagonal, none negative."""
        result = np.full((len(sites), len(sites)), np.inf)
        position = {name: index for index, name in enumerate(self.sites)}
        rows = [row for row, name in enumerate(sites) if name in position]
        columns = [position[sites[row]] for row in rows]
        result[np.ix_(rows, rows)] = np.maximum(self.distance[np.ix_(columns, columns)], 0.0)
        np.fill_diagonal(result, 0.0)
        return result


def update_distance(previous: DistanceTable, sites: Sequence[str], distance: ArrayLike, *, rate: float = DISTANCE_RATE) -> DistanceTable:
    """Exponential moving average of the distances over probes, for sites that come and go.

    A pair seen for the first time takes the new value, a pair seen before moves by `rate` towards it, a pair of which one was missing
    keeps the old one. No site is ever dropped: one that comes back is remembered.

    Args:
        previous: the table so far.
        sites: names of the sites in this probe.
        distance: (m, m) this probe's distances in that order, best with their negative values (`keep_negative` of `sgca.probe_statistics`).
        rate: 0 < rate <= 1, weight of the new value.

    Raises:
        AggregationError: a name twice, a shape that does not fit, or a value that is not finite.
    """
    new = real_array(distance, "distance", 2)
    if new.shape != (len(sites), len(sites)) or len(set(sites)) != len(sites) or not np.isfinite(new).all():
        raise AggregationError(f"Distances of shape {list(new.shape)} for sites {list(sites)}, expected different names and finite (m, m).")
    if not 0 < rate <= 1:
        raise AggregationError(f"rate is {rate}, expected a number above 0, at most 1.")
    before = set(previous.sites)
    names = (*previous.sites, *(name for name in sites if name not in before))
    known = len(previous.sites)
    table = np.full((len(names), len(names)), np.inf)
    probes = np.zeros((len(names), len(names)), np.int64)
    table[:known, :known] = previous.distance
    probes[:known, :known] = previous.probes

    position = {name: index for index, name in enumerate(names)}
    block = np.ix_(*2 * ([position[name] for name in sites],))
    first_time = probes[block] == 0
    old = np.where(first_time, 0.0, table[block])  # no ∞ in the arithmetic
    table[block] = np.where(first_time, new, old + rate * (new - old))
    probes[block] += 1
    np.fill_diagonal(table, 0.0)
    return DistanceTable(names, table, probes)
