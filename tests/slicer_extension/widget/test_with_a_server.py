"""A radiologist's work in the panel against a real MONAI Label server: from the address to the way back to an earlier version."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory

from .desk import Desk, desk
from .hospital import RunningHospital, box_around, largest_slice, make_hospital

EXTENSION = Path(__file__).parents[3] / "slicer_extension" / "FedSCA"
TUNING_SECONDS = 300.0


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHospital]:
    made = make_hospital(tmp_path_factory.mktemp("hospital"))
    made.start()
    try:
        for case in made.drawn.split.val:
            made.save_truth(case)
        yield made
    finally:
        made.stop()


@pytest.fixture
def bench(tmp_path: Path, hospital: RunningHospital) -> Iterator[Desk]:
    """Connected, as with an address typed without http://."""
    with desk(tmp_path, EXTENSION) as made:
        connect(made, hospital)
        yield made


def connect(made: Desk, hospital: RunningHospital) -> None:
    made.ui.addressEdit.setText(hospital.address)
    made.press("connectButton")
    made.until(lambda: made.state.connection == "on" and made.state.cases and made.state.versions, "the connection")


def next_case(bench: Desk) -> str:
    before = bench.state.case
    bench.press("nextButton")
    bench.until(lambda: bench.state.case not in (None, before) and bench.canvas.volume_node is not None, "the next case")
    return str(bench.state.case)


def mask(bench: Desk, index: int) -> np.ndarray:
    return bench.canvas.slice_mask("lesion", "k", index)


def volume_mask(bench: Desk) -> np.ndarray:
    return np.stack([mask(bench, number) for number in range(6)])


def answered(bench: Desk, index: int) -> bool:
    """Whether no request for this slice is under way."""
    return bool(bench.widget.logic.jobs.running(f"segment {bench.state.label} k {index}") == 0)


def draw_box(bench: Desk, hospital: RunningHospital, case: str) -> int:
    """B, and two clicks around the lesion in its largest slice; returns the slice once the mask is there."""
    truth = hospital.truth(case)
    index = largest_slice(truth)
    bench.look_at("k", index)
    bench.key("B")
    bench.drag_box(*box_around(truth, index))
    bench.until(lambda: mask(bench, index).any(), "the box's mask")
    return index


def test_one_glance_after_connecting(bench: Desk, hospital: RunningHospital) -> None:
    assert bench.state.address == hospital.url
    assert bench.ui.siteLabel.text == "riverside"
    assert (bench.ui.baseValue.text, bench.ui.versionValue.text) == ("litemedsam", "base, not tuned")
    assert bench.ui.tuningValue.text == "waits for labels"
    assert bench.ui.roundValue.text == "none yet"
    assert not bench.ui.connectionCard.visible, "it closes by itself"
    assert "2 of 5 labelled" in bench.ui.worklistSection.text
    assert bench.ui.strategyCombo.count >= 2
    assert bench.ui.tagCombo.currentText == "final"


def test_testing_a_connection_needs_no_image_and_changes_nothing(bench: Desk, hospital: RunningHospital) -> None:
    bench.press("connectionToggle")
    bench.ui.addressEdit.setText(f"  {hospital.address}/ ")
    bench.press("testButton")
    bench.until(lambda: "answers" in bench.ui.noticeText.text, "the answer")
    assert bench.state.case is None


def test_a_box_a_point_undo_and_redo(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    index = draw_box(bench, hospital, case)
    assert bench.ui.caseName.text == case
    assert bench.ui.boxTool.checked
    boxed = mask(bench, index).copy()
    outside = [number for number in range(6) if number != index]
    assert not any(mask(bench, number).any() for number in outside), "a prompt fills its own slice only"

    bench.key("P")
    bench.key("T")
    assert bench.ui.excludeButton.checked
    assert bench.ui.pointTool.checked
    row, column = np.argwhere(boxed)[0]
    bench.click_voxel(int(column), int(row), index)
    bench.until(lambda: not np.array_equal(mask(bench, index), boxed), "the point's mask")
    pointed = mask(bench, index).copy()
    assert [point.positive for point in bench.annotator.prompts_on("k", index).points] == [False]

    bench.key("Ctrl+Z")
    assert np.array_equal(mask(bench, index), boxed)
    assert bench.widget.hands.markups.points[False].GetNumberOfDefinedControlPoints() == 0, "the markup goes with its mask"
    bench.key("Ctrl+Y")
    assert np.array_equal(mask(bench, index), pointed)
    bench.press("undoButton")
    bench.press("undoButton")
    assert bench.canvas.empty()
    assert not bench.ui.undoButton.enabled
    assert bench.annotator.prompts_on("k", index).empty


def test_a_stroke_is_a_prompt(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    truth = hospital.truth(case)
    index = draw_box(bench, hospital, case)
    boxed = mask(bench, index).copy()
    bench.key("S")
    rows, columns = np.nonzero(truth[index])
    bench.stroke([(int(columns.min()) + step, int(rows.mean()), index) for step in range(5)])
    bench.until(lambda: bench.annotator.prompts_on("k", index).scribble is not None, "the stroke")
    bench.until(lambda: answered(bench, index) and not np.array_equal(mask(bench, index), boxed), "its mask")


def test_painting_by_hand_is_kept_and_a_locked_label_stays(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    index = draw_box(bench, hospital, case)
    bench.key("D")
    editor = bench.widget.hands.editor.widget
    assert (editor.activeEffect().name, bench.ui.paintTool.checked) == ("Paint", True)
    editor.stroke("k", index, slice(0, 3), slice(0, 3))
    bench.until(lambda: mask(bench, index)[:3, :3].all() and bench.state.unsaved, "the stroke")
    bench.key("X")
    assert editor.activeEffect().name == "Erase"
    bench.key("P")
    assert editor.activeEffect() is None

    bench.click_label("lesion", 2)
    kept = mask(bench, index).copy()
    bench.key("R")
    assert np.array_equal(mask(bench, index), kept), "locked"


def test_another_label_takes_nothing_from_the_first(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    index = draw_box(bench, hospital, case)
    kept = mask(bench, index).copy()
    bench.ui.newLabelEdit.setText("cyst")
    bench.press("addLabelButton")
    assert bench.state.label == "cyst"
    assert bench.ui.labelTree.topLevelItemCount == 2
    bench.key("B")
    bench.drag_box(*box_around(hospital.truth(case), index, margin=4))
    bench.until(lambda: bench.annotator.prompts_on("k", index).box is not None and answered(bench, index), "the answer to the box")
    assert np.array_equal(mask(bench, index), kept)
    bench.key("E")
    assert bench.state.label == "lesion"
    bench.key("V")
    assert not bench.state.labels[0].visible


def test_review_is_without_the_model(bench: Desk, hospital: RunningHospital) -> None:
    case = hospital.drawn.split.val[0]
    bench.annotator.open_case(case)
    bench.until(lambda: bench.state.case == case, "the labelled case")
    truth = hospital.truth(case)
    index = largest_slice(truth)
    assert np.array_equal(mask(bench, index), truth[index]), "its label came with it"
    bench.ui.reviewCheck.setChecked(True)
    bench.spin()
    assert not bench.ui.pointTool.enabled
    assert not bench.ui.autoButton.enabled
    assert bench.ui.paintTool.enabled
    assert "review" in bench.ui.caseDetail.text


def test_propagation_fills_neighbours_and_is_one_step(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    index = draw_box(bench, hospital, case)
    drawn = volume_mask(bench)
    bench.key("G")
    bench.until(lambda: "slices were filled" in bench.ui.noticeText.text, "the propagation")
    filled = [number for number in range(len(drawn)) if number != index and mask(bench, number).any()]
    assert len(filled) == int(bench.ui.noticeText.text.split()[0]) >= 1
    bench.key("Ctrl+Z")
    np.testing.assert_array_equal(volume_mask(bench), drawn)


def test_the_whole_volume_is_segmented_without_prompts_or_stopped(bench: Desk, hospital: RunningHospital) -> None:
    """The untuned base finds nothing without prompts: what counts here is that the job runs to its end, or ends at Esc."""
    next_case(bench)
    bench.press("volumeButton")
    bench.until(lambda: bench.state.progress is not None, "progress")
    bench.until(lambda: bench.state.progress is None and not bench.state.busy, "the end of the volume")
    assert bench.ui.noticeBar.property("kind") != "error"
    bench.press("volumeButton")
    bench.until(lambda: bench.state.progress is not None, "progress")
    bench.key("Esc")
    bench.until(lambda: bench.state.progress is None and not bench.state.busy, "the end after Esc")


def test_a_draft_is_offered_and_taken_after_a_crash(tmp_path: Path, hospital: RunningHospital) -> None:
    with desk(tmp_path, EXTENSION) as made:
        connect(made, hospital)
        case = next_case(made)
        index = draw_box(made, hospital, case)
        drawn = mask(made, index).copy()
        made.until(lambda: list(tmp_path.rglob("draft-*.json")), "the draft")
    with desk(tmp_path, EXTENSION) as made:
        connect(made, hospital)
        made.annotator.open_case(case)
        made.until(lambda: made.state.notice is not None and made.state.notice.action == "draft", "the offer")
        made.press("noticeAction")
        made.until(lambda: made.state.case == case and mask(made, index).any(), "the draft's mask")
        np.testing.assert_array_equal(mask(made, index), drawn)
        assert made.annotator.prompts_on("k", index).box is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_server_costs_nothing_that_was_drawn(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    truth = hospital.truth(case)
    index = draw_box(bench, hospital, case)
    drawn = mask(bench, index).copy()
    hospital.kill()

    other = index + 1 if truth[index + 1 : index + 2].any() else index - 1
    bench.look_at("k", other)
    bench.key("B")
    bench.drag_box(*box_around(truth, other))
    bench.until(lambda: bench.state.connection == "lost", "the loss to be noticed")
    assert "reconnecting" in bench.ui.siteLabel.text
    assert bench.ui.noticeBar.property("kind") == "warning"
    assert np.array_equal(mask(bench, index), drawn)
    assert bench.annotator.prompts_on("k", other).box is not None

    hospital.start()
    bench.until(lambda: bench.state.connection == "on", "the way back")
    bench.until(lambda: mask(bench, other).any(), "the answer to the box that was drawn while the server was away")
    assert np.array_equal(mask(bench, index), drawn)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_submit_leads_to_a_version_that_can_be_rolled_back(bench: Desk, hospital: RunningHospital) -> None:
    case = next_case(bench)
    index = draw_box(bench, hospital, case)
    drawn = mask(bench, index).copy()
    bench.key("Ctrl+Return")
    bench.until(lambda: not bench.state.unsaved, "the label to be confirmed")
    kept = hospital.label(case)
    assert np.array_equal(kept[index] == 1, drawn)
    assert set(np.unique(kept)) <= {0, 1}

    bench.until(lambda: bench.state.versions.active != "base", "a new version", TUNING_SECONDS)
    version = bench.state.versions.active
    bench.until(lambda: bench.ui.versionValue.text.startswith(version[:8]), "the new version at the top")
    assert "before" in bench.ui.noticeText.text
    assert "Dice" in bench.ui.noticeText.text
    bench.press("noticeAction")
    assert bench.state.notice is None

    bench.ui.versionsSection.setCollapsed(False)
    bench.until(lambda: bench.ui.versionsTree.topLevelItemCount == 2, "the list")
    bench.widget.panel.versions.choose("base")
    assert bench.ui.activateButton.text == "Use base"
    bench.ui.rollbackReason.setText("Leaks into the stomach.")
    bench.press("activateButton")
    bench.until(lambda: bench.state.versions.active == "base" and bench.ui.versionValue.text == "base, not tuned", "the way back")
    assert bench.state.versions.decisions[-1].reason == "Leaks into the stomach."
    assert not bench.ui.activateButton.enabled

    # A gate turns the version away for little, and learning goes on from it: the list says so, and one click leaves it.
    with Registry(SiteDirectory.open(hospital.drawn.root)) as registry:
        registry.reject(version, reason="A little worse.", learn="Tunings and rounds go on from it all the same.")
    bench.annotator.refresh_versions()
    bench.until(lambda: bench.ui.activateButton.text == "Go on from base", "the list to say what is learned from")
    assert bench.ui.activateButton.enabled
    assert bench.ui.versionsTree.topLevelItem(0).text(1).endswith("learned from")
    assert f"go on from {version[:8]}" in bench.ui.versionDetail.text
    bench.press("activateButton")
    bench.until(lambda: bench.state.versions.learnt_from == "base", "the base to be learned from again")
    bench.until(lambda: not bench.ui.activateButton.enabled, "nothing more to choose")


def test_a_volume_of_my_own_is_uploaded_once(
    bench: Desk, hospital: RunningHospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "my own.nii.gz"
    mine.write_bytes(next(iter(hospital.drawn.images.values())).read_bytes())
    qt = sys.modules["qt"]
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *_: str(mine))
    before = {item.id for item in bench.state.cases}
    bench.press("uploadButton")
    bench.until(lambda: bench.state.case not in (None, *before) and bench.canvas.volume_node is not None, "the uploaded case")
    assert {item.id for item in bench.state.cases} - before == {bench.state.case}
    index = 2
    bench.look_at("k", index)
    bench.key("B")
    bench.drag_box((20, 20, index), (60, 60, index))
    bench.until(lambda: mask(bench, index).any(), "its mask")
