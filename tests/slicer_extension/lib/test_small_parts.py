import json
import threading
from pathlib import Path

import numpy as np
import pytest
from FedSCALib.address import normalise
from FedSCALib.canvas import Crop
from FedSCALib.composing import compose, difference, rebase
from FedSCALib.errors import AddressError, BadReply
from FedSCALib.history import to_redo, to_undo
from FedSCALib.jobs import Jobs
from FedSCALib.packets import Info, Status, Versions, read_cases
from FedSCALib.preferences import FilePreferences
from FedSCALib.prompts import Point, PromptSet, box_to_roi, pixel_of, voxel_on_slice
from FedSCALib.transport import file_name, refusal
from FedSCALib.wire import apply_change, bounds, pack, unpack
from FedSCALib.worklist import case_name
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monailabel_app.mask_wire import pack as pack_at_the_server

MASK = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))
SECONDS = 60.0


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("hospital:8000", "http://hospital:8000"),
        ("  http://Hospital:8000/ ", "http://hospital:8000"),
        ("https://label.example.org/monai/", "https://label.example.org/monai"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_completed(typed: str, address: str) -> None:
    assert normalise(typed) == address


@pytest.mark.parametrize("typed", ["", "   ", "ftp://x", "http://", "x:99999", "x:port", "u:p@host", "http://a b", "host:8000?x=1", "x:0"])
def test_what_is_no_address_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(AddressError) as refused:
        normalise(typed)
    assert len(refused.value.message) > 20


@given(MASK)
def test_masks_survive_the_wire_and_are_packed_as_the_server_packs(mask: np.ndarray) -> None:
    box = (3, 4, 3 + mask.shape[1] - 1, 4 + mask.shape[0] - 1)
    np.testing.assert_array_equal(unpack(box, pack(mask)), mask)
    np.testing.assert_array_equal(unpack(box, pack_at_the_server(mask)), mask)


@pytest.mark.parametrize("data", ["", "!!!", "eJwDAAAAAAE=", pack(np.ones((50, 50), bool)), pack(np.ones((1, 1), bool))])
def test_a_damaged_mask_is_no_crash(data: str) -> None:
    with pytest.raises(BadReply):
        unpack((0, 0, 9, 9), data)


def test_a_change_outside_of_the_slice_is_refused() -> None:
    with pytest.raises(BadReply):
        apply_change(np.zeros((4, 4), bool), (2, 2, 5, 3), np.ones((2, 4), bool))


@given(MASK, st.data())
def test_a_change_is_what_differs(before: np.ndarray, data: st.DataObject) -> None:
    after = data.draw(arrays(bool, before.shape))
    changed = difference(before, after)
    if changed is None:
        assert (before == after).all()
    else:
        np.testing.assert_array_equal(apply_change(before, *changed), after)
        assert changed[0] == bounds(before != after)


@given(st.data())
def test_undo_and_redo_leave_what_a_person_drew_since(data: st.DataObject) -> None:
    before, after, now = (data.draw(arrays(bool, (5, 6))) for _ in range(3))
    crop = Crop("a", "k", 0, (0, 0, 5, 4), before, after)
    pixels, where = to_undo(crop, now)
    undone = np.where(where, pixels, now)
    touched = (before != after) & (now == after)
    np.testing.assert_array_equal(undone[touched], before[touched])
    np.testing.assert_array_equal(undone[~touched], now[~touched])
    pixels, where = to_redo(crop, np.where(*to_undo(crop, after)[::-1], after))
    np.testing.assert_array_equal(np.where(where, pixels, before), after)


@given(st.sampled_from(["replace", "add", "subtract"]), st.data())
def test_a_second_answer_does_not_see_the_first(mode: str, data: st.DataObject) -> None:
    drawn, first, second = (data.draw(arrays(bool, (5, 6))) for _ in range(3))
    now = compose(mode, drawn, first)
    if mode != "replace":
        np.testing.assert_array_equal(compose(mode, rebase(mode, drawn, first, now), second), compose(mode, drawn, second))
    if mode == "add":
        assert (compose(mode, drawn, second) >= drawn).all()
    if mode == "subtract":
        assert (compose(mode, drawn, second) <= drawn).all()


@given(st.sampled_from("ijk"), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_voxels_and_pixels(axis: str, index: int, x: int, y: int) -> None:
    assert pixel_of(axis, voxel_on_slice(axis, index, x, y)) == (index, x, y)


def test_a_box_as_the_server_takes_it() -> None:
    assert box_to_roi("k", 7, (1, 2, 3, 4)) == [1, 3, 2, 4, 7, 7]
    assert box_to_roi("j", 7, (1, 2, 3, 4)) == [1, 3, 7, 7, 2, 4]
    assert box_to_roi("i", 7, (1, 2, 3, 4)) == [7, 7, 1, 3, 2, 4]


def test_prompt_sets_do_not_change() -> None:
    empty = PromptSet()
    one = empty.with_point(Point((1, 2, 3), True))
    assert empty.empty
    assert not one.empty
    assert one.with_point(Point((1, 2, 3), False)).points == (Point((1, 2, 3), False),)
    assert one.moved((1, 2, 3), (4, 5, 3)).points == (Point((4, 5, 3), True),)
    assert one.without_point((1, 2, 3)).empty
    assert empty.with_box((9, 8, 1, 2)).box == (1, 2, 9, 8)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="case1.nii.gz"', "case1.nii.gz"),
        ("attachment; filename=../../etc/passwd", "passwd"),
        ('attachment; filename="C:\\\\x\\\\y.nrrd"', "y.nrrd"),
        ("attachment; filename*=UTF-8''a.nii", "a.nii"),
        ('attachment; filename=".."', ""),
        ("inline", ""),
    ],
)
def test_the_servers_file_name_leaves_no_folder(header: str, name: str) -> None:
    assert file_name(header) == name


def test_a_refusal_says_what_the_server_said() -> None:
    assert refusal(400, b'{"detail": "Axis q."}', {}).message == "Axis q."
    assert refusal(500, b"<html>", {}).message.endswith("500.")
    assert type(refusal(401, b"", {})).__name__ == "LoginNeeded"


@pytest.mark.parametrize(
    ("file", "case"), [("a b.nii.gz", "a_b"), ("../x.nrrd", "x"), ("späte Aufnahme.mha", "sp_te_Aufnahme"), (".nii", "case")]
)
def test_a_case_is_named_after_its_file(file: str, case: str) -> None:
    assert case_name(file) == case


def test_replies_that_lack_what_is_needed_are_bad_replies() -> None:
    for reader in (Info.from_json, Status.from_json, Versions.from_json, read_cases):
        with pytest.raises(BadReply):
            reader(["no"])
    assert Info.from_json({"models": {"a": {"labels": ["x", "y"]}}}).labels == {"x": 1, "y": 2}
    assert [case.id for case in read_cases({"objects": {"b": {}, "A": {}}})] == ["A", "b"]


def test_preferences_survive_a_damaged_file(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    kept = FilePreferences(file)
    kept.set("address", "http://x")
    assert FilePreferences(file).get("address") == "http://x"
    file.write_text("{broken", encoding="utf-8")
    assert kept.get("address", "none") == "none"
    kept.set("address", "http://y")
    assert json.loads(file.read_text(encoding="utf-8")) == {"address": "http://y"}


def until_idle(jobs: Jobs) -> None:
    pause = threading.Event()
    for _ in range(int(SECONDS / 0.005)):
        jobs.deliver()
        if jobs.idle():
            return
        pause.wait(0.005)
    raise AssertionError("jobs did not end")


def test_callbacks_run_on_the_thread_that_delivers() -> None:
    jobs, where = Jobs(), []
    here = threading.current_thread()
    jobs.submit(
        "a",
        lambda _c, report: report(1),
        lambda _v: where.append(threading.current_thread()),
        progress=lambda _v: where.append(threading.current_thread()),
    )
    jobs.submit("b", lambda _c, _r: 1 / 0, failed=lambda error: where.append(type(error)))
    until_idle(jobs)
    assert where.count(here) == 2
    assert ZeroDivisionError in where
    assert jobs.close()


def test_cancelled_and_overtaken_work_never_calls_back() -> None:
    jobs, seen = Jobs(workers=1), []
    go = threading.Event()
    jobs.submit("a", lambda _c, _r: go.wait(SECONDS), seen.append)
    for number in range(3):
        jobs.submit("b", lambda _c, _r, number=number: number, seen.append, latest_only=True)
    assert jobs.cancel("a") == 1
    go.set()
    until_idle(jobs)
    assert seen == [2]
    assert jobs.close()


def test_a_lane_does_not_wait_for_another() -> None:
    jobs, seen = Jobs(workers=1), []
    go = threading.Event()
    jobs.submit("slow", lambda _c, _r: go.wait(SECONDS), lambda _v: seen.append("slow"), lane="poll")
    jobs.submit("quick", lambda _c, _r: None, lambda _v: (seen.append("quick"), go.set()))
    until_idle(jobs)
    assert seen == ["quick", "slow"]
    assert jobs.close()
