"""The published rules against answers computed by hand, and their limits."""

import numpy as np
import pytest

from benchmarks.federated import published

SAME = np.array([[1.0, 0.0], [2.0, 0.0]])
ACROSS = np.array([[1.0, 0.0], [0.0, 3.0]])


def test_fedavg_weighs_by_cases() -> None:
    np.testing.assert_allclose(published.fedavg_weights([1, 3]), [[0.25, 0.75], [0.25, 0.75]])
    np.testing.assert_allclose(published.fedavg_weights([0, 0]), [[0.5, 0.5], [0.5, 0.5]])


def test_cosines_of_a_zero_vector_are_zero() -> None:
    np.testing.assert_allclose(published.cosines(np.array([[1.0, 1.0], [0.0, 0.0]])), [[1, 0], [0, 1]])


def test_heurfedamp_shares_the_rest_by_cosine() -> None:
    # Site 0's cosines are 1 (site 1) and 0 (site 2): the other half is shared as e : 1.
    vectors = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    e = np.e
    found = published.heurfedamp_weights(vectors, self_weight=0.5, sharpness=1.0)
    np.testing.assert_allclose(found[0], [0.5, 0.5 * e / (e + 1), 0.5 / (e + 1)])
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("point", "nearest"),
    [([0.5, 0.5], [0.5, 0.5]), ([2.0, 0.0], [1.0, 0.0]), ([1.0, 0.5], [0.75, 0.25]), ([0.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3])],
)
def test_projection_to_the_simplex(point: list[float], nearest: list[float]) -> None:
    np.testing.assert_allclose(published.project_to_simplex(np.array(point)), nearest)


def test_pfedgraph_keeps_the_prior_where_all_are_alike() -> None:
    np.testing.assert_allclose(published.pfedgraph_weights(SAME, [1, 3]), [[0.25, 0.75], [0.25, 0.75]])


def test_pfedgraph_prefers_the_like() -> None:
    # Row 0: p = (.5, .5), d = (-1, 0), α = 1: the point (1, .5) goes to (.75, .25).
    np.testing.assert_allclose(published.pfedgraph_weights(ACROSS, [1, 1], strength=1.0), [[0.75, 0.25], [0.25, 0.75]])


def test_chi_square_weights() -> None:
    # Row 0: c = (0, 1), p = (.5, .5), λ = 1. Σ p (1 + (ν - c)/2) = 1 gives ν = .5, so w = (.5 · 1.25, .5 · .75).
    np.testing.assert_allclose(published.chi_square_weights(ACROSS, [1, 1]), [[0.625, 0.375], [0.375, 0.625]])
    # λ = 1/8: with both in, w_1 = .5 (1 + 4 (.5 - 1)) < 0, so the like takes all.
    np.testing.assert_allclose(published.chi_square_weights(ACROSS, [1, 1], strength=0.125), np.eye(2))
    # A strong prior leaves the prior.
    np.testing.assert_allclose(published.chi_square_weights(ACROSS, [1, 3], strength=1e9), [[0.25, 0.75], [0.25, 0.75]], atol=1e-6)


def test_a_site_without_cases_gives_nothing() -> None:
    found = published.chi_square_weights(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), [0, 2, 2])
    np.testing.assert_allclose(found[:, 0], 0)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_product_average_is_exact_while_the_rank_suffices() -> None:
    ups = [np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 0.0]])]
    downs = [np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])]
    up, down = published.product_average(ups, downs, [0.5, 0.5])
    np.testing.assert_allclose(up @ down, [[0.5, 0, 0], [0, 1.5, 0]], atol=1e-12)
    assert up.shape == (2, 2)
    assert down.shape == (2, 3)


def test_product_average_keeps_the_largest_direction() -> None:
    ups = [np.array([[1.0], [0.0]]), np.array([[0.0], [3.0]])]
    downs = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])]
    up, down = published.product_average(ups, downs, [0.5, 0.5])
    np.testing.assert_allclose(up @ down, [[0, 0], [0, 1.5]], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(up), np.linalg.norm(down))
