"""Metrics, paired tests and tables on values that can be checked by hand."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.federated.curves import Reached, reached, steadiness
from benchmarks.federated.plots import write_plots
from benchmarks.federated.report import markdown, merged
from benchmarks.federated.scoring import case_metrics
from benchmarks.federated.statistics import compare, gap_closed, last_rounds, sign_flip_p


def square(size: int, start: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[start : start + side, start : start + side] = True
    return mask


def test_dice_adds_the_slices_up_and_distances_are_millimetres() -> None:
    # Slice 1: 4 x 4 against the same moved by one row and column: 9 of 16 common. Slice 2: exact, 4 x 4.
    metrics = case_metrics([square(16, 5, 4), square(16, 2, 4)], [square(16, 4, 4), square(16, 2, 4)], (2.0, 2.0))
    assert metrics["dice"] == pytest.approx(2 * (9 + 16) / (16 * 4))
    one = case_metrics([square(16, 5, 4)], [square(16, 4, 4)], (1.0, 1.0))["hd95"]
    assert one > 0
    assert metrics["hd95"] == pytest.approx(2 * one / 2)


def test_an_empty_prediction_is_as_far_off_as_the_image_is_large() -> None:
    metrics = case_metrics([np.zeros((3, 4), bool)], [square(4, 1, 1)[:3]], (1.0, 1.0))
    assert metrics == {"dice": 0.0, "hd95": 5.0}


def test_sign_flips_by_hand() -> None:
    # Of the 8 patterns of (1, 1, 1) only +++ and --- have a mean as large.
    assert sign_flip_p(np.ones(3)) == pytest.approx(2 / 8)
    assert sign_flip_p(np.zeros(3)) == 1
    assert sign_flip_p(np.full(20, 1.0)) < 0.001


def test_comparison_pairs_sites_and_seeds() -> None:
    mine = {("A", 0): 0.9, ("A", 1): 0.8, ("B", 0): 0.5, ("C", 0): 1.0}
    other = {("A", 0): 0.8, ("A", 1): 0.7, ("B", 0): 0.6}
    found = compare(mine, other)
    assert found is not None
    assert found.pairs == 3
    assert found.difference == pytest.approx(0.1 / 3)
    assert found.worse == ("B",)
    assert compare(mine, {}) is None


def test_gap_closed() -> None:
    assert gap_closed(0.75, 0.7, 0.8) == pytest.approx(0.5)
    assert gap_closed(0.75, 0.8, 0.8) is None


def unit(method: str, seed: int, number: int, dice: float) -> dict[str, Any]:
    case = {"case": "c", "dice": dice, "hd95": 1.0}
    return {
        "arm": "main",
        "method": method,
        "seed": seed,
        "round": number,
        "scores": {site: {"box": [case], **({"filled": [case]} if method == "base" else {})} for site in ("A", "B")},
        "bytes_up": {"A": 1000, "B": 1000},
        "bytes_down": {"A": 1000, "B": 3000},
        "weights": {"A": {"A": 0.75, "B": 0.25}, "B": {"B": 1.0}},
        "distance": [[0.0, 0.5], [0.5, 0.0]],
        "givers": ["A", "B"],
        "verdicts": {"A": {"tuning": "promoted", "mixture": "rejected"}},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    units = [unit("base", 0, 1, 0.5), unit("base", 1, 1, 0.5)]
    for method, dice in (("local", 0.7), ("pooled", 0.9), ("fedsca", 0.8), ("fedsca-gate", 0.75)):
        units += [unit(method, seed, number, dice - 0.1 * (2 - number)) for seed in (0, 1) for number in (1, 2)]
    sites = {site: {"train": 4, "validation": 2, "test": 2, "train_there": 4, "test_there": 2} for site in ("A", "B")}
    sites["A"]["train"] = 3
    configuration = {"kinds": ["box"], "image_size": 64, "rounds": 2, "steps": 2, "batch_size": 2, "test_slices": 1}
    machine = {"processor": "P", "cores": 2, "gpu": None, "commit": "c0ffee"}
    about = {"root": "hospitals", "preset": "tiny", "complete": True, "arms": {"main": {}}}
    return {"units": units, "sites": sites, "configuration": configuration, "machine": machine, **about}


def test_tables_say_what_the_units_say(result: dict[str, Any]) -> None:
    text = markdown(result)
    row = next(line for line in text.splitlines() if line.startswith("| **FedSCA**, without gate | 0.8"))
    assert row == "| **FedSCA**, without gate | 0.800 ± 0.000 | 0.800 ± 0.000 | 0.800 ± 0.000 | +0.100 (A) | 3 |"
    assert "| box filled, no network | 0.500" in text
    assert "| **FedSCA**, without gate | local only | box | +0.100 | 4 |" in text
    assert "| **FedSCA**, without gate | box | 50 % |" in text
    assert "mixture: 4 rejected" in text
    result["sites"]["A"]["train"] = 4
    assert "Gap from local only" not in markdown(result), "no site is the smallest"
    assert [one["round"] for one in last_rounds(result["units"], "main", "local")] == [2, 2]


def test_variations_stand_in_one_table_beside_what_is_usual(result: dict[str, Any]) -> None:
    assert "All variations" not in markdown(result), "one arm is no variation"
    alone = {**result, "units": [{**one, "arm": "A inverted"} for one in result["units"]], "arms": {"A inverted": {"inverted_site": "A"}}}
    assert "All variations" not in markdown(alone), "whatever its name"
    varied = {"few": {"fedsca": 0.77, "local": 0.6}, "rank 2": {"fedsca": 0.83}}
    result["arms"] |= {"few": {"small_site": "B", "small_cases": 2}, "rank 2": {"rank": 2}}
    for arm, methods in varied.items():
        result["units"] += [{**unit(method, seed, 2, dice), "arm": arm} for method, dice in methods.items() for seed in (0, 1)]
    lines = markdown(result).splitlines()
    assert "| main | local only | 0.700 ± 0.000 | 2 |  |  |  | 3 |" in lines
    # Four pairs, each -.03: of 16 patterns of signs two are as far from 0, so p = .125. At B .17 more than alone.
    assert "| few | **FedSCA**, without gate | 0.770 ± 0.000 | 2 | -0.030 | 0.12 | +0.170 (B) | 3 |" in lines
    assert "| few | local only | 0.600 ± 0.000 | 2 | -0.100 | 0.12 |  | 3 |" in lines
    assert "| rank 2 | **FedSCA**, without gate | 0.830 ± 0.000 | 2 | +0.030 | 0.12 |  | 3 |" in lines


def test_how_steady_and_how_soon(result: dict[str, Any]) -> None:
    units = copy.deepcopy(result["units"])
    for one in units:
        one["tuning_seconds"] = {"A": 10.0, "B": 20.0}
        if (one["method"], one["seed"], one["round"]) == ("fedsca", 1, 2):
            for site in ("A", "B"):
                one["scores"][site]["box"] = [{"case": "c", "dice": 0.6, "hd95": 1.0}]
    # Seed 0 goes .7, .8 and seed 1 .7, .6 at both sites: ends .8 and .6, changes +.1 and -.1.
    found = steadiness(units, "main", "fedsca", "box")
    assert found is not None
    assert (found.over_seeds, found.over_rounds, found.falls) == (pytest.approx(0.02**0.5), pytest.approx(0.1), 0.5)
    # A site sends and gets 2 or 4 kB a round and tunes for 15 s on average; .7 is there after one round, .75 never (means .7, .7).
    assert reached(units, "main", "fedsca", "box", 0.7 - 1e-9) == Reached(1, 3.0, 15.0)
    assert reached(units, "main", "fedsca", "box", 0.75) is None
    assert reached(units, "main", "pooled", "box", 0.85) == Reached(2, 6.0, 30.0)
    assert steadiness(units, "main", "fedavg-all", "box") is None
    assert "| **FedSCA**, without gate | box | 0.000 | 0.100 | 0 % | 1 | 3 | 0 |" in markdown(result)


def test_plots_are_the_same_bytes_again(result: dict[str, Any], tmp_path: Path) -> None:
    first = {title: path.read_bytes() for title, path in write_plots(result, tmp_path, "x").items()}
    second = {title: path.read_bytes() for title, path in write_plots(result, tmp_path, "x").items()}
    assert len(first) == 3
    assert first == second


def test_results_of_other_budgets_are_not_put_together(result: dict[str, Any]) -> None:
    other = copy.deepcopy(result)
    other["configuration"]["rounds"] = 3
    with pytest.raises(ValueError, match="budgets"):
        merged([result, other])
    assert len(merged([result, copy.deepcopy(result)])["units"]) == len(result["units"])


def test_what_is_usual_comes_first_and_is_what_plots_show(result: dict[str, Any], tmp_path: Path) -> None:
    few = [{**one, "arm": "few"} for one in result["units"] if one["method"] == "local"]
    both = {**result, "units": [*few, *result["units"]], "arms": {"few": {}, "main": {}}}
    text = markdown(both)
    assert text.index("\n## main\n") < text.index("\n## few\n")
    usual = {title: file.read_bytes() for title, file in write_plots(result, tmp_path, "usual").items()}
    shown = {title: file.read_bytes() for title, file in write_plots(both, tmp_path, "both").items()}
    assert shown == usual
