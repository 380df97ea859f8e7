"""The rule on sites whose truth is known: as good as FedAvg where sites are alike, far better where not, and nobody is worse off."""

import numpy as np
import pytest

from benchmarks.sgca_simulation import APART, SETTINGS, FloatArray, simulate

SEEDS = 24


@pytest.fixture(scope="module")
def errors() -> dict[str, dict[str, FloatArray]]:
    """Squared errors (seeds, sites) by setting and strategy."""
    return {setting: simulate(gap, SEEDS) for setting, gap in SETTINGS.items()}


RULES = pytest.mark.parametrize("rule", ["SGCA", "SGCA, unit norm"])


@RULES
def test_as_good_as_fedavg_without_differences(errors: dict[str, dict[str, FloatArray]], rule: str) -> None:
    none = errors["none"]
    assert none[rule].mean() < 1.2 * none["FedAvg"].mean()
    assert none[rule].mean() < 0.06 * none["local"].mean()


@RULES
def test_far_better_with_differences(errors: dict[str, dict[str, FloatArray]], rule: str) -> None:
    assert errors["weak"][rule].mean() < 0.7 * errors["weak"]["FedAvg"].mean()
    assert errors["moderate"][rule].mean() < 0.06 * errors["moderate"]["FedAvg"].mean()
    assert errors["strong"][rule].mean() < 0.015 * errors["strong"]["FedAvg"].mean()


@RULES
@pytest.mark.parametrize("setting", ["weak", "moderate", "strong"])
def test_nearly_as_good_as_knowing_the_groups(errors: dict[str, dict[str, FloatArray]], rule: str, setting: str) -> None:
    assert errors[setting][rule].mean() < 1.15 * errors[setting]["own group known"].mean()


@RULES
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_site_is_worse_than_alone(errors: dict[str, dict[str, FloatArray]], rule: str, setting: str) -> None:
    """In expectation: for every site the mean gain over seeds is positive by more than three of its standard errors."""
    gain = errors[setting]["local"] - errors[setting][rule]
    assert (gain.mean(axis=0) > 3 * gain.std(axis=0) / np.sqrt(SEEDS)).all()


@RULES
@pytest.mark.parametrize("gap", SETTINGS.values())
def test_no_site_is_worse_than_alone_where_distances_are_hard_to_measure(gap: float, rule: str) -> None:
    draws = simulate(gap, 60, dimension=16)
    assert (draws[rule].mean(axis=0) < draws["local"].mean(axis=0)).all()


@pytest.mark.parametrize("gap", [SETTINGS["weak"], SETTINGS["moderate"], SETTINGS["strong"]])
def test_where_all_sites_are_unlike_none_is_worse_than_alone_and_the_tighter_bound_would_gain_more(gap: float) -> None:
    errors = simulate(gap, SEEDS, groups=APART)
    assert (errors["SGCA"].mean(axis=0) < 1.001 * errors["local"].mean(axis=0)).all()
    assert errors["tighter bound"].mean() < 0.95 * errors["SGCA"].mean()
    assert (errors["FedAvg"].mean(axis=0) > 1.2 * errors["local"].mean(axis=0)).any(), "a plain mean does harm somebody"
