"""What a radiologist does, and what goes wrong meanwhile: the annotator with a scripted server and a canvas on arrays."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from FedSCALib.errors import DraftError, LoginNeeded, ServerRefused
from FedSCALib.snapshot import Snapshot

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


def click(bench: Bench, x: int, y: int, index: int = 3, *, positive: bool = True) -> None:
    bench.annotator.add_point((x, y, index), "k", positive)
    bench.settle()


def test_connect_shows_who_is_there_and_opens_the_next_case(bench: Bench) -> None:
    state = bench.state
    assert (state.connection, state.address, state.case) == ("on", "http://hospital", "case1")
    assert state.status.base == "litemedsam"
    assert [(segment.name, segment.value) for segment in state.labels] == [("tumour", 1), ("organ", 2)]
    assert (state.label, state.strategy, state.index) == ("tumour", "first", SIZE[2] // 2)
    assert bench.preferences.get("address") == "http://hospital"


def test_an_open_case_leaves_no_file_of_the_patient_behind(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    bench.annotator.open_case("case2")
    bench.settle()
    assert bench.state.case == "case2"
    assert list(temporary.iterdir()) == []


def test_a_click_appears_in_its_slice_and_nowhere_else(bench: Bench) -> None:
    click(bench, 8, 7)
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    assert not drawn(bench, 2).any()
    assert bench.state.unsaved


def test_the_next_click_builds_on_the_result_before(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    click(bench, 12, 7)
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))
    first, second = server.clicks()
    assert "previous" not in first
    assert second["previous"] == "r0"
    assert second["foreground"] == [[8, 7, 3], [12, 7, 3]]


def test_a_point_outside_of_the_image_asks_nothing(bench: Bench, server: ScriptedServer) -> None:
    bench.annotator.add_point((99, 7, 3), "k")
    bench.settle()
    assert server.clicks() == []
    assert "outside" in bench.state.notice.text


def test_undo_and_redo_take_prompts_and_mask_together(bench: Bench) -> None:
    click(bench, 8, 7)
    click(bench, 12, 7)
    bench.annotator.undo()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    assert [point.ijk for point in bench.annotator.prompts_on("k", 3).points] == [(8, 7, 3)]
    bench.annotator.undo()
    assert not drawn(bench).any()
    assert bench.annotator.prompts_on("k", 3).empty
    assert not bench.state.can_undo
    bench.annotator.redo()
    bench.annotator.redo()
    bench.settle()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))
    assert len(bench.annotator.prompts_on("k", 3).points) == 2


def test_after_undo_the_next_click_goes_on_from_there(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    click(bench, 12, 7)
    bench.annotator.undo()
    click(bench, 8, 10)
    assert server.clicks()[-1]["previous"] == "r0"
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(8, 10, 3))


def test_undo_leaves_what_a_person_painted_since(bench: Bench) -> None:
    click(bench, 8, 7)
    bench.canvas.masks["tumour"][3, 0, 0] = True
    bench.annotator.undo()
    assert drawn(bench).sum() == 1


def test_clicks_that_come_while_one_is_answered_are_sent_as_one(bench: Bench, server: ScriptedServer) -> None:
    server.hold.clear()
    for x in (4, 8, 12):
        bench.annotator.add_point((x, 7, 3), "k")
    server.hold.set()
    bench.settle()
    assert [len(body["foreground"]) for body in server.clicks()] == [1, 3]
    np.testing.assert_array_equal(drawn(bench), disc(4, 7, 3) | disc(8, 7, 3) | disc(12, 7, 3))


def test_undo_of_an_overtaken_click_asks_for_what_it_had_meant(bench: Bench, server: ScriptedServer) -> None:
    server.hold.clear()
    for x in (4, 8, 12):
        bench.annotator.add_point((x, 7, 3), "k")
    server.hold.set()
    bench.settle()
    bench.annotator.undo()
    bench.settle()
    np.testing.assert_array_equal(drawn(bench), disc(4, 7, 3) | disc(8, 7, 3))


def test_undo_while_waiting_keeps_the_late_answer_out(bench: Bench, server: ScriptedServer) -> None:
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    bench.annotator.undo()
    server.hold.set()
    bench.settle()
    assert not drawn(bench).any()


@pytest.mark.parametrize("view", ["k", "j"])
def test_a_stroke_painted_while_an_answer_is_on_its_way_stays(bench: Bench, server: ScriptedServer, view: str) -> None:
    """The answer knew nothing of it; the next request tells the server, and undo takes back one after the other."""
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    if view == "k":
        bench.annotator.paint("k", 3, (0, 0, 0, 0), np.ones((1, 1), bool))
        bench.annotator.paint("k", 3, (8, 7, 8, 7), np.ones((1, 1), bool), erase=True)
    else:
        bench.annotator.paint("j", 0, (0, 3, 0, 3), np.ones((1, 1), bool))
    server.hold.set()
    bench.settle()
    corner = np.zeros_like(disc(8, 7, 3))
    corner[0, 0] = True
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | corner)
    click(bench, 9, 7)
    assert server.clicks()[-1]["mask"]["box"][:2] == [0, 0]
    bench.annotator.undo()
    bench.annotator.undo()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    bench.annotator.undo()
    assert not drawn(bench).any()
    assert not bench.state.can_undo


def test_what_was_painted_before_a_click_is_replaced_also_after_an_undo(bench: Bench, server: ScriptedServer) -> None:
    """A click that was undone before its answer came protects nothing any more."""
    click(bench, 8, 7)
    server.hold.clear()
    bench.annotator.add_point((9, 7, 3), "k")
    bench.annotator.undo()
    server.hold.set()
    bench.settle()
    bench.annotator.paint("k", 3, (0, 0, 0, 0), np.ones((1, 1), bool))
    click(bench, 9, 7)
    assert server.clicks()[-1]["mask"]["box"][:2] == [0, 0]
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(9, 7, 3))


def test_an_earlier_prompt_is_asked_again_below_a_stroke(bench: Bench, server: ScriptedServer) -> None:
    """Two clicks and a stroke before any answer: with the second click undone, the first gets its answer, and the stroke stays."""
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    bench.annotator.paint("k", 3, (0, 0, 0, 0), np.ones((1, 1), bool))
    bench.annotator.add_point((15, 7, 3), "k")
    bench.annotator.undo()
    server.hold.set()
    bench.settle()
    assert drawn(bench)[0, 0]
    np.testing.assert_array_equal(drawn(bench)[1:], disc(8, 7, 3)[1:])


def test_neighbours_and_locked_labels_stay(bench: Bench, server: ScriptedServer) -> None:
    bench.annotator.select_label("organ")
    click(bench, 8, 7)
    organ = drawn(bench, label="organ").copy()
    bench.annotator.select_label("tumour")
    click(bench, 11, 7)
    np.testing.assert_array_equal(drawn(bench, label="organ"), organ)
    np.testing.assert_array_equal(drawn(bench), disc(11, 7, 3) & ~organ)
    bench.annotator.set_locked("tumour", True)
    asked = len(server.clicks())
    click(bench, 2, 2)
    assert len(server.clicks()) == asked
    assert "locked" in bench.state.notice.text


@pytest.mark.parametrize("mode", ["add", "subtract"])
def test_modes_keep_what_was_drawn_before(bench: Bench, mode: str) -> None:
    bench.canvas.masks["tumour"][3] = disc(8, 7, 4)
    bench.annotator.set_mode(mode)
    click(bench, 12, 7)
    click(bench, 12, 7, positive=False)  # the model changes its mind: nothing is left of its first answer
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 4))
    click(bench, 12, 7)
    expected = disc(8, 7, 4) | disc(12, 7, 3) if mode == "add" else disc(8, 7, 4) & ~disc(12, 7, 3)
    np.testing.assert_array_equal(drawn(bench), expected)


def test_an_edit_goes_with_the_next_click(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    assert "mask" not in server.clicks()[-1]
    bench.canvas.masks["tumour"][3, 7, 12:16] = True
    click(bench, 9, 7)
    assert server.clicks()[-1]["mask"]["box"] == [5, 4, 15, 10]


def test_reset_puts_back_what_was_there_before_the_first_prompt(bench: Bench) -> None:
    bench.canvas.masks["tumour"][3] = disc(4, 4, 2)
    click(bench, 12, 10)
    bench.annotator.reset_prompts()
    np.testing.assert_array_equal(drawn(bench), disc(4, 4, 2))
    bench.annotator.undo()
    np.testing.assert_array_equal(drawn(bench), disc(12, 10, 3))


def test_boxes_are_cut_to_the_slice(bench: Bench, server: ScriptedServer) -> None:
    bench.annotator.set_box("k", 3, (30, 12, 15, 5))
    bench.settle()
    assert server.clicks()[-1]["roi"] == [15, 19, 5, 12, 3, 3]


def test_an_expired_result_is_asked_for_without(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.results.clear()
    click(bench, 12, 7)
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))
    assert [body.get("previous") for body in server.clicks()] == [None, "r0", None]


def test_a_server_that_goes_and_comes_back_costs_nothing(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.broken = GONE
    click(bench, 12, 7)
    assert bench.state.connection == "lost"
    assert "safe" in bench.state.notice.text
    bench.pass_time(1.1)
    bench.pass_time(2.1)
    assert bench.state.connection == "lost"
    server.broken = None
    server.results.clear()  # it was restarted
    bench.pass_time(4.1)
    assert bench.state.connection == "on"
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3) | disc(12, 7, 3))
    assert bench.state.notice is None or bench.state.notice.kind != "error"


def test_a_login_that_ends_is_asked_for_and_work_goes_on(bench: Bench, server: ScriptedServer) -> None:
    server.broken = LoginNeeded(401, "The token has expired: log in again.")
    click(bench, 8, 7)
    assert bench.state.connection == "login"
    server.broken = None
    bench.annotator.login("ann", "wrong")
    bench.settle()
    assert bench.state.connection == "login"
    assert "not right" in bench.state.notice.text
    bench.annotator.login("ann", "right")
    bench.settle()
    assert (bench.state.connection, bench.state.user) == ("on", "ann")
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))
    assert "right" not in json.dumps(vars(bench.preferences))


def test_no_more_cases_is_a_friendly_end(bench: Bench, server: ScriptedServer) -> None:
    server.next = None
    bench.annotator.next_case()
    bench.settle()
    assert bench.state.notice.kind == "info"
    assert "No more cases" in bench.state.notice.text
    assert bench.state.case == "case1"


def test_a_skipped_case_is_not_offered_again_at_once(bench: Bench) -> None:
    bench.annotator.skip_case()
    bench.settle()
    assert "skipped" in bench.state.notice.text


def test_a_labelled_case_is_reopened_with_its_label(bench: Bench, server: ScriptedServer) -> None:
    label = np.zeros(SIZE[::-1], np.int16)
    label[3, 4:8, 4:8] = 1
    sitk.WriteImage(sitk.GetImageFromArray(label), str(server.image))
    bench.annotator.open_case("case2")
    bench.settle()
    assert (bench.state.case, bench.state.case_tag) == ("case2", "final")
    assert drawn(bench).sum() == 16
    assert not bench.state.unsaved


def test_submit_sends_values_and_names_and_the_version_that_proposed_it(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    bench.annotator.select_label("organ")
    click(bench, 8, 7)
    bench.annotator.submit()
    bench.settle()
    told = json.loads(server.saved[0]["params"])
    assert told == {"label_info": [{"name": "organ", "idx": 2}], "version": "v1", "client_id": "slicer"}
    assert (server.saved[0]["image"], server.saved[0]["tag"], server.saved[0]["name"]) == ("case1", "final", "label.nii.gz")
    (tmp_path / "sent.nii.gz").write_bytes(server.labels["case1"])
    sent = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "sent.nii.gz")))
    np.testing.assert_array_equal(sent[3] == 2, disc(8, 7, 3))
    assert not bench.state.unsaved
    assert "tuning has started" in bench.state.notice.text
    assert bench.state.notice.action == "next"


def test_nothing_drawn_is_asked_about_first(bench: Bench, server: ScriptedServer) -> None:
    bench.annotator.submit()
    bench.settle()
    assert (server.saved, bench.state.notice.action) == ([], "submit_empty")
    bench.annotator.act("submit_empty")
    bench.settle()
    assert len(server.saved) == 1


def test_a_refused_submit_keeps_the_drawing(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.broken = ServerRefused(422, "The label lies on another grid.")
    bench.annotator.submit()
    bench.settle()
    assert "another grid" in bench.state.notice.text
    assert bench.state.unsaved
    assert drawn(bench).any()


def test_a_submit_without_a_server_is_sent_when_it_is_back(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    server.broken = GONE
    bench.annotator.submit()
    bench.settle()
    server.broken = None
    bench.pass_time(1.1)
    assert len(server.saved) == 1
    assert not bench.state.unsaved


def test_unsubmitted_work_is_offered_again_after_a_crash(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    click(bench, 8, 7)
    bench.pass_time(2.0)  # nothing else is called: the program is killed
    again = Bench(tmp_path, server)
    again.open()
    assert again.state.notice.action == "draft"
    assert not drawn(again).any()
    again.annotator.act("draft")
    np.testing.assert_array_equal(drawn(again), disc(8, 7, 3))
    assert again.state.unsaved
    again.annotator.submit()
    again.settle()
    third = Bench(tmp_path, server)
    third.open()
    assert third.state.draft_offer is None


def test_new_work_never_overwrites_a_draft_that_is_still_offered(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    click(bench, 8, 7)
    bench.pass_time(2.0)
    again = Bench(tmp_path, server)
    again.open()
    click(again, 3, 3)
    again.pass_time(2.0)
    again.annotator.take_draft()
    np.testing.assert_array_equal(drawn(again), disc(8, 7, 3))


def test_what_was_drawn_before_a_draft_is_taken_is_kept_as_another(bench: Bench, server: ScriptedServer, tmp_path: Path) -> None:
    click(bench, 8, 7)
    bench.pass_time(2.0)
    again = Bench(tmp_path, server)
    again.open()
    click(again, 3, 3)
    again.annotator.take_draft()
    again.annotator.submit()
    again.settle()
    third = Bench(tmp_path, server)
    third.open()
    third.annotator.take_draft()
    np.testing.assert_array_equal(drawn(third), disc(3, 3, 3))


def test_a_full_disk_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DraftError("Your work could not be saved on this computer (No space left on device).")

    monkeypatch.setattr("FedSCALib.drafts.Drafts.save", full)
    click(bench, 8, 7)
    bench.pass_time(2.0)
    assert "No space" in bench.state.notice.text
    assert drawn(bench).any()


def test_propagation_draws_slices_as_they_come_and_is_one_undo(bench: Bench, server: ScriptedServer) -> None:
    click(bench, 8, 7)
    block = np.zeros((SIZE[1], SIZE[0]), bool)
    block[6:8, 7:9] = True
    found = {"change": change(np.zeros_like(block), block), "area": 4, "iou": 0.9}
    server.job = {
        "job": "job1", "kind": "propagate", "axis": "k", "label": "tumour", "state": "done", "done": 2, "total": 2,
        "slices": [{"number": 1, "index": 2, "result": "p2", **found}, {"number": 2, "index": 4, "result": "p4", **found}],
    }  # fmt: skip
    bench.annotator.propagate()
    bench.settle()
    assert drawn(bench, 2).sum() == drawn(bench, 4).sum() == 4
    assert "2 slices" in bench.state.notice.text
    bench.annotator.undo()
    assert not drawn(bench, 2).any()
    assert not drawn(bench, 4).any()
    np.testing.assert_array_equal(drawn(bench), disc(8, 7, 3))


def test_a_snapshot_holds_every_slice_of_every_axis(bench: Bench) -> None:
    """20 columns are no whole number of bytes."""
    before = np.random.default_rng(3).random(SIZE[::-1]) < 0.4
    bench.canvas.masks["tumour"][:] = before
    taken = Snapshot(bench.canvas, "tumour")
    bench.canvas.masks["tumour"][:] = False
    for number, axis in enumerate("kji"):
        for index in range(before.shape[number]):
            np.testing.assert_array_equal(taken.on(axis, index), before.take(index, axis=number), err_msg=f"{axis} {index}")


def test_a_new_version_is_announced_with_dice_before_and_after(bench: Bench, server: ScriptedServer) -> None:
    server.active = "a" * 16
    server.versions = [{"id": "a" * 16, "state": "active", "kind": "tuning", "round": None}]
    figures = {"overall": {"active": 0.712, "candidate": 0.841}}
    server.decisions = [{"number": 1, "action": "activated", "version": "a" * 16, "previous": "base", "figures": figures}]
    bench.pass_time(11)
    assert bench.state.notice.action == "accept"
    assert "0.71 before, 0.84 now" in bench.state.notice.text
    bench.annotator.activate("base", "worse on small ones")
    bench.settle()
    assert server.active == "base"
    assert "serves now" in bench.state.notice.text


def test_review_places_no_prompts(bench: Bench, server: ScriptedServer) -> None:
    bench.annotator.set_review(True)
    click(bench, 8, 7)
    assert server.clicks() == []


def test_labels_can_be_added_with_values_of_their_own(bench: Bench) -> None:
    bench.annotator.add_label("cyst")
    assert [(segment.name, segment.value) for segment in bench.state.labels] == [("tumour", 1), ("organ", 2), ("cyst", 3)]
    assert bench.state.label == "cyst"
    bench.annotator.next_label()
    assert bench.state.label == "tumour"


def test_waiting_is_shown_only_when_it_takes_long(bench: Bench, server: ScriptedServer) -> None:
    server.hold.clear()
    bench.annotator.add_point((8, 7, 3), "k")
    bench.annotator.deliver()
    assert bench.state.busy == ""
    bench.now += 0.5
    bench.annotator.deliver()
    assert bench.state.busy == "Segmenting"
    bench.annotator.cancel()
    bench.annotator.deliver()
    assert bench.state.busy == ""
    server.hold.set()
    bench.settle()
    assert not drawn(bench).any()
