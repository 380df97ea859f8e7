"""Clipping, noise, whose rule holds, and ε against the formula."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_backend.errors import PrivacyError
from fed_backend.privacy import PrivacyRule, clipped, gaussian, noised, read_rule, rule_from, stricter
from fed_backend.privacy_accounting import epsilon_of

RULE = PrivacyRule(clip=0.5, noise=2.0, epsilon=4.0)
rules = st.builds(
    PrivacyRule,
    clip=st.floats(1e-3, 1e3),
    noise=st.floats(1e-3, 1e3),
    epsilon=st.floats(1e-3, 1e3),
    delta=st.floats(1e-9, 0.5),
    probe=st.booleans(),
)


def test_a_long_vector_is_scaled_to_the_bound_and_a_short_one_stays() -> None:
    np.testing.assert_allclose(clipped(np.array([3.0, 4.0]), 1.0), [0.6, 0.8])
    np.testing.assert_array_equal(clipped(np.array([3.0, 4.0]), 5.0), [3.0, 4.0])
    np.testing.assert_array_equal(clipped(np.zeros(3), 1.0), np.zeros(3))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(1e-3, 1e3))
def test_no_norm_is_above_the_bound(values: list[float], bound: float) -> None:
    assert float(np.linalg.norm(clipped(np.array(values), bound))) <= bound


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_do_not_leave(bad: float) -> None:
    with pytest.raises(PrivacyError, match="not finite"):
        noised(np.array([1.0, bad]), 1.0, 1.0)


def test_noise_has_its_standard_deviation_and_is_fresh() -> None:
    size = 100_000
    first, second = gaussian(size, 3.0), gaussian(size, 3.0)
    for numbers in (first, second):
        assert numbers.std() == pytest.approx(3.0, rel=0.02)  # standard error 0.2 %
        assert abs(numbers.mean()) < 0.06  # six standard errors
        assert np.mean(np.abs(numbers) < 3.0) == pytest.approx(0.6827, abs=0.01)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_the_smallest_and_largest_random_bits_are_finite() -> None:
    for byte in (b"\x00", b"\xff"):
        assert np.isfinite(gaussian(5, 1.0, lambda count, byte=byte: byte * count)).all()


def test_the_update_is_in_the_middle_of_its_noise() -> None:
    vector = np.full(10_000, 0.1)  # norm 10, scaled to 1: values 0.01
    released = noised(vector, 1.0, 0.005)
    assert released.dtype == np.float32
    assert (released - 0.01).std() == pytest.approx(2 * 1.0 * 0.005, rel=0.05)
    assert released.mean() == pytest.approx(0.01, abs=6e-4)


def _no_randomness(count: int) -> bytes:
    raise OSError("no entropy")


def test_without_randomness_nothing_leaves() -> None:
    with pytest.raises(PrivacyError, match="no randomness"):
        noised(np.ones(3), 1.0, 1.0, _no_randomness)
    with pytest.raises(PrivacyError, match="31 of 32 random bytes"):
        noised(np.ones(3), 1.0, 1.0, lambda count: b"x" * (count - 1))


@given(rules, rules)
def test_the_stricter_of_two_rules_loosens_neither(one: PrivacyRule, other: PrivacyRule) -> None:
    both = stricter(one, other)
    assert both is not None
    assert both == stricter(other, one)
    for rule in (one, other):
        assert both.clip <= rule.clip
        assert both.noise >= rule.noise
        assert both.epsilon <= rule.epsilon
        assert both.delta <= rule.delta
        assert rule.probe or not both.probe


def test_one_rule_alone_holds() -> None:
    assert stricter(RULE, None) == stricter(None, RULE) == RULE
    assert stricter(None, None) is None


def test_the_price_is_said_in_a_sentence() -> None:
    """By hand: σ is 2 · clip · noise, and the noise's norm σ · √n, with n = 10,000 a hundred times σ."""
    rule = PrivacyRule(clip=4.0, noise=0.001, epsilon=1.0)  # noise of norm 0.8
    assert rule.price(10_000) == "updates leave with norm 4 at most, and noise of norm 0.8 is added in 10,000 values."
    assert rule.price(10_000, 8.25) == "an update of norm 8.25 leaves scaled down to 4, and noise of norm 0.8 is added in 10,000 values."
    assert rule.price(10_000, 1.5) == "an update of norm 1.5 leaves unscaled, and noise of norm 0.8 is added in 10,000 values."
    assert "mostly noise leaves" in rule.price(10_000, 0.5)
    assert "mostly noise leaves" in PrivacyRule(clip=0.25, noise=2.0, epsilon=8.0).price(175_616)
    assert "noise of norm 419 " in PrivacyRule(clip=0.25, noise=2.0, epsilon=8.0).price(175_616)


def test_zeros_are_all_noise() -> None:
    assert "an update of norm 0 leaves unscaled" in RULE.price(9, 0.0)
    assert "mostly noise leaves" in RULE.price(9, 0.0)


@pytest.mark.parametrize("key", ["clip", "noise", "epsilon", "delta", "probe"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", None, [1]])
def test_a_value_that_cannot_be_used_is_named(key: str, value: object) -> None:
    with pytest.raises(PrivacyError, match=f"{key} is"):
        rule_from({"clip": 1.0, "noise": 1.0, "epsilon": 1.0, key: value}, "privacy.json")


def test_a_rule_file_is_read_and_a_broken_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    assert read_rule(path) is None
    path.write_text(json.dumps({"clip": 0.5, "noise": 2.0, "epsilon": 4.0}), encoding="utf-8")
    assert read_rule(path) == RULE
    for text, said in (("{", "cannot be read"), ("[]", "holds a list"), ('{"clip": 1}', "lacks epsilon, noise"), ('{"klip": 1}', "klip")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(PrivacyError, match=said):
            read_rule(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PrivacyError, match="cannot be read"):
        read_rule(path)


def rdp_epsilon(multipliers: list[float], delta: float) -> float:
    """ε by the formulas alone: RDP of Gaussians α/(2z²) added up (Mironov 2017, proposition 7), turned into (ε, δ) as in Canonne, Kamath &
    Steinke 2020, proposition 12, at the best of many orders α."""
    orders = np.concatenate([1 + np.arange(1, 1000) / 100, np.arange(11, 2000)])
    rdp = orders * sum(1 / (2 * z**2) for z in multipliers)
    return float(np.min(rdp + np.log1p(-1 / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)))


@pytest.mark.parametrize("multipliers", [[1.0], [2.0] * 10, [1.0, 2.0, 4.0], [10.0] * 365])
def test_epsilon_is_that_of_the_formula(multipliers: list[float]) -> None:
    assert epsilon_of(multipliers, 1e-5) == pytest.approx(rdp_epsilon(multipliers, 1e-5), rel=0.02)


def test_no_release_costs_nothing_and_a_bad_one_is_an_error() -> None:
    assert epsilon_of([], 1e-5) == 0.0
    for multipliers, delta in (([0.0], 1e-5), ([math.nan], 1e-5), ([1.0], 0.0)):
        with pytest.raises(PrivacyError, match="cannot work with this ledger"):
            epsilon_of(multipliers, delta)
