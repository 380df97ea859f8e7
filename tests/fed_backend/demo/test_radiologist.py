import threading
from pathlib import Path

import pytest

from fed_backend.demo.errors import DemoError
from fed_backend.demo.hospital import Hospital
from fed_backend.demo.plan import DemoPlan, HospitalPlan, Level
from fed_backend.demo.radiologist import Radiologist, tuning_view
from fed_backend.demo.scoring import ScoreKind
from fed_backend.demo.virtual_hospitals import virtual_hospital
from tests.fed_backend.demo.fake_server import FakeServer

LEVEL = Level(steps=4, wave=2, test_cases=0, test_slices=2, label_slices=1, score_every_tuning=True)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return virtual_hospital(tmp_path_factory.mktemp("run"), 0, seed=1, train=4, val=2, test=2, size=(8, 48, 48))


def work(
    hospital: Hospital, server: FakeServer, *, kinds: tuple[ScoreKind, ...] = ("box", "point", "none"), waves: tuple[int, ...] = (2, 2)
) -> Radiologist:
    mine = HospitalPlan(hospital.name, waves, hospital.split.val, hospital.split.test)
    plan = DemoPlan(LEVEL, len(waves), 128, kinds, (mine,), 60.0)
    return Radiologist(server, hospital, plan, stopping=threading.Event(), poll=0.01)


def test_scores_every_kind_on_every_test_case(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    radiologist = work(hospital, server)
    radiologist.score("base", "base")
    assert [entry["kind"] for entry in radiologist.dice] == ["box", "point", "none"]
    box = radiologist.dice[0]
    assert set(box["cases"]) == set(hospital.split.test)
    assert box["mean"] == pytest.approx(radiologist.fill_the_box()), "this server fills the box"
    assert radiologist.dice[1]["mean"] == 0
    requests = [params for model, params in server.calls if model == "sam"]
    assert all(len(params["slices"]) == 2 and params["version"] == "base" for params in requests), "test_slices caps the slices"
    assert [params for model, params in server.calls if model == "sam_auto"] == [
        {"case": case, "version": "base"} for case in hospital.split.test
    ]


def test_no_prompt_is_not_asked_for_when_it_means_nothing(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    work(hospital, server, kinds=("box", "point")).score("base", "base")
    assert {model for model, _ in server.calls} == {"sam"}


def test_an_unchanged_version_is_not_measured_twice(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    radiologist = work(hospital, server)
    radiologist.score("base", "base")
    asked = len(server.calls)
    radiologist.score("round-1")
    assert len(server.calls) == asked
    assert [(entry["phase"], entry["reused"]) for entry in radiologist.dice] == [("base", False)] * 3 + [("round-1", True)] * 3
    assert radiologist.dice[3]["mean"] == radiologist.dice[0]["mean"]


def test_a_wave_labels_validation_first_then_what_the_server_proposes_and_tuning_follows(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    radiologist = work(hospital, server)
    radiologist.wave(1)
    train = sorted(hospital.split.train)
    assert server.labelled == [*hospital.split.val, *train[:2]]
    radiologist.wait_for_tuning(1, seconds=20)
    radiologist.wave(2)
    radiologist.wait_for_tuning(2, seconds=20)
    assert server.labelled == [*hospital.split.val, *train]
    assert [(entry["wave"], entry["status"]) for entry in radiologist.tunings] == [(1, "finished"), (2, "finished")]
    assert [(entry["part"], entry["wave"]) for entry in radiologist.labels] == [("val", 1)] * 2 + [("train", 1)] * 2 + [("train", 2)] * 2
    first = next(params for what, params in server.calls if what == "submit")
    assert first["label"] == hospital.truths[hospital.split.val[0]]
    assert first["version"] == "base"
    assert radiologist.labels[-1]["version"] != "base", "the second wave's proposals come from the tuned version"


def test_a_wave_ends_when_the_server_has_nothing_left(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    radiologist = work(hospital, server, waves=(9, 0))
    radiologist.wave(1)
    assert len(server.labelled) == 6
    radiologist.wait_for_tuning(2, seconds=1)
    assert radiologist.tunings == []


def test_test_cases_are_never_labelled(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    server.offer_tests = True
    with pytest.raises(DemoError, match="proposed test case"):
        work(hospital, server).wave(1)
    assert not set(server.labelled) & set(hospital.split.test)


def test_a_failed_tuning_is_an_error(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    server.outcome = "failed"
    radiologist = work(hospital, server)
    radiologist.wave(1)
    with pytest.raises(DemoError, match="ended as failed"):
        radiologist.wait_for_tuning(1, seconds=20)


def test_a_tuning_that_never_starts_is_an_error(hospital: Hospital) -> None:
    server = FakeServer(hospital, tune_after=0)
    radiologist = work(hospital, server)
    with pytest.raises(DemoError, match="started no tuning"):
        radiologist.wait_for_tuning(1, seconds=20, start_seconds=0.0)


def test_stopping_ends_a_wait_at_once(hospital: Hospital) -> None:
    stopping = threading.Event()
    stopping.set()
    plan = DemoPlan(LEVEL, 1, 128, ("box",), (HospitalPlan(hospital.name, (2,), (), ()),), 1.0)
    with pytest.raises(DemoError, match="being stopped"):
        Radiologist(FakeServer(hospital, tune_after=0), hospital, plan, stopping=stopping).wait_for_tuning(1, seconds=600)


def test_validation_compares_base_and_active_on_labelled_cases(hospital: Hospital) -> None:
    server = FakeServer(hospital)
    radiologist = work(hospital, server)
    radiologist.wave(1)
    radiologist.wait_for_tuning(1, seconds=20)
    scores = radiologist.validate()
    assert scores["cases"] == 2
    assert scores["version"] == server.active != "base"
    assert scores["base"] == scores["active"], "the fake server does not learn"


def test_status_of_a_server_that_never_tuned() -> None:
    view = tuning_view({"active": "base", "tuning": {"running": False, "waiting": 1, "progress": None, "last": None}})
    assert (view.id, view.busy, view.status) == (0, True, "none")


def test_labels_of_real_data_stay_where_they_are(hospital: Hospital, tmp_path: Path) -> None:
    assert all(not path.is_relative_to(hospital.root) for path in hospital.truths.values())
