"""Strategies, roles and counts, on a real datastore and a real registry; no network."""

import json
from pathlib import Path

import pytest

from monailabel_app.case_roles import LABEL_INFO, CaseRoles, LabelCounts
from monailabel_app.configuration import AppConfiguration
from monailabel_app.engine import Engine
from monailabel_app.guarded_datastore import GuardedDatastore
from monailabel_app.strategies import FirstStrategy, LeastCertainStrategy, RandomStrategy
from monailabel_app.uncertainty_scores import UncertaintyScores

SPLIT = {"train": ["t1", "t2", "t3"], "val": ["v1"], "test": ["s1", "a0"]}


@pytest.fixture
def configuration(tmp_path: Path) -> AppConfiguration:
    studies = tmp_path / "studies"
    studies.mkdir()
    for names in SPLIT.values():
        for name in names:
            (studies / f"{name}.png").write_bytes(b"image")
    (tmp_path / "split.json").write_text(json.dumps(SPLIT), encoding="utf-8")
    return AppConfiguration.from_conf(str(studies), {})


@pytest.fixture
def datastore(configuration: AppConfiguration) -> GuardedDatastore:
    return GuardedDatastore(str(configuration.site.studies), auto_reload=False, read_only=False)


@pytest.fixture
def roles(configuration: AppConfiguration) -> CaseRoles:
    return CaseRoles(configuration.site, configuration.settings)


def label(datastore: GuardedDatastore, case: str, usable: bool = True) -> None:
    source = Path(datastore.get_image_uri(case))
    datastore.save_label(case, str(source), "final", {})
    datastore.update_label_info(case, "final", {LABEL_INFO: {"usable": usable}})


def test_test_cases_are_never_offered(datastore: GuardedDatastore, roles: CaseRoles) -> None:
    assert roles.offered(datastore) == ["t1", "t2", "t3", "v1"]
    assert FirstStrategy(roles)({}, datastore) == {"id": "t1"}
    offered = {RandomStrategy(roles)({"seed": seed}, datastore)["id"] for seed in range(50)}  # type: ignore[index]
    assert offered == {"t1", "t2", "t3", "v1"}


def test_the_same_seed_offers_the_same_case(datastore: GuardedDatastore, roles: CaseRoles) -> None:
    strategy = RandomStrategy(roles)
    assert len({json.dumps(strategy({"seed": 7}, datastore)) for _ in range(10)}) == 1


def test_no_case_left_is_an_empty_answer(
    datastore: GuardedDatastore, roles: CaseRoles, configuration: AppConfiguration, tmp_path: Path
) -> None:
    for case in ("t1", "t2", "t3", "v1"):
        label(datastore, case)
    least_certain = LeastCertainStrategy(roles, Engine(configuration), UncertaintyScores(tmp_path / "scores.json"))
    for strategy in (FirstStrategy(roles), RandomStrategy(roles), least_certain):
        assert strategy({}, datastore) is None


def test_labels_are_counted_by_what_their_case_is_for(datastore: GuardedDatastore, roles: CaseRoles) -> None:
    label(datastore, "t1")
    label(datastore, "t2", usable=False)
    label(datastore, "v1")
    label(datastore, "s1")
    assert roles.label_counts(datastore) == LabelCounts(train=1, validation=1, test=1, unusable=1)


def test_least_certain_reads_the_active_versions_scores(
    datastore: GuardedDatastore, roles: CaseRoles, configuration: AppConfiguration, tmp_path: Path
) -> None:
    scores = UncertaintyScores(tmp_path / "scores.json")
    strategy = LeastCertainStrategy(roles, Engine(configuration), scores)
    first = strategy({}, datastore)
    assert first is not None
    assert first["id"] == "t1"
    assert "No case is scored by version base yet" in first["reason"]
    scores.put("00112233445566ff", "t1", 0.99)  # another version's
    for case, score in {"t1": 0.2, "t2": 0.6, "t3": 0.4, "s1": 0.9}.items():
        scores.put("base", case, score)
    found = strategy({}, datastore)
    assert found is not None
    assert (found["id"], found["uncertainty"]) == ("t2", 0.6)
    label(datastore, "t2")
    found = strategy({}, datastore)
    assert found is not None
    assert found["id"] == "t3"


def test_only_the_versions_scored_last_are_kept(tmp_path: Path) -> None:
    scores = UncertaintyScores(tmp_path / "scores.json")
    for version in ("ccc", "bbb", "aaa"):
        scores.put(version, "case", 0.5)
    assert [scores.of(version) for version in ("ccc", "bbb", "aaa")] == [{}, {"case": 0.5}, {"case": 0.5}]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"version": "a"}]', '[{"version": "a", "scores": {"x": "y"}}]', "[[]]"])
def test_damaged_scores_are_no_scores(tmp_path: Path, text: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(text, encoding="utf-8")
    assert UncertaintyScores(path).of("a") == {}
