"""SGCA's maths: answers computed by hand, properties, and agreement with a general optimiser."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from scipy.optimize import minimize

from fed_backend import sgca
from fed_backend.errors import AggregationError
from sam_adapters.schema import AdapterState
from tests.fed_backend.toys import OTHER_BASE, OTHER_RANK, SCHEMA, toy_state

FloatArray = NDArray[np.float64]
inf = math.inf


def random_problem(seed: int, n: int) -> tuple[FloatArray, FloatArray]:
    """Distances and noise of very different sizes, so that some sites end up wet and some dry."""
    rng = np.random.default_rng(seed)
    half = rng.exponential(1.0, (n, n)) * rng.choice([0.1, 1, 5], (n, n))
    distance = np.triu(half, 1)
    return distance + distance.T, rng.lognormal(0, 1.5, n)


problems = st.builds(random_problem, st.integers(0, 2**32 - 1), st.integers(1, 12))


class TestProbeStatistics:
    def test_by_hand(self) -> None:
        # site 0: <a, b> = 1*1 + 1*(-1) = 0, g = (1, 0), a - b = (0, 2); site 1: <a, b> = 4, g = (2, 0)
        distance, noise = sgca.probe_statistics([[1, 1], [2, 0]], [[1, -1], [2, 0]])
        np.testing.assert_array_equal(noise, [1, 0])  # ‖(0, 2)‖² / 4, 0
        # 0 + 4 - 2 * <(1, 0), (2, 0)> = 0
        np.testing.assert_array_equal(distance, [[0, 0], [0, 0]])

    def test_negative_estimates_become_zero_unless_kept(self) -> None:
        halves = [[1.0, 1.0], [2.0, 0.0], [3.0, 0.0]], [[1.0, -1.0], [2.0, 0.0], [1.0, 0.0]]
        # site 2: <a, b> = 3, g = (2, 0): with site 1 it is 4 + 3 - 2 * 4 = -1, with site 0 it is 0 + 3 - 2 * 2 = -1
        kept, noise = sgca.probe_statistics(*halves, keep_negative=True)
        np.testing.assert_array_equal(kept, [[0, 0, -1], [0, 0, -1], [-1, -1, 0]])
        np.testing.assert_array_equal(noise, [1, 0, 1])
        cut, _ = sgca.probe_statistics(*halves)
        np.testing.assert_array_equal(cut, np.zeros((3, 3)))

    def test_unbiased_over_many_draws(self) -> None:
        """z-test of every mean against the truth: sites 0 and 1 alike, site 2 away, noise of 1, 4 and 0.25 a half."""
        rng = np.random.default_rng(20)
        draws, p = 20_000, 6
        truth = np.array([[0.5] * p, [0.5] * p, [1.0] * p])
        half_variance = np.array([1.0, 4.0, 0.25])
        spread = np.sqrt(half_variance / p)[:, None]
        distances, noises = [], []
        for _ in range(draws):
            a, b = truth + spread * rng.normal(size=(2, 3, p))
            distance, noise = sgca.probe_statistics(a, b, keep_negative=True)
            distances.append(distance[np.triu_indices(3, 1)])
            noises.append(noise)
        estimates = np.hstack([distances, noises])
        expected = [0, p * 0.25, p * 0.25, *half_variance / 2]  # Var of the mean of two halves is half of a half's
        z = (estimates.mean(axis=0) - expected) / (estimates.std(axis=0) / math.sqrt(draws))
        assert np.abs(z).max() < 4
        assert (estimates[:, 0] < 0).mean() > 0.3, "a distance of zero must come out negative about half of the time"

    @given(npst.arrays(np.float32, (2, 4, 3), elements=st.floats(-1e3, 1e3, width=32)), st.permutations(range(4)))
    def test_permuting_sites_permutes_the_result(self, halves: NDArray[np.float32], order: list[int]) -> None:
        distance, noise = sgca.probe_statistics(*halves)
        permuted_distance, permuted_noise = sgca.probe_statistics(*halves[:, order])
        tolerance = 1e-12 * max(1.0, float(np.abs(halves).max()) ** 2)
        np.testing.assert_allclose(permuted_distance, distance[np.ix_(order, order)], atol=tolerance)
        np.testing.assert_array_equal(permuted_noise, noise[order])
        np.testing.assert_array_equal(distance, distance.T)

    def test_identical_sites_have_no_distance(self) -> None:
        half = np.tile(np.random.default_rng(0).normal(size=50), (5, 1))
        distance, noise = sgca.probe_statistics(half, half)
        np.testing.assert_allclose(distance, 0, atol=1e-12)
        np.testing.assert_array_equal(noise, 0)

    def test_zero_gradients(self) -> None:
        distance, noise = sgca.probe_statistics(np.zeros((3, 4)), np.zeros((3, 4)))
        np.testing.assert_array_equal(distance, 0)
        np.testing.assert_allclose(sgca.collaboration_weights(distance, noise), np.full((3, 3), 1 / 3))

    @pytest.mark.parametrize(
        ("a", "b", "message"),
        [
            ([[1.0, math.nan]], [[1.0, 1.0]], r"half_a is not finite in rows \[0\]"),
            ([[1.0, 1.0]], [[inf, 1.0]], r"half_b is not finite"),
            ([[1.0, 1.0]], [[1.0]], "shapes"),
            ([1.0], [1.0], "dimension"),
            (np.zeros((0, 4)), np.zeros((0, 4)), "shapes"),
            ([["a"]], [["b"]], "real numbers"),
        ],
    )
    def test_refused(self, a: object, b: object, message: str) -> None:
        with pytest.raises(AggregationError, match=message):
            sgca.probe_statistics(a, b)  # type: ignore[arg-type]


class TestCollaborationWeights:
    def test_by_hand(self) -> None:
        # ν = 1.5: (1.5 - 0)/2 + (1.5 - 1)/2 = 1
        np.testing.assert_allclose(sgca.collaboration_weights([[0, 1], [1, 0]], [1, 1]), [[0.75, 0.25], [0.25, 0.75]])
        # κ = 2: (ν - 0)/4 + (ν - 1)/4 = 1, ν = 2.5
        np.testing.assert_allclose(sgca.collaboration_weights([[0, 1], [1, 0]], [1, 1], caution=2)[0], [0.625, 0.375])
        # noise 1 and 2: (ν - 0)/2 + (ν - 1)/4 = 1, ν = 5/3; seen from site 1 ν/4 + (ν - 1)/2 = 1, ν = 2
        np.testing.assert_allclose(sgca.collaboration_weights([[0, 1], [1, 0]], [1, 2]), [[5 / 6, 1 / 6], [1 / 2, 1 / 2]])

    @given(problems)
    def test_rows_lie_on_the_simplex(self, problem: tuple[FloatArray, FloatArray]) -> None:
        W = sgca.collaboration_weights(*problem)
        assert (W >= 0).all()
        np.testing.assert_allclose(W.sum(axis=1), 1, rtol=1e-12)

    @given(problems)
    def test_no_distances_give_inverse_variance_weights(self, problem: tuple[FloatArray, FloatArray]) -> None:
        _, noise = problem
        W = sgca.collaboration_weights(np.zeros((len(noise), len(noise))), noise)
        np.testing.assert_allclose(W, np.tile(1 / noise / (1 / noise).sum(), (len(noise), 1)), rtol=1e-9)

    @given(problems)
    def test_growing_caution_tends_to_inverse_variance_weights(self, problem: tuple[FloatArray, FloatArray]) -> None:
        distance, noise = problem
        limit = sgca.inverse_variance_weights(noise)
        gaps = [abs(sgca.collaboration_weights(distance, noise, caution=caution) - limit).max() for caution in (1, 1e2, 1e4, 1e6, 1e200)]
        assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(gaps))
        assert gaps[3] < 1e-3
        assert gaps[4] < 1e-9
        np.testing.assert_array_equal(sgca.collaboration_weights(distance, noise, caution=inf), np.tile(limit, (len(noise), 1)))

    def test_a_far_site_gets_nothing_and_gives_nothing(self) -> None:
        D = np.array([[0, 0.1, 50], [0.1, 0, 50], [50, 50, 0]])
        W = sgca.collaboration_weights(D, [1, 1, 1])
        assert W[0, 2] == W[1, 2] == W[2, 0] == W[2, 1] == 0
        assert W[2, 2] == 1
        assert W[0, 1] > 0.4

    @given(problems, st.randoms(use_true_random=False))
    def test_permuting_sites_permutes_rows_and_columns(self, problem: tuple[FloatArray, FloatArray], random: object) -> None:
        distance, noise = problem
        order = np.random.default_rng(random.getrandbits(32)).permutation(len(noise))  # type: ignore[attr-defined]
        W = sgca.collaboration_weights(distance, noise)
        permuted = sgca.collaboration_weights(distance[np.ix_(order, order)], noise[order])
        np.testing.assert_allclose(permuted, W[np.ix_(order, order)], atol=1e-12)

    @given(problems, st.floats(1e-3, 1e3))
    def test_units_of_the_gradient_do_not_matter(self, problem: tuple[FloatArray, FloatArray], unit: float) -> None:
        distance, noise = problem
        np.testing.assert_allclose(
            sgca.collaboration_weights(unit * distance, unit * noise), sgca.collaboration_weights(distance, noise), atol=1e-9
        )

    @given(problems, st.floats(0.05, 20))
    def test_optimality_conditions(self, problem: tuple[FloatArray, FloatArray], caution: float) -> None:
        """The gradient D_j + 2 κ v_j w_j is one number ν on the wet sites, and not below it on the dry ones."""
        distance, noise = problem
        W = sgca.collaboration_weights(distance, noise, caution=caution)
        for row, weights in zip(distance, W, strict=True):
            gradient = row + 2 * caution * noise * weights
            level = gradient[weights > 0].mean()
            tolerance = 1e-8 * (1 + level)
            np.testing.assert_allclose(gradient[weights > 0], level, atol=tolerance)
            assert (gradient[weights == 0] >= level - tolerance).all()

    @pytest.mark.parametrize("seed", range(12))
    def test_agrees_with_a_general_optimiser(self, seed: int) -> None:
        n = 2 + seed % 6
        distance, noise = random_problem(seed, n)
        caution = float(np.random.default_rng(seed + 100).uniform(0.2, 4))
        W = sgca.collaboration_weights(distance, noise, caution=caution)
        for i in range(n):

            def objective(w: FloatArray, row: FloatArray = distance[i]) -> float:
                return float(w @ row + caution * (w**2) @ noise)

            found = minimize(
                objective,
                np.full(n, 1 / n),
                method="SLSQP",
                bounds=[(0, 1)] * n,
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
                options={"maxiter": 500, "ftol": 1e-12},
            )
            assert found.success
            assert objective(W[i]) <= found.fun + 1e-9
            np.testing.assert_allclose(W[i], found.x, atol=2e-4)

    def test_one_site(self) -> None:
        np.testing.assert_array_equal(sgca.collaboration_weights([[0]], [2.0]), [[1]])
        np.testing.assert_array_equal(sgca.collaboration_weights([[0]], [0.0]), [[1]])
        np.testing.assert_array_equal(sgca.collaboration_weights([[0]], [inf]), [[1]])

    def test_no_noise_caps_the_level(self) -> None:
        # Site 1 has no noise and lies at 1 from site 0: ν_0 = 1, so w_00 = 1/4 with v_0 = 2 and site 1 takes what is left.
        W = sgca.collaboration_weights([[0, 1], [1, 0]], [2, 0])
        np.testing.assert_allclose(W, [[0.25, 0.75], [0, 1]])
        # Two without noise at the same distance share equally; a further one without noise gets nothing.
        W = sgca.collaboration_weights([[0, 1, 1, 2], [1, 0, 1, 1], [1, 1, 0, 1], [2, 1, 1, 0]], [2, 0, 0, 0])
        np.testing.assert_allclose(W[0], [0.25, 0.375, 0.375, 0])

    @given(problems, st.data())
    def test_vanishing_noise_tends_to_no_noise(self, problem: tuple[FloatArray, FloatArray], data: st.DataObject) -> None:
        distance, noise = problem
        index = data.draw(st.integers(0, len(noise) - 1))
        noise[index] = 0
        exact = sgca.collaboration_weights(distance, noise)
        for small in (1e-9, 1e-200):
            noise[index] = small
            np.testing.assert_allclose(sgca.collaboration_weights(distance, noise), exact, atol=1e-6)

    def test_infinite_noise_gives_nothing(self) -> None:
        W = sgca.collaboration_weights([[0, 1, 9], [1, 0, 9], [9, 9, 0]], [1, 1, inf])
        np.testing.assert_allclose(W[:2], [[0.75, 0.25, 0], [0.25, 0.75, 0]])
        np.testing.assert_allclose(W[2], [0.5, 0.5, 0])  # itself worth nothing, and equally far from the others
        np.testing.assert_allclose(sgca.collaboration_weights(np.ones((4, 4)), [inf] * 4), np.full((4, 4), 0.25))

    def test_infinite_distance_is_out_of_reach(self) -> None:
        D = [[0, 1, inf], [1, 0, inf], [inf, inf, 0]]
        np.testing.assert_allclose(sgca.collaboration_weights(D, [1, 1, 1]), [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]])
        np.testing.assert_array_equal(sgca.collaboration_weights(D, [1, 1, inf])[2], [0, 0, 1])

    def test_no_caution_leaves_the_nearest(self) -> None:
        W = sgca.collaboration_weights([[0, 1, 0], [1, 0, 2], [0, 2, 0]], [1, 5, 3], caution=0)
        np.testing.assert_allclose(W, [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]])

    @pytest.mark.parametrize("far", [1e12, 1e200, 1.7e308])
    @pytest.mark.parametrize("tiny", [1.0, 1e-150, 1e-300, 5e-324])
    def test_one_absurd_site_does_not_disturb_the_others(self, far: float, tiny: float) -> None:
        D = np.array([[0, 1, far], [1, 0, far], [far, far, 0]])
        W = sgca.collaboration_weights(D, [1, 1, tiny])
        np.testing.assert_allclose(W, [[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0, 1]], atol=1e-12)
        noisy = sgca.collaboration_weights(np.zeros((3, 3)), [1, 2, far])
        np.testing.assert_allclose(noisy[0], [2 / 3, 1 / 3, 0], atol=1e-11)

    @pytest.mark.parametrize(
        ("distance", "noise", "caution", "message"),
        [
            ([[0, math.nan], [1, 0]], [1, 1], 1, "distance is NaN"),
            ([[0, 1], [1, 0]], [1, math.nan], 1, "noise"),
            ([[0, 1], [1, 0]], [1, -1], 1, "noise"),
            ([[0, 1], [1, 0]], [1, 1], -1, "caution"),
            ([[0, 1], [1, 0]], [1, 1], math.nan, "caution"),
            ([[0, 1], [1, 0]], [1, 1, 1], 1, "shape"),
            (np.zeros((0, 0)), [], 1, "n >= 1"),
        ],
    )
    def test_refused(self, distance: object, noise: object, caution: float, message: str) -> None:
        with pytest.raises(AggregationError, match=message):
            sgca.collaboration_weights(distance, noise, caution=caution)  # type: ignore[arg-type]

    def test_arguments_are_left_alone(self) -> None:
        distance, noise = np.array([[3.0, -1.0], [-1.0, 3.0]]), np.array([1.0, 1.0])
        np.testing.assert_allclose(sgca.collaboration_weights(distance, noise), np.full((2, 2), 0.5))
        np.testing.assert_array_equal(distance, [[3, -1], [-1, 3]])


class TestInverseVarianceWeights:
    @pytest.mark.parametrize(
        ("noise", "expected"),
        [
            ([1, 3], [0.75, 0.25]),
            ([1, inf], [1, 0]),
            ([0, 1, 0], [0.5, 0, 0.5]),
            ([inf, inf], [0.5, 0.5]),
            ([1e-300, 2e-300, 1e300], [2 / 3, 1 / 3, 0]),
        ],
    )
    def test_by_hand(self, noise: list[float], expected: list[float]) -> None:
        np.testing.assert_allclose(sgca.inverse_variance_weights(noise), expected, atol=1e-12)

    def test_refused(self) -> None:
        with pytest.raises(AggregationError, match="at least one"):
            sgca.inverse_variance_weights([])


class TestMix:
    def test_by_hand(self) -> None:
        states = [toy_state([1, 2, 3, 4, 5, 6]), toy_state([3, 2, 1, 0, -1, -2])]
        half, first = sgca.mix(states, [[0.5, 0.5], [1, 0]])
        np.testing.assert_array_equal(half.to_vector(), [2, 2, 2, 2, 2, 2])
        np.testing.assert_array_equal(first.to_vector(), [1, 2, 3, 4, 5, 6])
        assert half.schema == SCHEMA

    @given(npst.arrays(np.float32, 6, elements=st.floats(-100, 100, width=32)), problems)
    def test_mixing_equals_gives_the_same(self, values: NDArray[np.float32], problem: tuple[FloatArray, FloatArray]) -> None:
        state = AdapterState.from_vector(SCHEMA, values)
        for mixture in sgca.mix([state] * len(problem[1]), sgca.collaboration_weights(*problem)):
            np.testing.assert_allclose(mixture.to_vector(), values, rtol=1e-6, atol=1e-30)

    @pytest.mark.parametrize("weights", [[[0.5, 0.4]], [[1.5, -0.5]], [[math.nan, 1]], [[1.0]], [1.0, 0.0]])
    def test_weights_off_the_simplex_are_refused(self, weights: object) -> None:
        with pytest.raises(AggregationError, match="weights"):
            sgca.mix([toy_state(1), toy_state(2)], weights)  # type: ignore[arg-type]

    def test_states_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(AggregationError, match="State 1 of 2"):
            sgca.mix([toy_state(1), toy_state(1, OTHER_RANK)], [[0.5, 0.5]])
        with pytest.raises(AggregationError, match="not finite"):
            sgca.mix([toy_state(math.nan)], [[1]])
        with pytest.raises(AggregationError, match="at least one"):
            sgca.mix([], [[1]])


class TestCommonState:
    def test_precision_weighted(self) -> None:
        state = sgca.common_state([toy_state(0), toy_state(4)], [3, 1])
        np.testing.assert_array_equal(state.to_vector(), np.ones(6))

    def test_no_precision_at_all_is_the_plain_mean(self) -> None:
        np.testing.assert_array_equal(sgca.common_state([toy_state(0), toy_state(4)], [0, 0]).to_vector(), np.full(6, 2))

    def test_any_scale(self) -> None:
        for scale in (1e-300, 1e300):
            np.testing.assert_allclose(sgca.common_state([toy_state(0), toy_state(4)], [3 * scale, scale]).to_vector(), 1)

    @pytest.mark.parametrize("precision", [[1], [1, -1], [1, math.nan], [1, inf]])
    def test_refused(self, precision: list[float]) -> None:
        with pytest.raises(AggregationError, match="precision"):
            sgca.common_state([toy_state(0), toy_state(4)], precision)


class TestNoise:
    def test_floor_by_hand(self) -> None:
        # v n = 10, 20, 1 (median 10): the third claims less noise than 100 cases allow, its floor is 10 / 100
        np.testing.assert_allclose(sgca.floor_and_age_noise([1, 2, 0.01], [10, 10, 100], [0, 0, 0]), [1, 2, 0.1])

    def test_age_by_hand(self) -> None:
        np.testing.assert_allclose(sgca.floor_and_age_noise([1, 1], [5, 5], [0, 2]), [1, 1 / 0.81])

    def test_sites_that_give_nothing(self) -> None:
        np.testing.assert_allclose(sgca.floor_and_age_noise([1, 2, inf], [10, 0, 10], [0, 0, 0]), [1, inf, inf])
        np.testing.assert_array_equal(sgca.floor_and_age_noise([], [], []), [])

    def test_no_noise_anywhere_stays_none_at_any_age(self) -> None:
        np.testing.assert_array_equal(sgca.floor_and_age_noise([0, 0], [1, 1], [0, 1e6]), [0, 0])

    def test_claiming_certainty_gains_nothing(self) -> None:
        honest = sgca.floor_and_age_noise([1, 1, 1, 1], [20] * 4, [0] * 4)
        claimed = sgca.floor_and_age_noise([0, 1, 1, 1], [20] * 4, [0] * 4)
        np.testing.assert_array_equal(claimed, honest)

    @pytest.mark.parametrize(
        "arguments", [([math.nan], [1], [0]), ([-1], [1], [0]), ([1], [-1], [0]), ([1], [1], [-1]), ([1], [1, 2], [0]), ([1], [inf], [0])]
    )
    def test_refused(self, arguments: tuple[list[float], list[float], list[float]]) -> None:
        with pytest.raises(AggregationError):
            sgca.floor_and_age_noise(*arguments)


class TestClip:
    def test_by_hand(self) -> None:
        # norms 3, 4, 5, 20 times sqrt(6): median 4.5, limit 6.75
        result = sgca.clip_to_median([toy_state(value) for value in (3, 4, 5, -20)])
        np.testing.assert_allclose(result.limit, 6.75 * math.sqrt(6))
        np.testing.assert_allclose(result.scales, [1, 1, 1, 6.75 / 20])
        np.testing.assert_allclose(result.states[3].to_vector(), -6.75, rtol=1e-6)
        assert [float(state.to_vector()[0]) for state in result.states[:3]] == [3, 4, 5]

    def test_sites_that_have_not_tuned_do_not_pull_the_limit_down(self) -> None:
        result = sgca.clip_to_median([toy_state(0), toy_state(0), toy_state(0), toy_state(2)])
        np.testing.assert_array_equal(result.scales, 1)

    def test_nothing_to_clip(self) -> None:
        assert sgca.clip_to_median([toy_state(7)]).scales.tolist() == [1]
        assert sgca.clip_to_median([toy_state(0), toy_state(0)]).scales.tolist() == [1, 1]

    def test_largest_floats(self) -> None:
        result = sgca.clip_to_median([toy_state(1), toy_state(1), toy_state(3e38)])
        np.testing.assert_allclose(result.states[2].to_vector(), 1.5, rtol=1e-6)

    def test_refused(self) -> None:
        with pytest.raises(AggregationError, match="not finite"):
            sgca.clip_to_median([toy_state(1), toy_state(inf)])
        with pytest.raises(AggregationError, match="factor"):
            sgca.clip_to_median([toy_state(1)], factor=0)


def test_check_state_says_why() -> None:
    assert sgca.check_state(toy_state(1), SCHEMA) is None
    assert "base cdcdcdcdcdcdcdcd" in str(sgca.check_state(toy_state(1, OTHER_BASE), SCHEMA))
    assert "rank 1" in str(sgca.check_state(toy_state(1, OTHER_RANK), SCHEMA))
    assert "1 of 2 values of block.1.B are not finite" in str(sgca.check_state(toy_state([1, 2, 3, 4, 5, math.nan]), SCHEMA))
