"""The checks, by hand: what each refuses and what it lets pass."""

import numpy as np
import pytest

from fed_backend import plausibility
from fed_backend.plausibility import Evidence, Halves
from tests.fed_backend.toys import FULL_SIZE, toy_state

nan = float("nan")


def test_zeros_with_cases_are_refused_and_zeros_of_a_newcomer_are_not() -> None:
    assert "40 cases" in (plausibility.check_empty(40, 0.0) or "")
    assert plausibility.check_empty(0, 0.0) is None
    assert plausibility.check_empty(40, 0.1) is None


def test_a_norm_is_compared_with_the_median_of_the_others() -> None:
    # others of D: 1, 2, 3, median 2: refused above 12
    assert set(plausibility.check_norms({"A": 1, "B": 2, "C": 3, "D": 12.1})) == {"D"}
    assert plausibility.check_norms({"A": 1, "B": 2, "C": 3, "D": 12.0}) == {}
    assert plausibility.check_norms({"A": 1, "B": 100}) == {}, "one other site is no majority"
    assert plausibility.check_norms({"A": 1, "B": 0, "C": 0, "D": 100}) == {}, "zeros count for nothing"


def test_the_same_adapters_of_two_sites_are_refused_at_both() -> None:
    rng = np.random.default_rng(0)
    one, other = (plausibility.memory_of(toy_state(rng.normal(size=FULL_SIZE.size), FULL_SIZE)) for _ in range(2))
    assert set(plausibility.check_copies({"A": one, "B": one, "C": other}, {})) == {"A", "B"}
    assert plausibility.check_copies({"A": one, "B": one}, {"A": [other, one], "B": [one, other]}) == {}, (
        "both send back what they were sent"
    )
    assert plausibility.check_copies({"A": one, "C": other}, {}) == {}


def test_adapters_are_recognised_after_rounding_to_16_bits() -> None:
    values = np.random.default_rng(1).normal(0, 0.01, FULL_SIZE.size)
    memory = plausibility.memory_of(toy_state(values, FULL_SIZE))
    assert plausibility.is_same(memory, plausibility.memory_of(toy_state(values.astype(np.float16), FULL_SIZE)))
    assert not plausibility.is_same(memory, plausibility.memory_of(toy_state(1.01 * values, FULL_SIZE)))


def halves(a: np.ndarray, b: np.ndarray) -> Halves:
    return Halves(a, b, np.zeros(len(a)))


def test_halves() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 0.4 / 64, (2, 4096))
    assert plausibility.check_halves(halves(a, b)) is None
    assert "the same" in (plausibility.check_halves(halves(a, a + 0.01 * b)) or "")
    assert "norm" in (plausibility.check_halves(halves(4 * a, b)) or "")
    assert plausibility.check_halves(halves(4 * a, b), is_noised=True) is None
    assert "zero" in (plausibility.check_halves(halves(a, 0 * b)) or "")


def equal_weights(names: str) -> dict[str, dict[str, float]]:
    return {receiver: {giver: 1 / len(names) for giver in names} for receiver in names}


def test_a_minority_that_agrees_with_itself_has_no_agreement() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(size=4096)
    sketches = {name: common + rng.normal(size=4096) for name in "ABCDEF"} | dict.fromkeys("XY", rng.normal(size=4096))
    found = plausibility.agreement_with_hearers(sketches, equal_weights("ABCDEFXY"))
    assert all(found[name] == pytest.approx(0.5, abs=0.06) for name in "ABCDEF")
    assert all(abs(found[name]) < 0.06 for name in "XY")
    assert np.isnan(plausibility.agreement_with_hearers({name: sketches[name] for name in "ABC"}, equal_weights("ABC"))["A"])


def test_who_is_heard_by_nobody_is_not_asked_to_agree_and_groups_are_asked_about_their_own() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 4096))
    sketches = {name: first + rng.normal(size=4096) for name in "ABC"} | {name: second + rng.normal(size=4096) for name in "DEF"}
    sketches["odd"] = rng.normal(size=4096)
    weights = equal_weights("ABC") | equal_weights("DEF") | {"odd": {"odd": 1.0}}
    weights["A"]["odd"] = 0.02  # less than a fifth of an equal share
    found = plausibility.agreement_with_hearers(sketches, weights)
    assert np.isnan(found.pop("odd"))
    assert all(value == pytest.approx(0.5, abs=0.06) for value in found.values())


def test_the_usual_agreement_is_that_of_the_others() -> None:
    found = {"A": 0.1, "B": 0.3, "C": 0.2, "D": -0.5, "E": nan}
    assert plausibility.usual_agreement(found, "D") == pytest.approx(0.2)
    assert plausibility.usual_agreement(found, "B") == pytest.approx(0.1)
    assert np.isnan(plausibility.usual_agreement({"A": 0.1, "B": nan, "C": 0.2}, "A"))


def test_agreement_with_the_own_probe_by_hand() -> None:
    # gradient (1, 0); from the base (-1, 1): cos -0.71; from the common state (-2, 0): (1, 1), cos +0.71
    one = Halves(np.array([1.0, 0.5]), np.array([1.0, -0.5]), np.array([-2.0, 0.0]))
    gradient, against = plausibility.agreement_with_probe(np.array([-1.0, 1.0]), one)
    assert (gradient, against) == (pytest.approx(-(0.5**0.5)), pytest.approx(0.5**0.5))


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence(0.2, 0.5, -0.1, -0.05, 0.8), None),
        (Evidence(0.2, 0.5, 0.07, 0.1, nan), None),  # seen on real images: only the others speak for it
        (Evidence(0.0, 0.5, -0.1, 0.0, nan), None),  # only its own gradient does
        (Evidence(0.0, 0.5, 0.0, 0.0, 0.8), None),  # only its own past does
        (Evidence(nan, 0.5, 0.1, 0.1, nan), None),  # too few others
        (Evidence(0.0, 0.5, nan, nan, nan), None),  # a first update without a probe
        (Evidence(0.0, 0.06, 0.01, 0.02, nan), None),  # seen on real images tuned for one step: nobody agrees with anybody yet
        (Evidence(0.0, nan, 0.01, 0.02, nan), None),  # whether the others agree is not known
        (Evidence(0.0, 0.5, 0.01, 0.02, nan), "agrees with nothing"),
        (Evidence(-0.2, 0.5, nan, nan, 0.1), "agrees with nothing"),
        (Evidence(0.3, 0.5, 0.2, 0.5, 0.9), "works against its own probe"),
    ],
)
def test_one_thing_that_speaks_for_an_update_is_enough(evidence: Evidence, said: str | None) -> None:
    reason = plausibility.check_evidence(evidence, 4096)
    assert reason is None if said is None else said in (reason or "")


def test_a_short_projection_is_believed_less() -> None:
    assert plausibility.check_evidence(Evidence(0.2, 0.5, 0.1, 0.4, 0.5), 4096)
    assert plausibility.check_evidence(Evidence(0.2, 0.5, 0.1, 0.4, 0.5), 64) is None
