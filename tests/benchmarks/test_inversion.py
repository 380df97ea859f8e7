"""The measurement of what gradients tell: its parts on numbers worked out by hand, and its attack where it must succeed."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.inversion import site
from benchmarks.inversion.control import Perceptron, read_off
from benchmarks.inversion.identification import identified, mean_of, one_by_one, together
from benchmarks.inversion.kept import Kept
from benchmarks.inversion.likeness import likeness, psnr, ssim
from benchmarks.inversion.pictures import Prior
from benchmarks.inversion.solver import search, solve
from benchmarks.inversion.views import views


def test_psnr_and_ssim_of_known_pictures() -> None:
    picture = np.random.default_rng(0).uniform(size=(16, 16))
    assert psnr(picture, picture + 0.1) == pytest.approx(20)  # 10 log10(1 / 0.01)
    assert psnr(picture, picture) == math.inf
    assert ssim(picture, picture) == pytest.approx(1)
    assert ssim(picture, 1 - picture) < 0
    # two flat pictures: (2 · 0 · 1 + C1) / (0 + 1 + C1)
    assert ssim(np.zeros((16, 16)), np.ones((16, 16))) == pytest.approx(1e-4 / (1 + 1e-4))
    assert likeness(np.full((16, 16), 7.0), np.ones((16, 16))) == {"psnr": math.inf, "ssim": 1.0}


def test_identification_counts_members_by_hand() -> None:
    result = identified(np.array([0.9, 0.1, 0.5, 0.4]), [0, 3])
    assert (result.first, result.found, result.auc) == (1, 0.5, 0.75)  # 0.4 is above 0.1 and below 0.5; 0.9 above both
    assert identified(np.zeros(3), [1]).auc == 0.5
    assert mean_of([result, identified(np.array([0.0, 1.0]), [0])]) == {"first": 0.5, "found": 0.25, "auc": 0.375, "trials": 2}


def test_all_together_finds_members_that_hide_among_likes() -> None:
    """The third candidate looks like the sum of the first two more than either does; only the joint fit tells it from them."""
    candidates = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.7, 0.7, 0.1]])
    seen = (candidates[0] + candidates[1]) / 2
    gram, products = candidates @ candidates.T, candidates @ seen
    assert identified(one_by_one(gram, products), [0, 1]).first == 0
    weights = together(gram, products, 1e-6)
    assert weights == pytest.approx([0.5, 0.5, 0], abs=1e-2)
    assert identified(weights, [0, 1]).found == 1


def test_the_solver_finds_what_a_smooth_function_hides_and_respects_its_bound() -> None:
    rng = np.random.default_rng(0)
    straight, bent, hidden = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)), rng.normal(size=6)
    calls = []

    def f(z: np.ndarray) -> np.ndarray:
        calls.append(z)
        return np.asarray(straight @ z + 0.3 * np.sin(bent @ z))

    seen = f(hidden)
    calls.clear()
    solution = solve(f, seen, np.zeros(6), calls=200)
    assert np.abs(solution.z - hidden).max() < 1e-3
    assert len(calls) == solution.calls <= 200
    drowned = solve(f, seen + 1e3 * rng.normal(size=40), np.zeros(6), calls=200, noise=1e3)
    assert np.abs(drowned.z).max() < 0.5  # so much noise leaves the prior


def test_the_search_gets_past_jumps() -> None:
    hidden = np.array([1.0, -0.5, 0.3])

    def jumps(z: np.ndarray) -> np.ndarray:
        return np.asarray(np.round(8 * np.concatenate([z, z[::-1] + 1])) / 8)

    solution = search(jumps, jumps(hidden), 3, calls=601, seed=0)
    assert solution.calls <= 601
    assert np.abs(solution.z - hidden).max() < 0.2


def test_the_prior_shows_its_own_pictures() -> None:
    rng = np.random.default_rng(0)
    pictures = (0.5 + rng.normal(size=(50, 3)) @ rng.normal(size=(3, 64))).astype(np.float32)
    prior = Prior.of(pictures, 3)
    z = prior.coefficients(pictures[7])
    assert prior.picture(z) == pytest.approx(pictures[7], abs=1e-4)
    every = np.stack([prior.coefficients(row) for row in pictures])
    assert every.std(axis=0, ddof=1) == pytest.approx([1, 1, 1], abs=1e-3)


def test_the_attack_succeeds_on_a_perceptron_also_when_projected_and_fails_under_noise() -> None:
    """The positive control of the benchmark, at 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    j, i = np.mgrid[:16, :16] / 16
    waves = np.stack([np.cos(np.pi * (a * j + b * i)).ravel() for a in range(3) for b in range(3)])[1:]
    pictures = (0.5 + 0.05 * rng.normal(size=(60, 8)) @ waves).astype(np.float32)
    prior, true = Prior.of(pictures[1:], 8), pictures[0].astype(np.float64)
    network = Perceptron((np.hypot(j - 0.5, i - 0.5) < 0.3).astype(np.float32))
    raw = network.gradient(true)
    assert psnr(read_off(raw), true) > 100
    view = views(1000)["projected"]
    seen = view.of(raw)[0]
    found = solve(lambda z: view.of(network.gradient(prior.picture(z)))[0], seen, np.zeros(8), calls=100)
    noise = 2.8 * rng.normal(size=seen.shape)
    drowned = solve(lambda z: view.of(network.gradient(prior.picture(z)))[0], seen + noise, np.zeros(8), calls=100, noise=2.8)
    assert psnr(prior.picture(found.z), true) > 40
    assert psnr(prior.picture(drowned.z), true) < psnr(prior.mean, true) + 3


def test_kept_arrays_are_computed_once(tmp_path: Path) -> None:
    computed = []

    def row(number: int) -> np.ndarray:
        computed.append(number)
        return np.full(3, number, np.float64)

    assert Kept(tmp_path).rows("a", 2, row).tolist() == [[0, 0, 0], [1, 1, 1]]
    assert Kept(tmp_path).rows("a", 3, row).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert computed == [0, 1, 2]


@pytest.mark.parametrize(("depth", "values"), [(site.FIRST_BLOCKS, 52_992), (site.ALL_BLOCKS, 133_632)])
def test_what_is_attacked_is_the_encoder_whatever_federations_share(depth: float, values: int) -> None:
    assert site.network(64, depth).schema.size == values
