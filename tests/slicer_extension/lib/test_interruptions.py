"""What comes in between: another connection, another case, a busy or broken server, work that was saved. Nothing may stay stuck, go to
the wrong place, or be lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from FedSCALib.errors import CaseGone, LoginNeeded, NotAllowed, ServerBusy, ServerRefused
from FedSCALib.prompts import Point

from tests.slicer_extension.lib.bench import Bench
from tests.slicer_extension.lib.scripted_server import GONE, SIZE, ScriptedServer, change, disc


@pytest.fixture
def server(tmp_path: Path) -> ScriptedServer:
    return ScriptedServer(tmp_path)


@pytest.fixture
def bench(tmp_path: Path, server: ScriptedServer) -> Bench:
    made = Bench(tmp_path, server)
    made.open()
    return made


def drawn(bench: Bench, index: int = 3, label: str = "tumour") -> np.ndarray:
    return bench.canvas.slice_mask(label, "k", index)


def click(bench: Bench, x: int, y: int, index: int = 3) -> None:
    bench.annotator.add_point((x, y, index), "k", True)
    bench.settle()


def saved(server: ScriptedServer) -> list[str]:
    return [label["image"] for label in server.saved]


# Connecting again


def test_a_label_that_waits_for_the_server_is_sent_when_a_person_presses_try_again(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.broken = GONE
    bench.annotator.submit()
    bench.settle()
    server.broken = None
    bench.annotator.retry()
    bench.settle()
    assert saved(server) == ["case1"]
    assert not bench.state.submitting
    assert not bench.state.unsaved


def test_a_label_that_waits_is_sent_when_a_person_connects_again(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.broken = GONE
    bench.annotator.submit()
    bench.settle()
    server.broken = None
    bench.annotator.connect("hospital")
    bench.settle()
    assert saved(server) == ["case1"]
    assert not bench.state.submitting


def test_a_label_cannot_be_submitted_to_nobody_but_later(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    bench.annotator.disconnect()
    bench.annotator.submit()
    bench.settle()
    assert "Connect" in bench.state.notice.text
    assert (saved(server), bench.state.submitting, bench.state.unsaved) == ([], False, True)
    bench.annotator.connect("hospital")
    bench.settle()
    bench.annotator.submit()
    bench.settle()
    assert saved(server) == ["case1"]


@pytest.mark.parametrize("again", ["connect", "disconnect"])
def test_a_click_under_way_while_the_connection_is_made_anew_is_answered(bench: Bench, server: ScriptedServer, again: str) -> None:
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    if again == "disconnect":
        bench.annotator.disconnect()
    bench.annotator.connect("hospital")
    server.hold.set()
    bench.settle()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    click(bench, 12, 7)
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))


def test_a_propagation_is_over_when_the_connection_is_let_go(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.job = propagated("running", [])
    bench.annotator.propagate()
    bench.until(lambda: "/fedsca/jobs/job1" in server.paths())
    bench.annotator.disconnect()
    bench.annotator.connect("hospital")
    server.job = propagated("done", [2])
    bench.settle()
    bench.annotator.propagate()
    bench.settle()
    assert drawn(bench, 2).any()


def test_another_hospital_never_gets_this_ones_case(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    bench.annotator.connect("elsewhere")
    bench.settle()
    assert (bench.state.address, bench.state.case) == ("http://elsewhere", None)
    bench.annotator.submit()
    bench.settle()
    assert saved(server) == []
    bench.annotator.connect("hospital")
    bench.settle()
    bench.annotator.next_case()
    bench.settle()
    bench.annotator.act("draft")
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))


def test_the_ca_certificate_is_remembered_with_the_address(bench: Bench, tmp_path: Path) -> None:
    asked: list[Any] = []
    make = bench.annotator._connection._make
    bench.annotator._connection._make = lambda address, authority: asked.append((address, authority)) or make(address, authority)
    bench.annotator.connect("https://hospital", tmp_path / "ca.pem")
    bench.settle()
    bench.annotator.connect()
    bench.settle()
    assert asked == 2 * [("https://hospital", tmp_path / "ca.pem")]


def test_another_kind_of_server_is_told_apart(tmp_path: Path, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def plain() -> None:
        raise CaseGone(404, "Not Found")

    monkeypatch.setattr(server, "_status", plain)
    bench = Bench(tmp_path, server)
    bench.annotator.connect("hospital")
    bench.settle()
    assert bench.state.connection == "off"
    assert "FedSCA Label" in bench.state.notice.text


# A server that has too much to do, or refuses


def test_a_busy_server_is_asked_again_and_in_the_end_a_person_is_told(bench: Bench, server: ScriptedServer) -> None:
    server.broken_click = ServerBusy(429, "Too many requests at once.", 2.0)
    click(bench, 8, 7)
    for _ in range(20):
        bench.pass_time(2.1)
    asked = len(server.clicks())
    assert 3 <= asked <= 10
    assert "Too many" in bench.state.notice.text
    server.broken_click = None
    click(bench, 12, 7)
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))


def test_escape_also_ends_what_a_busy_server_would_be_asked_again(bench: Bench, server: ScriptedServer) -> None:
    server.broken_click = ServerBusy(429, "Too many requests at once.", 2.0)
    click(bench, 8, 7)
    bench.annotator.cancel()
    assert "Cancelled" in bench.state.notice.text
    server.broken_click = None
    bench.pass_time(10)
    assert len(server.clicks()) == 1


@pytest.mark.parametrize("busy", [True, False])
def test_escape_also_ends_what_waits_for_the_server_to_come_back(bench: Bench, server: ScriptedServer, busy: bool) -> None:
    click(bench, 8, 7)
    server.broken = ServerBusy(429, "Too much to do.", 1.0) if busy else GONE
    bench.annotator.propagate()
    bench.annotator.open_case("case2", "")
    bench.settle()
    bench.annotator.cancel()
    server.broken = None
    before = len(server.asked)
    for _ in range(5):
        bench.pass_time(2)
    assert bench.state.connection == "on"
    assert not {"/fedsca/propagate", "/datastore/image"} & set(server.paths()[before:])
    assert bench.state.case == "case1"


def test_a_server_without_its_base_says_so_at_once(bench: Bench, server: ScriptedServer) -> None:
    server.broken_click = ServerRefused(503, "The base litemedsam cannot be loaded.")
    click(bench, 8, 7)
    assert "cannot be loaded" in bench.state.notice.text


def test_whoever_may_not_change_what_serves_is_told_whom_to_ask(bench: Bench, server: ScriptedServer) -> None:
    server.broken = NotAllowed(403, "Only admins.")
    bench.annotator.activate("base")
    bench.settle()
    assert "whoever runs the server" in bench.state.notice.text


def test_a_version_that_waits_for_a_person_is_told_with_the_way_to_the_list(bench: Bench, server: ScriptedServer) -> None:
    server.versions = [{"id": "b" * 16, "state": "candidate", "kind": "tuning"}]
    server.decisions = [{"number": 1, "action": "held", "version": "b" * 16, "reason": "Better with boxes, worse with points."}]
    server.tuning["last"] = {"id": 1, "status": "done", "version": "b" * 16}
    bench.pass_time(11)
    assert "worse with points" in bench.state.notice.text
    assert bench.state.notice.action == "versions"


def test_a_login_at_a_server_that_is_gone_is_told(bench: Bench, server: ScriptedServer) -> None:
    server.broken = LoginNeeded(401, "The token has expired: log in again.")
    click(bench, 8, 7)
    server.broken = GONE
    bench.annotator.login("ann", "right")
    bench.settle()
    assert bench.state.notice.text == GONE.message
    assert bench.state.notice.action == "login"
    server.broken = None
    bench.annotator.login("ann", "right")
    bench.settle()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))


def test_a_job_whose_label_was_locked_ends_on_the_server_too(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.job = propagated("running", [])
    bench.annotator.propagate()
    bench.until(lambda: "/fedsca/jobs/job1" in server.paths())
    bench.annotator.set_locked("tumour", True)
    server.job = propagated("running", [2])
    bench.settle()
    assert "locked" in bench.state.notice.text
    assert ("DELETE", "/fedsca/jobs/job1") in [(method, path) for method, path, _ in server.asked]


def test_a_job_that_is_cancelled_before_the_server_has_begun_it_ends_there_too(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.hold_job.clear()
    bench.annotator.propagate()
    assert server.job_asked.wait(60)
    bench.annotator.cancel()
    server.hold_job.set()
    bench.until(lambda: ("DELETE", "/fedsca/jobs/job1") in [(method, path) for method, path, _ in server.asked])
    bench.settle()
    assert not drawn(bench, 2).any()


@pytest.mark.parametrize("tool", ["brush", "segment editor"])
def test_what_a_person_paints_while_a_job_runs_stays(bench: Bench, server: ScriptedServer, tool: str) -> None:
    click(bench, 8, 7)
    server.job = propagated("running", [])
    bench.annotator.propagate()
    bench.until(lambda: "/fedsca/jobs/job1" in server.paths())
    dab = np.ones((1, 1), bool)
    if tool == "brush":
        bench.annotator.paint("k", 2, (0, 0, 0, 0), dab)
    else:
        bench.canvas.write("tumour", "k", 2, (0, 0, 0, 0), dab, "add")
        bench.annotator.edited()
    server.job = propagated("done", [2])
    bench.settle()
    assert drawn(bench, 2)[0, 0]
    assert drawn(bench, 2)[6:8, 7:9].all()
    assert drawn(bench, 2).sum() == 5


# Other cases


def test_a_case_of_ones_own_never_replaces_one_that_another_person_has_put_there_since(
    bench: Bench, server: ScriptedServer, tmp_path: Path
) -> None:
    server.objects["theirs"] = {"labels": {}}  # after our list was read
    (tmp_path / "theirs.nii.gz").write_bytes(server.image.read_bytes())
    bench.annotator.upload(tmp_path / "theirs.nii.gz")
    bench.settle()
    assert "already" in bench.state.notice.text
    assert ("PUT", "/datastore/") not in [(method, path) for method, path, _ in server.asked]


def test_an_upload_that_the_server_missed_goes_on_when_it_is_back(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    server.broken = GONE
    bench.annotator.upload(server.image, "mine")
    bench.settle()
    assert (bench.state.connection, bench.state.case) == ("lost", "case1")
    server.broken = None
    bench.pass_time(2)
    assert (bench.state.connection, bench.state.case) == ("on", "mine")


def test_an_uploaded_case_is_opened(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "mine.nii.gz").write_bytes(server.image.read_bytes())
    bench.annotator.upload(tmp_path / "mine.nii.gz")
    bench.settle()
    assert bench.state.case == "mine"


def test_a_submit_that_is_confirmed_after_the_next_case_was_opened_leaves_no_draft(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.hold_label.clear()
    bench.annotator.submit()
    bench.annotator.open_case("case2", "")
    bench.until(lambda: bench.state.case == "case2")
    server.hold_label.set()
    bench.settle()
    assert saved(server) == ["case1"]
    bench.annotator.open_case("case1", "")
    bench.settle()
    assert bench.state.draft_offer is None


def test_what_is_drawn_after_a_submit_stays_a_draft(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.hold_label.clear()
    bench.annotator.submit()
    click_and_hold = bench.annotator
    click_and_hold.paint("k", 3, (0, 0, 0, 0), np.ones((1, 1), bool))
    server.hold_label.set()
    bench.settle()
    assert bench.state.unsaved
    bench.pass_time(2)
    bench.annotator.open_case("case1", "")
    bench.settle()
    assert bench.state.draft_offer is not None


def test_slices_of_a_propagation_never_reach_the_next_case(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.job = propagated("running", [])
    bench.annotator.propagate()
    bench.until(lambda: "/fedsca/jobs/job1" in server.paths())
    bench.annotator.open_case("case2", "")
    bench.until(lambda: bench.state.case == "case2")
    server.job = propagated("done", [2])
    bench.settle()
    assert bench.canvas.empty()
    assert ("DELETE", "/fedsca/jobs/job1") in [(method, path) for method, path, _ in server.asked]


def test_names_of_labels_that_a_person_added_come_back_with_the_label(bench: Bench, server: ScriptedServer) -> None:
    label = np.zeros(SIZE[::-1], np.int16)
    label[3, 4:8, 4:8] = 3
    sitk.WriteImage(sitk.GetImageFromArray(label), str(server.image))
    info = {"label_info": [{"name": "cyst", "idx": 3}, {"idx": 4}, "?", {"name": "tumour", "idx": 1}]}
    server.objects["case2"] = {"labels": {"final": {"ext": ".nii.gz", "info": info}}}
    bench.annotator.refresh_cases()
    bench.settle()
    bench.annotator.open_case("case2")
    bench.settle()
    assert [(segment.name, segment.value) for segment in bench.state.labels] == [("tumour", 1), ("organ", 2), ("cyst", 3)]
    assert drawn(bench, label="cyst").sum() == 16


# Drafts


def test_drawing_without_a_pause_is_saved_all_the_same(bench: Bench, tmp_path: Path) -> None:
    for number in range(6):  # a stroke every half second
        bench.annotator.paint("k", 3, (number, 0, number, 0), np.ones((1, 1), bool))
        bench.pass_time(0.5)
    assert list((tmp_path / "drafts").glob("*/draft-*.json"))


def test_prompts_come_back_with_the_work(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    annotator = bench.annotator
    click(bench, 8, 7)
    annotator.add_point((12, 7, 3), "k", False)
    annotator.set_box("k", 2, (2, 3, 9, 8))
    strokes = disc(5, 5, 1), disc(15, 5, 1)
    annotator.add_scribble("k", 4, *strokes)
    bench.settle()
    bench.pass_time(2)
    again = Bench(tmp_path, server)
    again.open()
    again.annotator.act("draft")
    assert again.annotator.prompts_on("k", 3).points == (Point((8, 7, 3), True), Point((12, 7, 3), False))
    assert again.annotator.prompts_on("k", 2).box == (2, 3, 9, 8)
    scribble = again.annotator.prompts_on("k", 4).scribble
    np.testing.assert_array_equal(scribble.foreground, strokes[0])
    np.testing.assert_array_equal(scribble.background, strokes[1])
    asked = len(server.clicks())
    again.settle()
    assert len(server.clicks()) == asked  # they are answered already
    click(again, 8, 10)
    assert server.clicks()[-1]["foreground"] == [[8, 7, 3], [8, 10, 3]]
    assert server.clicks()[-1]["background"] == [[12, 7, 3]]


@pytest.mark.parametrize("damage", [lambda told: told.pop("prompts"), lambda told: told.update(prompts=[{"label": 7}, "x"])])
def test_a_draft_with_unreadable_prompts_still_gives_the_drawing(
    bench: Bench, server: ScriptedServer, tmp_path: Path, damage: Callable[[dict[str, Any]], Any]
) -> None:
    click(bench, 8, 7)
    bench.pass_time(2)
    (file,) = (tmp_path / "drafts").glob("*/draft-*.json")
    told = json.loads(file.read_text(encoding="utf-8"))
    damage(told)
    file.write_text(json.dumps(told), encoding="utf-8")
    again = Bench(tmp_path, server)
    again.open()
    again.annotator.act("draft")
    np.testing.assert_array_equal(drawn(again), disc(8, 7, 3))
    assert again.annotator.prompts_on("k", 3).empty


def test_an_answer_that_comes_late_is_saved_too(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    bench.now += 1.5
    bench.annotator.deliver()  # the prompt alone is saved
    server.hold.set()
    bench.settle()
    bench.pass_time(2)
    again = Bench(tmp_path, server)
    again.open()
    again.annotator.act("draft")
    np.testing.assert_array_equal(drawn(again), disc(8, 7, 3))


def test_a_propagation_is_saved_too(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    click(bench, 8, 7)
    bench.pass_time(2)
    server.job = propagated("done", [2])
    bench.annotator.propagate()
    bench.settle()
    bench.pass_time(2)
    again = Bench(tmp_path, server)
    again.open()
    again.annotator.act("draft")
    assert drawn(again, 2).any()


def test_a_label_that_lies_on_another_grid_is_told_when_its_case_is_opened(bench: Bench, server: ScriptedServer) -> None:
    server.label_file = server.folder / "other.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((2, 2, 2), np.uint8)), str(server.label_file))
    bench.annotator.open_case("case2")
    bench.settle()
    assert bench.state.case == "case2"
    assert "another grid" in bench.state.notice.text


# Undo


def test_undo_of_a_propagation_under_way_ends_it(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.job = propagated("running", [2])
    bench.annotator.propagate()
    bench.until(lambda: drawn(bench, 2).any())
    bench.annotator.undo()
    bench.settle()
    assert not drawn(bench, 2).any()
    assert ("DELETE", "/fedsca/jobs/job1") in [(method, path) for method, path, _ in server.asked]
    bench.now += 1
    bench.annotator.deliver()
    assert bench.state.busy == ""


def test_a_propagation_that_was_undone_is_forgotten(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.job = propagated("done", [2])
    bench.annotator.propagate()
    bench.settle()
    bench.annotator.view_slice("k", 2)
    assert bench.state.can_propagate
    bench.annotator.undo()
    assert not bench.state.can_propagate
    click(bench, 4, 4, 2)
    assert "previous" not in server.clicks()[-1]
    np.testing.assert_array_equal(drawn(bench, 2), disc(4, 4, 3))


def test_a_locked_label_is_neither_undone_nor_redone_by_half(bench: Bench) -> None:
    click(bench, 8, 7)
    bench.annotator.set_locked("tumour", True)
    bench.annotator.undo()
    assert "locked" in bench.state.notice.text
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    assert len(bench.annotator.prompts_on("k", 3).points) == 1
    bench.annotator.set_locked("tumour", False)
    bench.annotator.undo()
    assert not drawn(bench).any()
    bench.annotator.set_locked("tumour", True)
    bench.annotator.redo()
    assert bench.state.can_redo
    bench.annotator.set_locked("tumour", False)
    bench.annotator.redo()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))


def test_a_stroke_that_begins_on_what_is_painted_already_is_a_step_of_its_own(bench: Bench) -> None:
    dab = np.ones((1, 1), bool)
    bench.annotator.paint("k", 3, (2, 2, 2, 2), dab)
    bench.annotator.paint("k", 3, (2, 2, 2, 2), dab)
    bench.annotator.paint("k", 3, (3, 2, 3, 2), dab, goes_on=True)
    bench.annotator.paint("k", 3, (4, 2, 4, 2), dab, goes_on=True)
    assert drawn(bench)[2, 2:5].all()
    bench.annotator.undo()
    assert drawn(bench)[2, 2:5].tolist() == [True, False, False]


def test_a_label_that_a_person_removed_elsewhere_is_told(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.hold.clear()
    bench.annotator.add_point((9, 7, 3), "k")
    del bench.canvas.kept["tumour"], bench.canvas.masks["tumour"]
    for act in (bench.annotator.undo, lambda: bench.annotator.add_point((3, 3, 3), "k"), bench.annotator.reset_prompts):
        bench.annotator.dismiss_notice()
        act()
        assert "tumour" in bench.state.notice.text
    server.hold.set()
    bench.settle()
    bench.annotator.refresh_labels()
    bench.annotator.select_label("organ")
    click(bench, 8, 7)
    np.testing.assert_array_equal(drawn(bench, label="organ"), disc(8, 7, 3))


def propagated(state: str, slices: list[int]) -> dict[str, Any]:
    block = np.zeros((SIZE[1], SIZE[0]), bool)
    block[6:8, 7:9] = True
    found = {"change": change(np.zeros_like(block), block), "area": 4, "iou": 0.9}
    return {
        "job": "job1", "kind": "propagate", "axis": "k", "label": "tumour", "state": state, "done": len(slices), "total": 2,
        "slices": [{"number": number, "index": index, "result": f"p{index}", **found} for number, index in enumerate(slices, 1)],
    }  # fmt: skip
