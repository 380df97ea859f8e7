"""The seeded projection: the same numbers everywhere, linear, unbiased, and close enough for cosines."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from fed_backend.errors import AggregationError
from fed_backend.projection import NONZEROS, project, projection_table

LENGTH = 52_992  # what the default base shares


def cosine(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    return float(x @ y / math.sqrt(float(x @ x) * float(y @ y)))


def test_the_table_never_changes() -> None:
    """A federation whose sites disagree about this table compares nonsense: a change needs a new version of the wire format."""
    places, signs = projection_table(1000, 42, 4096)
    digest = hashlib.sha256(places.astype("<i8").tobytes() + signs.astype("<i1").tobytes()).hexdigest()
    assert digest == "7fd7a34c9ed9200e34704aeae4464e299b2c8711daac34a5b5f1192fe39af06c"


def test_projected_numbers_never_change() -> None:
    """Small whole numbers: every sum is exact, so the bytes are the same on every machine."""
    vector = ((np.arange(1000) * 7) % 31 - 15).astype(np.float32)
    assert (
        hashlib.sha256(project(vector, seed=42).astype("<f4").tobytes()).hexdigest()
        == "6b821caaeec5ef7a83d9467b43d3da5c74978f5e52ffa6320fcdbea097e5c005"
    )


def test_philox_stream_is_the_published_one() -> None:
    """First numbers of the raw stream for key 7, as numpy 2.4 gave them."""
    assert np.random.Philox(counter=0, key=7).random_raw(2).tolist() == [16086915834549238692, 5448529601018347655]


def test_by_hand() -> None:
    places, signs = projection_table(3, 5, 8)
    expected = np.zeros(8)
    for value, column in ((2.0, 0), (-4.0, 1), (6.0, 2)):
        for block in range(NONZEROS):
            expected[places[block, column]] += signs[block, column] * value / 2
    np.testing.assert_array_equal(project(np.array([2.0, -4.0, 6.0]), seed=5, size=8), expected)
    assert (places // 2 == np.arange(4)[:, None]).all(), "one place in each of four blocks of two"


def test_places_and_signs_are_spread_evenly() -> None:
    places, signs = projection_table(LENGTH, 1, 4096)
    counts = np.bincount(places.ravel(), minlength=4096)
    mean = NONZEROS * LENGTH / 4096
    chi_square = ((counts - mean) ** 2 / mean).sum()
    assert abs(chi_square - 4096) < 5 * math.sqrt(2 * 4096)
    assert abs(signs.mean()) < 5 / math.sqrt(signs.size)


@pytest.mark.parametrize("wanted", [0.0, 0.06, 0.2, 0.65])
def test_cosines_survive(wanted: float) -> None:
    """Cosines of pairs of full size, over 20 seeds: standard error within .02, none off by more than .05."""
    rng = np.random.default_rng(11)
    errors = []
    for seed in range(20):
        x, noise = rng.normal(size=(2, LENGTH))
        noise -= x * (noise @ x) / (x @ x)
        y = wanted * x / np.linalg.norm(x) + math.sqrt(1 - wanted**2) * noise / np.linalg.norm(noise)
        px, py = project(np.stack([x, y]), seed=seed)
        errors.append(cosine(px.astype(np.float64), py.astype(np.float64)) - wanted)
    assert np.sqrt(np.mean(np.square(errors))) < 0.02
    assert np.abs(errors).max() < 0.05


def test_cosines_survive_for_sparse_vectors() -> None:
    """A gradient that lives in a few values only is the hard case for a sparse projection."""
    rng = np.random.default_rng(12)
    errors = []
    for seed in range(40):
        x, y = np.zeros((2, LENGTH))
        x[rng.choice(LENGTH, 300, replace=False)] = rng.normal(size=300)
        y[rng.choice(LENGTH, 300, replace=False)] = rng.normal(size=300)
        errors.append(cosine(project(x, seed=seed), project(y, seed=seed)) - cosine(x, y))
    assert np.sqrt(np.mean(np.square(errors))) < 0.02


def test_inner_products_are_unbiased() -> None:
    """z-test over 4000 seeds, and the variance is what the docstring promises."""
    x, y = np.random.default_rng(13).normal(size=(2, 30))
    products = np.array([np.prod(project(np.stack([x, y]), seed=seed, size=64), axis=0, dtype=np.float64).sum() for seed in range(4000)])
    z = (products.mean() - x @ y) / (products.std() / math.sqrt(len(products)))
    assert abs(z) < 4
    assert products.var() < 1.1 * ((x @ x) * (y @ y) + (x @ y) ** 2) / 64


@settings(max_examples=30)
@given(npst.arrays(np.float32, (2, 50), elements=st.integers(-1000, 1000)), st.integers(0, 2**63 - 1))
def test_linear_and_row_by_row(vectors: NDArray[np.float32], seed: int) -> None:
    first, second = project(vectors, seed=seed, size=64)
    np.testing.assert_array_equal(project(vectors[0], seed=seed, size=64), first)
    np.testing.assert_array_equal(project(vectors[0] - 2 * vectors[1], seed=seed, size=64), first - 2 * second)


def test_seeds_give_different_projections() -> None:
    vector = np.ones(LENGTH)
    assert abs(cosine(project(vector, seed=1), project(vector, seed=2))) < 0.1


def test_zero_stays_zero() -> None:
    np.testing.assert_array_equal(project(np.zeros(10), seed=3), np.zeros(4096))


@pytest.mark.parametrize(
    ("vector", "seed", "size"),
    [
        (np.array([1.0, math.nan]), 0, 64),
        (np.array([math.inf]), 0, 64),
        (np.zeros(0), 0, 64),
        (np.zeros((2, 2, 2)), 0, 64),
        (np.array(["a"]), 0, 64),
        (np.ones(3), -1, 64),
        (np.ones(3), 2**63, 64),
        (np.ones(3), 0, 63),
        (np.ones(3), 0, 0),
        (np.ones(3), 0, 2**21),
    ],
)
def test_refused(vector: NDArray[np.float64], seed: int, size: int) -> None:
    with pytest.raises(AggregationError):
        project(vector, seed=seed, size=size)


def test_cached_tables_cannot_be_changed() -> None:
    places, _ = projection_table(3, 5, 8)
    with pytest.raises(ValueError, match="read-only"):
        places[0, 0] = 1
