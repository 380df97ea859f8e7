"""Clicks in Slicer's views become masks in Slicer's segments and labels at the server: annotator, canvas and markups together, on an
oblique case."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_geometry import ras_at
from FedSCALib.mrml_prompts import PromptEvents, PromptMarkups
from FedSCALib.mrml_scene import ijk_to_world, show_case, show_voxel

from tests.slicer_extension.lib.bench import Bench
from tests.slicer_extension.lib.scripted_server import SIZE, ScriptedServer, disc
from tests.slicer_extension.mrml.images import oblique, same_grid, written
from tests.slicer_extension.mrml.views import add_views


class Reading(Bench):
    """A radiologist in front of three slice views."""

    def __init__(self, folder: Path, scene: Any) -> None:
        self.server = ScriptedServer(folder)
        self.image = written(oblique(SIZE), self.server.image)
        super().__init__(folder, self.server, MrmlCanvas(scene))
        self.scene = scene
        self.logic = slicer.vtkSlicerMarkupsLogic()
        self.logic.SetMRMLScene(scene)
        annotator = self.annotator
        self.refused: list[str] = []
        self.markups = PromptMarkups(
            scene,
            self.canvas,
            PromptEvents(
                placed=annotator.add_point,
                moved=lambda axis, old, new: annotator.move_point(old, new, axis),
                removed=lambda axis, voxel: annotator.remove_point(voxel, axis),
                boxed=annotator.set_box,
                stroked=lambda axis, index, mask, sign: annotator.add_scribble(axis, index, mask & sign, mask & (not sign)),
                refused=self.refused.append,
            ),
        )
        add_views(scene)
        self.open()
        show_case(scene, self.canvas.volume_node)
        annotator.changed.connect(lambda *_: self.draw())
        self.look(3)

    def look(self, index: int) -> None:
        """Scroll the axial view to a slice."""
        show_voxel(self.scene, self.canvas.volume_node, (10, 8, index))
        self.index = index
        self.annotator.view_slice("k", index)
        self.draw()

    def draw(self) -> None:
        self.markups.show([("k", self.index, self.annotator.prompts_on("k", self.index))])

    def click(self, x: int, y: int, positive: bool = True) -> None:
        place = ras_at((x + 0.2, y - 0.3, self.index), ijk_to_world(self.canvas.volume_node))
        self.markups.points[positive].AddControlPointWorld(*place)
        self.settle()

    def mask(self, label: str = "tumour") -> Any:
        return self.canvas.slice_mask(label, "k", self.index)

    def dots(self) -> tuple[int, int]:
        """How many points are on the screen: + and -."""
        return self.markups.points[True].GetNumberOfControlPoints(), self.markups.points[False].GetNumberOfControlPoints()


@pytest.fixture
def reading(tmp_path: Path, scene: Any) -> Reading:
    return Reading(tmp_path, scene)


def test_a_click_in_a_view_is_a_mask_at_that_place(reading: Reading) -> None:
    reading.click(8, 7)
    assert reading.server.clicks()[0]["foreground"] == [[8, 7, 3]]
    np.testing.assert_array_equal(reading.mask(), disc(8, 7, 3))
    assert reading.dots() == (1, 0)


def test_undo_and_redo_take_prompts_and_masks_together(reading: Reading) -> None:
    reading.click(8, 7)
    reading.click(12, 7)
    reading.click(10, 7, positive=False)
    states = [disc(8, 7, 3), disc(8, 7, 3) | disc(12, 7, 3), (disc(8, 7, 3) | disc(12, 7, 3)) & ~disc(10, 7, 3)]
    np.testing.assert_array_equal(reading.mask(), states[2])
    assert reading.dots() == (2, 1)
    for state, dots in ((states[1], (2, 0)), (states[0], (1, 0)), (np.zeros_like(states[0]), (0, 0))):
        reading.annotator.undo()
        reading.settle()
        np.testing.assert_array_equal(reading.mask(), state)
        assert reading.dots() == dots
    for state, dots in zip(states, ((1, 0), (2, 0), (2, 1)), strict=True):
        reading.annotator.redo()
        reading.settle()
        np.testing.assert_array_equal(reading.mask(), state)
        assert reading.dots() == dots
    assert len(reading.server.clicks()) == 3, "nobody was asked again"


def test_undo_keeps_what_was_painted_since(reading: Reading) -> None:
    reading.click(8, 7)
    painted = np.zeros_like(reading.mask())
    painted[14, 18] = True
    reading.canvas.write("tumour", "k", 3, (18, 14, 18, 14), np.ones((1, 1), bool), "add")  # as a brush of the Segment Editor does
    reading.annotator.undo()
    reading.settle()
    np.testing.assert_array_equal(reading.mask(), painted)


def test_an_edit_in_between_goes_along_with_the_next_click(reading: Reading) -> None:
    reading.click(8, 7)
    reading.canvas.write("tumour", "k", 3, (18, 14, 18, 14), np.ones((1, 1), bool), "add")
    reading.click(12, 7)
    assert "mask" in reading.server.clicks()[1]


def test_scrolling_shows_the_prompts_of_the_slice_in_view(reading: Reading) -> None:
    reading.click(8, 7)
    reading.look(4)
    assert reading.dots() == (0, 0)
    reading.click(5, 5)
    assert reading.server.clicks()[1]["index"] == 4
    assert "previous" not in reading.server.clicks()[1]
    reading.look(3)
    assert reading.dots() == (1, 0)
    np.testing.assert_array_equal(reading.mask(), disc(8, 7, 3))


def test_a_box_drawn_on_a_tilted_image_is_a_box_of_its_pixels(reading: Reading) -> None:
    reading.markups.place("box", True)
    for x, y in ((3, 4), (9, 11)):
        reading.markups.box.AddControlPointWorld(*ras_at((x, y, 3), ijk_to_world(reading.canvas.volume_node)))
    reading.settle()
    assert reading.server.clicks()[0]["roi"] == [3, 9, 4, 11, 3, 3]
    expected = np.zeros_like(reading.mask())
    expected[4:12, 3:10] = True
    np.testing.assert_array_equal(reading.mask(), expected)


def test_neighbours_and_locked_labels_are_kept(reading: Reading) -> None:
    reading.click(8, 7)
    reading.annotator.select_label("organ")
    reading.click(11, 7)
    np.testing.assert_array_equal(reading.mask("tumour"), disc(8, 7, 3))
    np.testing.assert_array_equal(reading.mask("organ"), disc(11, 7, 3) & ~disc(8, 7, 3))
    reading.annotator.set_locked("organ", True)
    reading.click(14, 7)
    np.testing.assert_array_equal(reading.mask("organ"), disc(11, 7, 3) & ~disc(8, 7, 3))


def test_clicks_outside_are_told_and_never_sent(reading: Reading) -> None:
    reading.click(-30, 7)
    assert reading.server.clicks() == []
    assert len(reading.refused) == 1
    assert reading.dots() == (0, 0)


def test_what_is_submitted_lies_exactly_where_it_was_clicked(reading: Reading, tmp_path: Path) -> None:
    reading.click(8, 7)
    reading.annotator.select_label("organ")
    reading.look(4)
    reading.click(5, 5)
    reading.annotator.submit()
    reading.until(lambda: reading.server.saved)
    path = tmp_path / "sent.nii.gz"
    path.write_bytes(reading.server.labels["case1"])
    label = sitk.ReadImage(str(path))
    expected = np.zeros(SIZE[::-1], np.uint8)
    expected[3] = disc(8, 7, 3)
    expected[4] = 2 * disc(5, 5, 3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), expected)
    assert same_grid(label, reading.image)
    told = reading.server.saved[0]["params"]
    info = json.loads(told)["label_info"] if isinstance(told, str) else json.loads(told[1])["label_info"]
    assert info == [{"name": "tumour", "idx": 1}, {"name": "organ", "idx": 2}]
