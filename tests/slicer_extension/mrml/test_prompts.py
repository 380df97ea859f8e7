"""Markups become voxels and prompts become markups, on an oblique, left-handed case."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_geometry import AXES, ras_at
from FedSCALib.mrml_prompts import PromptEvents, PromptMarkups
from FedSCALib.mrml_scene import ijk_to_world, show_case, show_voxel
from FedSCALib.prompts import Point, PromptSet, voxel_on_slice

from tests.slicer_extension.mrml.images import oblique, written
from tests.slicer_extension.mrml.views import add_views

SIZE = (9, 8, 7)


class Bench:
    """A case, three views, and what the markups told."""

    def __init__(self, scene: Any, path: Path) -> None:
        markups_logic = slicer.vtkSlicerMarkupsLogic()
        markups_logic.SetMRMLScene(scene)
        self.keep = markups_logic
        self.scene = scene
        self.canvas = MrmlCanvas(scene)
        self.canvas.open_image(path, "case")
        add_views(scene)
        show_case(scene, self.canvas.volume_node)
        self.told: list[tuple[Any, ...]] = []
        self.queue: list[Callable[[], None]] = []
        self.markups = PromptMarkups(scene, self.canvas, PromptEvents(*[self.teller(name) for name in PromptEvents.__dataclass_fields__]))

    def teller(self, name: str) -> Callable[..., None]:
        return lambda *values: self.told.append((name, *values))

    def place(self, voxel: tuple[float, float, float]) -> Any:
        return ras_at(voxel, ijk_to_world(self.canvas.volume_node))

    def click(self, voxel: tuple[float, float, float], positive: bool = True) -> None:
        self.markups.points[positive].AddControlPointWorld(*self.place(voxel))

    def drag(self, number: int, voxel: tuple[float, float, float], positive: bool = True) -> None:
        node = self.markups.points[positive]
        node.SetNthControlPointPositionWorld(number, *self.place(voxel))
        node.InvokeEvent(node.PointEndInteractionEvent)

    def draw_box(self, axis: str, index: int, first: tuple[float, float], second: tuple[float, float]) -> None:
        self.markups.place("box", True)
        for x, y in (first, second):
            voxel = voxel_on_slice(axis, index, x, y)  # type: ignore[arg-type]
            self.markups.box.AddControlPointWorld(*self.place(voxel))

    def voxels(self, positive: bool) -> list[tuple[int, ...]]:
        """Where the markups are now, rounded to voxels."""
        node = self.markups.points[positive]
        matrix = np.linalg.inv(ijk_to_world(self.canvas.volume_node))
        places = [np.array([*node.GetNthControlPointPositionWorld(n), 1]) for n in range(node.GetNumberOfControlPoints())]
        return [tuple(round(float(value)) for value in (matrix @ place)[:3]) for place in places]


@pytest.fixture
def bench(scene: Any, tmp_path: Path) -> Bench:
    written(oblique(SIZE), tmp_path / "case.nii.gz")
    return Bench(scene, tmp_path / "case.nii.gz")


@pytest.mark.parametrize(("axis", "voxel"), [("k", (1, 1, 3)), ("i", (4, 1, 1)), ("j", (1, 3, 1))])
@pytest.mark.parametrize("positive", [True, False])
def test_a_click_is_a_voxel_on_the_axis_of_its_view(bench: Bench, axis: str, voxel: tuple[int, int, int], positive: bool) -> None:
    bench.click(tuple(n + 0.3 for n in voxel), positive)  # type: ignore[arg-type]
    assert bench.told == [("placed", voxel, axis, positive)]


def test_clicks_outside_of_the_image_are_told_and_taken_away(bench: Bench) -> None:
    bench.click((4, 40, 3))
    assert [name for name, *_ in bench.told] == ["refused"]
    assert "outside of the image" in bench.told[0][1]
    assert bench.voxels(True) == []


def test_points_are_dragged_and_removed(bench: Bench) -> None:
    bench.click((1, 1, 3))
    bench.click((2, 2, 3), positive=False)
    bench.drag(0, (5, 6, 3))
    bench.drag(0, (2.2, 2.1, 3), positive=False)
    assert bench.told[2:] == [("moved", "k", (1, 1, 3), (5, 6, 3))], "within a voxel nothing has moved"
    bench.drag(0, (50, 6, 3))
    assert bench.told[3][0] == "refused"
    assert bench.voxels(True) == [(5, 6, 3)], "a point that is dragged out goes back"
    bench.markups.points[False].RemoveNthControlPoint(0)
    assert bench.told[4:] == [("removed", "k", (2, 2, 3))]


def test_reading_can_wait_until_slicer_is_done(bench: Bench) -> None:
    waiting: list[Callable[[], None]] = []
    markups = PromptMarkups(
        bench.scene, bench.canvas, PromptEvents(*[bench.teller(name) for name in PromptEvents.__dataclass_fields__]), waiting.append
    )
    markups.points[True].AddControlPointWorld(*bench.place((1, 1, 3)))
    assert bench.told == []
    show_voxel(bench.scene, bench.canvas.volume_node, (0, 0, 0))
    for work in waiting:
        work()
    assert bench.told == [("placed", (1, 1, 3), "k", True)], "the view is the one that was clicked in, though it has moved on"


def test_a_point_that_is_not_yet_read_survives_a_redraw(bench: Bench) -> None:
    waiting: list[Callable[[], None]] = []
    events = PromptEvents(*[bench.teller(name) for name in PromptEvents.__dataclass_fields__])
    markups = PromptMarkups(bench.scene, bench.canvas, events, waiting.append)
    markups.points[True].AddControlPointWorld(*bench.place((1, 1, 3)))
    markups.show([])
    waiting[0]()
    assert bench.told == [("placed", (1, 1, 3), "k", True)]
    markups.show([])
    assert markups.points[True].GetNumberOfControlPoints() == 0


def test_every_box_is_told_once(bench: Bench) -> None:
    """Slicer leaves out the second corner's PointPositionDefinedEvent now and then."""
    for number in range(100):
        bench.told.clear()
        bench.draw_box("k", 3, (1.2, 5.3), (4.1, 1.8))
        assert bench.told == [("boxed", "k", 3, (1, 2, 4, 5))], number


@pytest.mark.parametrize("axis", AXES)
def test_a_box_is_the_pixels_between_its_corners(bench: Bench, axis: str) -> None:
    index = {"i": 4, "j": 3, "k": 3}[axis]
    bench.draw_box(axis, index, (1.2, 5.3), (4.1, 1.8))
    assert bench.told == [("boxed", axis, index, (1, 2, 4, 5))]
    bench.markups.box.SetCenterWorld(*bench.place((300, 300, 300)))
    bench.markups.box.InvokeEvent(bench.markups.box.PointEndInteractionEvent)
    assert bench.told[1][0] == "refused"


@pytest.mark.parametrize("axis", AXES)
def test_prompts_are_shown_and_do_not_come_back_as_a_persons_doing(bench: Bench, axis: str) -> None:
    index = {"i": 4, "j": 3, "k": 3}[axis]
    points = (Point(voxel_on_slice(axis, index, 1, 2), True), Point(voxel_on_slice(axis, index, 5, 3), False))
    bench.markups.show([(axis, index, PromptSet(points=points, box=(1, 2, 5, 6)))])
    bench.markups.read()
    assert bench.told == []
    assert bench.voxels(True) == [points[0].ijk]
    assert bench.voxels(False) == [points[1].ijk]
    assert bench.markups.box.GetControlPointPlacementComplete()
    bench.markups.box.InvokeEvent(bench.markups.box.PointEndInteractionEvent)
    assert bench.told == [], "the box on the screen is the box of the prompts"
    bench.markups.show([])
    bench.markups.read()
    assert bench.told == []
    assert bench.voxels(True) == bench.voxels(False) == []
    assert not bench.markups.box.GetControlPointPlacementComplete()


def test_a_placed_point_stays_where_it_was_clicked(bench: Bench) -> None:
    bench.click((1.3, 1.4, 3.2))
    before = list(bench.markups.points[True].GetNthControlPointPositionWorld(0))
    bench.markups.show([("k", 3, PromptSet(points=(Point((1, 1, 3), True), Point((4, 4, 3), True))))])
    assert list(bench.markups.points[True].GetNthControlPointPositionWorld(0)) == before
    bench.drag(0, (2, 1, 3))
    assert bench.told[1:] == [("moved", "k", (1, 1, 3), (2, 1, 3))]


def test_undo_and_redo_of_points_are_shown(bench: Bench) -> None:
    bench.click((1, 1, 3))
    bench.click((4, 4, 3))
    one = PromptSet(points=(Point((1, 1, 3), True),))
    bench.markups.show([("k", 3, one)])
    assert bench.voxels(True) == [(1, 1, 3)]
    bench.markups.show([("k", 3, one.with_point(Point((4, 4, 3), True)))])
    assert bench.voxels(True) == [(1, 1, 3), (4, 4, 3)]
    assert len(bench.told) == 2


def test_a_stroke_is_drawn_on_its_slice(bench: Bench) -> None:
    bench.markups.place("scribble", False)
    for x in (1, 6):
        bench.markups.stroke.AddControlPointWorld(*bench.place((x, 4, 3)))
    bench.markups.take_stroke()
    name, axis, index, mask, sign = bench.told[0]
    assert (name, axis, index, sign) == ("stroked", "k", 3, False)
    assert mask.shape == (8, 9)
    assert mask[4, 1:7].all()
    assert not mask[4, 8]
    assert not mask[1].any()
    assert bench.markups.stroke.GetNumberOfControlPoints() == 0
    bench.markups.take_stroke()
    assert len(bench.told) == 1


def test_placing_is_slicers_own(bench: Bench) -> None:
    selection = bench.scene.AddNode(slicer.vtkMRMLSelectionNode())
    interaction = bench.scene.AddNode(slicer.vtkMRMLInteractionNode())
    bench.markups.place("point", False)
    assert interaction.GetCurrentInteractionMode() == interaction.Place
    assert selection.GetActivePlaceNodeID() == bench.markups.points[False].GetID()
    assert interaction.GetPlaceModePersistence() == 1
    bench.markups.place("box", True)
    assert selection.GetActivePlaceNodeID() == bench.markups.box.GetID()
    bench.markups.place("none", True)
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_closing_leaves_nothing_behind(bench: Bench) -> None:
    nodes = bench.scene.GetNumberOfNodes()
    markups = PromptMarkups(bench.scene, bench.canvas, bench.markups._events)
    assert bench.scene.GetNumberOfNodes() > nodes
    markups.close()
    assert bench.scene.GetNumberOfNodes() == nodes


def test_without_a_case_clicks_do_nothing(bench: Bench) -> None:
    bench.canvas.close_image()
    bench.markups.points[True].AddControlPointWorld(1, 2, 3)
    assert bench.told == []
    bench.markups.show([])
    assert bench.markups.points[True].GetNumberOfControlPoints() == 0
