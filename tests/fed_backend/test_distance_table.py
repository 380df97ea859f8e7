"""Distances between sites that come, miss a probe and return."""

import math

import numpy as np
import pytest

from fed_backend import sgca
from fed_backend.distance_table import DistanceTable, update_distance
from fed_backend.errors import AggregationError

inf = math.inf


def test_sites_join_miss_a_probe_and_return() -> None:
    table = update_distance(DistanceTable.empty(), ["a", "b"], [[0, 4], [4, 0]])
    np.testing.assert_array_equal(table.distance, [[0, 4], [4, 0]])

    table = update_distance(table, ["c", "a"], [[0, 6], [6, 0]])  # b is missing, c is new
    assert table.sites == ("a", "b", "c")
    np.testing.assert_array_equal(table.distance, [[0, 4, 6], [4, 0, inf], [6, inf, 0]])

    table = update_distance(table, ["b", "a", "c"], [[0, 2, 1], [2, 0, -2], [1, -2, 0]])
    np.testing.assert_array_equal(table.distance, [[0, 3, 2], [3, 0, 1], [2, 1, 0]])
    np.testing.assert_array_equal(table.probes, [[3, 2, 2], [2, 2, 1], [2, 1, 2]])


def test_rate() -> None:
    table = update_distance(DistanceTable.empty(), ["a", "b"], [[0, 4], [4, 0]])
    np.testing.assert_array_equal(update_distance(table, ["a", "b"], [[0, 8], [8, 0]], rate=0.25).distance, [[0, 5], [5, 0]])


def test_average_of_estimates_is_not_biased_by_cutting() -> None:
    """Sites alike: the kept negative values cancel the positive ones, so that the average tends to nothing."""
    rng = np.random.default_rng(3)
    kept = cut = DistanceTable.empty()
    for _ in range(400):
        halves = rng.normal(size=(2, 2, 20))
        kept = update_distance(kept, ["a", "b"], sgca.probe_statistics(*halves, keep_negative=True)[0], rate=0.02)
        cut = update_distance(cut, ["a", "b"], sgca.probe_statistics(*halves)[0], rate=0.02)
    assert abs(kept.distance[0, 1]) < 2 < cut.distance[0, 1]


def test_select() -> None:
    table = DistanceTable(("a", "b"), np.array([[0, -3.0], [-3.0, 0]]), np.ones((2, 2), np.int64))
    np.testing.assert_array_equal(table.select(["b", "x", "a"]), [[0, inf, 0], [inf, 0, inf], [0, inf, 0]])
    assert DistanceTable.empty().select([]).shape == (0, 0)


@pytest.mark.parametrize(
    ("sites", "distance", "rate"),
    [
        (["a", "a"], np.zeros((2, 2)), 0.5),
        (["a"], np.zeros((2, 2)), 0.5),
        (["a", "b"], [[0, math.nan], [math.nan, 0]], 0.5),
        (["a"], [[0]], 0),
    ],
)
def test_refused(sites: list[str], distance: object, rate: float) -> None:
    with pytest.raises(AggregationError):
        update_distance(DistanceTable.empty(), sites, distance, rate=rate)  # type: ignore[arg-type]


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(AggregationError, match="Distance table"):
        DistanceTable(("a",), np.zeros((2, 2)), np.zeros((2, 2), np.int64))
