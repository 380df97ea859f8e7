"""The gate's and the probe's studies, on figures made up so that the answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.federated import gate_study, probe_measures, probe_study
from benchmarks.federated.configuration import Configuration
from benchmarks.federated.hospitals import Hospital, scored_cases, spare_cases, training_cases
from sam_adapters.cases import LabelledCase
from sam_adapters.evaluation import CaseScore


def scores(*dice: float) -> list[CaseScore]:
    return [CaseScore(f"case{number}", "box", value) for number, value in enumerate(dice)]


def step(validation: tuple[float, float], spare: float, site: str = "A") -> dict[str, Any]:
    """A candidate that moves the two validation cases from .8 by `validation`, and the spare ones by `spare`; the base has .5."""
    made = {"candidate": scores(*(0.8 + one for one in validation)), "active": scores(0.8, 0.8), "base": scores(0.5, 0.5)}
    known = {"candidate": scores(0.8 + spare), "active": scores(0.8), "base": scores(0.5)}
    return {"site": site, "seed": 0} | {
        name: {who: [one.to_dict() for one in values] for who, values in three.items()}
        for name, three in (("validation", made), ("spare", known))
    }


STEPS = [
    step((0.02, 0.0), 0.03),  # better on both
    step((-0.02, 0.01), 0.02),  # better, though the validation cases say -.005, a third of a standard error (.015)
    step((-0.03, -0.03), -0.04),  # worse on both, for sure
    step((0.01, 0.01), -0.02),  # worse, though the validation cases do not show it
]


def test_standard_error_by_hand() -> None:
    assert gate_study.mean_standard_error(scores(0.78, 0.81), scores(0.8, 0.8)) == pytest.approx(0.015)
    two_kinds = [*scores(0.9), CaseScore("case0", "point", 0.5), CaseScore("case1", "box", 0.8), CaseScore("case1", "point", 0.8)]
    before = [CaseScore(one.case, one.kind, 0.8) for one in two_kinds]
    # The cases' means are -.1 and 0.
    assert gate_study.mean_standard_error(two_kinds, before) == pytest.approx(0.05)
    assert gate_study.mean_standard_error(scores(0.9), scores(0.8)) == 0


@pytest.mark.parametrize(
    ("rule", "taken", "harm", "lost", "gain"),
    [
        ("take everything", 1.0, 0.5, 0.0, -0.0025),
        ("the product's: mean not below the active version's", 0.5, 0.25, 0.25, 0.0025),
        ("half a standard error below is let pass", 0.75, 0.25, 0.0, 0.0075),
    ],
)
def test_rules_are_judged_by_what_nobody_looked_at(rule: str, taken: float, harm: float, lost: float, gain: float) -> None:
    found = gate_study.judged(STEPS, gate_study.RULES[rule])
    assert found == pytest.approx({"taken": taken, "harm": harm, "lost": lost, "gain": gain})


def test_what_is_served_if_the_rule_decides_on_serving_alone() -> None:
    """The strict rule serves .81, turns .795 and .77 away, and serves .81 again; on spare cases that is .83 and .78."""
    strict = gate_study.RULES["the product's: mean not below the active version's"]
    assert gate_study.served(STEPS, strict) == pytest.approx({"dice": 0.78, "worst": 0.78, "taken": 0.5})
    assert gate_study.served(STEPS[:3], strict) == pytest.approx({"dice": 0.83, "worst": 0.83, "taken": 1 / 3})
    both = gate_study.served([*STEPS[:3], step((0.1, 0.1), 0.1, site="B")], strict)
    assert both == pytest.approx({"dice": (0.83 + 0.9) / 2, "worst": 0.83, "taken": 0.5})
    nothing = gate_study.served(STEPS, lambda candidate, active, base: False)
    assert nothing == pytest.approx({"dice": 0.5, "worst": 0.5, "taken": 0})
    assert "| take everything | 0.7800 | 0.7800 | 100 % |" in gate_study.markdown_served(STEPS)


def test_table_counts_a_sites_first_version_apart() -> None:
    text = gate_study.markdown([*STEPS, step((0.1, 0.1), 0.1, site="B")])
    assert "| take everything | all (5) | 100 % |" in text
    assert "| take everything | after the first (3) | 100 % |" in text


def gradients(signal: float) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two sites of eight patients whose gradients point into two directions, with noise of length 1 in many others."""
    rng = np.random.default_rng(0)
    owner = np.repeat([0, 1], 8)
    rows = rng.normal(0, 1 / np.sqrt(500), (16, 500))
    rows[np.arange(16), owner] += signal
    return rows @ rows.T, owner, [f"patient{number}" for number in range(16)]


def test_halves_are_recognised_where_there_is_something_to_recognise() -> None:
    clear = probe_measures.measures(*gradients(3.0), 4, np.random.default_rng(0))
    assert clear is not None
    assert clear["recognised"] == 1
    # Squared length of a half's mean: 9 of signal and 1/4 of noise.
    assert clear["same"] == pytest.approx(9 / 9.25, abs=0.02)
    assert clear["other"] == pytest.approx(0, abs=0.1)
    nothing = probe_measures.measures(*gradients(0.0), 4, np.random.default_rng(0))
    assert nothing is not None
    assert 0.2 < nothing["recognised"] < 0.8
    assert abs(nothing["same"]) < 0.1


@given(st.lists(st.integers(0, 7), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_every_case_of_both_halves_is_of_another_patient(owners: list[int], seed: int) -> None:
    patients = [f"p{owner}" for owner in owners]
    size = len(set(patients)) // 2
    first, second = probe_measures.halves(np.arange(len(patients)), patients, size, np.random.default_rng(seed))
    assert len(first) == len(second) == size
    assert len({patients[case] for case in first + second}) == 2 * size


def test_distances_know_patients_not_cases() -> None:
    # Each site has two patients with three cases each, and a patient's cases are the same: halves of one case a patient.
    rng = np.random.default_rng(3)
    found = {
        site: (np.repeat(rng.normal(size=(2, 32)), 3, axis=0).astype(np.float32), [f"{site}{number // 3}" for number in range(6)])
        for site in "AB"
    }
    assert probe_measures.distances_of(found, seed=0)["cases_a_half"] == 1


def test_spare_cases_are_of_patients_that_nobody_looked_at(tmp_path: Path) -> None:
    def labelled(name: str) -> LabelledCase:
        return LabelledCase(name, name, tmp_path / name, tmp_path / name, "0" * 64)

    # Every patient has two lesions, a and b, and both are in the training list.
    train = tuple(labelled(f"{patient}{lesion}") for patient in range(20) for lesion in "ab")
    hospital = Hospital("A", train, (labelled("v0"),), (), {case.case: case.case[:-1] for case in train}, {})
    configuration = Configuration(train_cases=6, validation_cases=1)
    seen = {hospital.patients[case.case] for case in training_cases(hospital, configuration, 0)}
    spare = spare_cases(hospital, configuration, 0, 16)
    assert len(spare) == 16
    assert not seen & {hospital.patients[case.case] for case in spare}
    assert len(scored_cases(hospital, configuration.changed({"scored": "spare", "test_cases": 5}), 0)) == 5


def test_halves_share_no_patient() -> None:
    gram, owner, _ = gradients(3.0)
    twins = [f"site{site} patient{number // 2}" for number, site in enumerate(owner)]
    assert probe_measures.measures(gram, owner, twins, 2, np.random.default_rng(0)) is not None  # four patients a site
    assert probe_measures.measures(gram, owner, twins, 4, np.random.default_rng(0)) is None


def test_what_the_probe_study_says_of_rows() -> None:
    rng = np.random.default_rng(1)
    found = {
        site: ((rng.normal(0, 0.01, (4, 64)) + np.eye(64)[number] * 5).astype(np.float32), [f"{site}{n}" for n in range(4)])
        for number, site in enumerate("AB")
    }
    lines = probe_measures.lines_of(found, seed=0)
    assert {(line["scaling"], line["projected"], line["cases_a_half"]) for line in lines} == {
        (scaling, projected, size) for scaling in ("unit", "raw") for projected in (False, True) for size in (1, 2)
    }
    assert all(line["recognised"] == 1 for line in lines)
    text = probe_study.markdown([{"seed": 0, "round": 0, **line} for line in lines])
    assert "| untuned | unit | 2 | 2 | 1.00 |" in text


def test_distances_tell_sites_that_differ_from_those_that_do_not() -> None:
    rng = np.random.default_rng(2)
    directions = {"A": np.eye(200)[0], "B": np.eye(200)[0], "C": np.eye(200)[1]}
    found = {
        site: ((rng.normal(0, 0.5 / np.sqrt(200), (8, 200)) + towards).astype(np.float32), [f"{site}{n}" for n in range(8)])
        for site, towards in directions.items()
    }
    told = probe_measures.distances_of(found, seed=0)
    distance, weights = np.array(told["distance"]), np.array(told["weights"])
    assert told["cases_a_half"] == 4
    # Scaled to length 1, each gradient has .8 of squared length in its site's direction: A and B are 0 apart, C from both 1.6.
    assert distance[0, 1] == pytest.approx(0, abs=0.05)
    assert distance[0, 2] == pytest.approx(1.6, abs=0.1)
    assert weights[2].tolist() == [0, 0, 1]
    assert weights[0, 2] == 0
    assert "| 1 | C | 0.00 | 0.00 | 1.00 |" in probe_study.weights_table([{"round": 1, **told}])
