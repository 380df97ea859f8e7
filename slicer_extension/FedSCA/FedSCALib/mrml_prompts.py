"""Prompts as Slicer's markups: points of two colours, one box, one stroke; what a person places becomes voxels, and prompts become markups.

Events come while Slicer's widgets are in the middle of placing a point, where removing one is not safe: what was placed is read
`later` (in Slicer a QTimer.singleShot(0, ...)), only the view it was placed in
is noted at once. A point outside of the image is told and taken away, never sent. Main thread only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import Voxel
from FedSCALib.mrml_box import box_of, drawn, empty_box, show_box
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_files import volume_size
from FedSCALib.mrml_geometry import COLUMN_AND_ROW, ijk_at, ras_at, slice_size, stroke_mask, voxel_at
from FedSCALib.mrml_scene import ijk_to_world, slice_in_view, view_at
from FedSCALib.prompts import PromptSet
from FedSCALib.translate import tr
from FedSCALib.wire import Box

COLORS = {True: (0.2, 0.9, 0.4), False: (1.0, 0.35, 0.25)}
BOX_COLOR = (0.35, 0.7, 1.0)
STROKE_RADIUS = 1.5  # pixels
PointKey = tuple[bool, str]  # sign, and the id of the point, which is unique in its node only
SINGLETONS = {"selection": "vtkMRMLSelectionNodeSingleton", "interaction": "vtkMRMLInteractionNodeSingleton"}


@dataclass(frozen=True)
class PromptEvents:
    """What a person did with markups; each is called on the main thread.

    Attributes:
        placed: voxel, axis of the view, sign.
        moved: axis, old voxel, new voxel.
        removed: axis, voxel.
        boxed: axis, slice index, box x0, y0, x1, y1.
        stroked: axis, slice index, pixels (rows, columns), sign.
        refused: a sentence that says why nothing came of it.
    """

    placed: Callable[[Voxel, str, bool], None]
    moved: Callable[[str, Voxel, Voxel], None]
    removed: Callable[[str, Voxel], None]
    boxed: Callable[[str, int, Box], None]
    stroked: Callable[[str, int, NDArray[np.bool_], bool], None]
    refused: Callable[[str], None]


@dataclass(frozen=True)
class Known:
    """A point that the prompts have."""

    voxel: Voxel
    axis: str


def _now(work: Callable[[], None]) -> None:
    work()


class PromptMarkups:
    """The markups nodes of the prompts of one canvas.

    Args:
        scene: where the nodes live; they are not saved with it.
        canvas: whose image the voxels are of.
        events: what to call.
        later: runs a function once Slicer has finished with the current event.
    """

    def __init__(self, scene: Any, canvas: MrmlCanvas, events: PromptEvents, later: Callable[[Callable[[], None]], None] = _now) -> None:
        self._scene = scene
        self._canvas = canvas
        self._events = events
        self._later = later
        self._known: dict[PointKey, Known] = {}
        self._axis_of_new: dict[PointKey, str] = {}
        self._box: tuple[str, int, Box] | None = None
        self._box_view: tuple[str, int] | None = None
        self._stroke_view: tuple[str, int] | None = None
        self._drawing = False
        self._observed: list[tuple[Any, int]] = []
        self.points = {
            sign: self._node("vtkMRMLMarkupsFiducialNode", f"Prompts {'+' if sign else '-'}", COLORS[sign]) for sign in (True, False)
        }
        self.box = self._node("vtkMRMLMarkupsROINode", "Prompt box", BOX_COLOR)
        self.stroke = self._node("vtkMRMLMarkupsCurveNode", "Prompt stroke", COLORS[True])
        for node in (*self.points.values(), self.box, self.stroke):
            self._observe(node, node.PointPositionDefinedEvent, self._defined)
            self._observe(node, node.PointEndInteractionEvent, self._edited)
        self._observe(self.box, self.box.PointAddedEvent, self._box_added)
        for node in self.points.values():
            self._observe(node, node.PointRemovedEvent, self._edited)
        interaction = self._singleton("interaction")
        if interaction is not None:
            self._observe(interaction, interaction.EndPlacementEvent, self._placement_ended)
        self._stroke_sign = True

    # Placing

    def place(self, tool: str, positive: bool) -> None:
        """Let the next clicks in a view place this: "point", "box", "scribble"; anything else ends placing."""
        node = {"point": self.points[positive], "box": self.box, "scribble": self.stroke}.get(tool)
        if tool == "box":
            self._clear_box()
        if tool == "scribble":
            self._stroke_sign, self._stroke_view = positive, None
            self._quietly(self.stroke.RemoveAllControlPoints)
            self.stroke.GetDisplayNode().SetSelectedColor(*COLORS[positive])
        selection, interaction = self._singleton("selection"), self._singleton("interaction")
        if selection is None or interaction is None:
            return
        if node is None:
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
            return
        selection.SetReferenceActivePlaceNodeClassName(node.GetClassName())
        selection.SetActivePlaceNodeID(node.GetID())
        interaction.SetPlaceModePersistence(1 if tool == "point" else 0)
        interaction.SetCurrentInteractionMode(interaction.Place)

    # Showing

    def show(self, shown: Iterable[tuple[str, int, PromptSet]]) -> None:
        """Make the markups those of these slices (axis, index, prompts): after undo, another slice or label in view, a new case."""
        self._drawing = True
        try:
            self._show(list(shown))
        finally:
            self._drawing = False

    def close(self) -> None:
        """Remove the nodes and follow nothing any more."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()
        for node in (*self.points.values(), self.box, self.stroke):
            if node.GetDisplayNode() is not None:
                self._scene.RemoveNode(node.GetDisplayNode())
            self._scene.RemoveNode(node)

    # Reading

    def read(self) -> None:
        """Tell what is different in the markups from what is known."""
        if self._drawing or self._canvas.volume_node is None:
            return
        self._read_points()
        self._read_box()

    def take_stroke(self) -> None:
        """Tell the stroke that was drawn, and take it away."""
        volume = self._canvas.volume_node
        view, points = self._stroke_view, self._places(self.stroke)
        self._quietly(self.stroke.RemoveAllControlPoints)
        self._stroke_view = None
        if volume is None or view is None or not points:
            return
        axis, index = view
        matrix, size = ijk_to_world(volume), volume_size(volume)
        columns, rows = slice_size(size, axis)
        pixels = np.array([ijk_at(place, matrix) for place in points])[:, list(COLUMN_AND_ROW[axis])]
        mask = stroke_mask(pixels, (rows, columns), STROKE_RADIUS)
        if mask.any():
            self._events.stroked(axis, index, mask, self._stroke_sign)
        else:
            self._events.refused(tr("The stroke lies outside of the image. Draw it on the image."))

    # Inside

    def _defined(self, node: Any, _event: str) -> None:
        """Something was placed: note the view now, while the mouse is in it."""
        volume = self._canvas.volume_node
        if self._drawing or volume is None:
            return
        places = self._places(node)
        view = view_at(self._scene, places[-1], volume) if places else None
        shown = slice_in_view(view, volume) if view is not None else None
        if node is self.stroke:
            self._stroke_view = self._stroke_view or shown
            return
        if node is self.box:
            self._box_view = shown or self._box_view
        else:
            for key in self._keys(node is self.points[True]):
                if key not in self._known:
                    self._axis_of_new.setdefault(key, shown[0] if shown else "k")
        self._later(self.read)

    def _edited(self, _node: Any, _event: str) -> None:
        if not self._drawing:
            self._later(self.read)

    def _box_added(self, node: Any, _event: str) -> None:
        """The centre took the corners' place. Slicer leaves out the second corner's PointPositionDefinedEvent in about one box of ten."""
        if not self._drawing and self._box is None and self._box_view is not None and drawn(node):
            self._later(self.read)

    def _placement_ended(self, _node: Any, _event: str) -> None:
        if not self._drawing and self._places(self.stroke):
            self._later(self.take_stroke)

    def _read_points(self) -> None:
        volume = self._canvas.volume_node
        matrix, size = ijk_to_world(volume), volume_size(volume)
        told: list[Callable[[], None]] = []  # what is called may change the markups: first look at all of them
        present: set[PointKey] = set()
        for positive, node in self.points.items():
            for key, place in zip(self._keys(positive), self._places(node)):
                present.add(key)
                told += self._difference(key, voxel_at(place, matrix, size))
        for key in [key for key in self._known if key not in present]:
            gone = self._known.pop(key)
            told.append(partial(self._events.removed, gone.axis, gone.voxel))
        for tell in told:
            tell()

    def _difference(self, key: PointKey, voxel: Voxel | None) -> list[Callable[[], None]]:
        """What there is to tell about one point."""
        known = self._known.get(key)
        if voxel is None:
            self._axis_of_new.pop(key, None)
            self._put_back(key, known)
            return [partial(self._events.refused, tr("This point lies outside of the image. Click on the image."))]
        if known is None:
            axis = self._axis_of_new.pop(key, "k")
            self._known[key] = Known(voxel, axis)
            return [partial(self._events.placed, voxel, axis, key[0])]
        if known.voxel != voxel:
            self._known[key] = Known(voxel, known.axis)
            return [partial(self._events.moved, known.axis, known.voxel, voxel)]
        return []

    def _put_back(self, key: PointKey, known: Known | None) -> None:
        """Undo what a person did with a point that is outside of the image now."""
        node = self.points[key[0]]
        number = node.GetNthControlPointIndexByID(key[1])
        if known is None:
            self._quietly(partial(node.RemoveNthControlPoint, number))
        else:
            place = ras_at(known.voxel, ijk_to_world(self._canvas.volume_node))
            self._quietly(partial(node.SetNthControlPointPositionWorld, number, *place))

    def _read_box(self) -> None:
        if not drawn(self.box) or self._box_view is None:
            return
        axis, index = self._box_view
        box = box_of(self.box, self._canvas.volume_node, axis)
        if box is None:
            self._clear_box()
            self._events.refused(tr("The box lies outside of the image. Draw it on the image."))
        elif (axis, index, box) != self._box:
            self._box = (axis, index, box)
            self._events.boxed(axis, index, box)

    def _show(self, shown: list[tuple[str, int, PromptSet]]) -> None:
        volume = self._canvas.volume_node
        wanted = {(point.ijk, point.positive): axis for axis, _, prompts in shown for point in prompts.points}
        self._known.clear()
        for positive, node in self.points.items():
            self._show_points(node, positive, {voxel: axis for (voxel, sign), axis in wanted.items() if sign is positive})
        boxes = [(axis, index, prompts.box) for axis, index, prompts in shown if prompts.box is not None]
        if volume is None or not boxes:
            self._clear_box()
        elif boxes[0] != self._box or not drawn(self.box):
            axis, index, box = boxes[0]
            show_box(self.box, volume, axis, index, box)
            self._box, self._box_view = boxes[0], (axis, index)

    def _show_points(self, node: Any, positive: bool, wanted: dict[Voxel, str]) -> None:
        """Keep markups that are right where they are, to a fraction of a voxel, and change only the others."""
        volume = self._canvas.volume_node
        missing = dict(wanted)
        for number in reversed(range(node.GetNumberOfControlPoints())):
            if node.GetNthControlPointPositionStatus(number) != node.PositionDefined:
                continue  # what follows the mouse
            if (positive, node.GetNthControlPointID(number)) in self._axis_of_new:
                continue  # placed, and not yet read
            place = node.GetNthControlPointPositionWorld(number)
            voxel = voxel_at(place, ijk_to_world(volume), volume_size(volume)) if volume is not None else None
            if voxel in missing:
                self._known[positive, node.GetNthControlPointID(number)] = Known(voxel, missing.pop(voxel))
            else:
                node.RemoveNthControlPoint(number)
        for voxel, axis in missing.items() if volume is not None else ():
            number = node.AddControlPointWorld(*ras_at(voxel, ijk_to_world(volume)))
            self._known[positive, node.GetNthControlPointID(number)] = Known(voxel, axis)

    def _clear_box(self) -> None:
        self._quietly(partial(empty_box, self.box, self._canvas.volume_node))
        self._box = self._box_view = None

    def _quietly(self, work: Callable[[], Any]) -> None:
        """Change markups without telling it as a person's doing."""
        was, self._drawing = self._drawing, True
        try:
            work()
        finally:
            self._drawing = was

    def _keys(self, positive: bool) -> list[PointKey]:
        node = self.points[positive]
        return [(positive, node.GetNthControlPointID(number)) for number in self._defined_numbers(node)]

    def _places(self, node: Any) -> list[Any]:
        """World RAS of the points that are placed."""
        return [node.GetNthControlPointPositionWorld(number) for number in self._defined_numbers(node)]

    def _defined_numbers(self, node: Any) -> list[int]:
        return [n for n in range(node.GetNumberOfControlPoints()) if node.GetNthControlPointPositionStatus(n) == node.PositionDefined]

    def _node(self, class_name: str, name: str, color: tuple[float, float, float]) -> Any:
        node = self._scene.AddNewNodeByClass(class_name, name)
        node.SetSaveWithScene(False)
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        if display is not None:
            display.SetSaveWithScene(False)
            display.SetSelectedColor(*color)
            display.SetColor(*color)
            display.SetPointLabelsVisibility(False)
            display.SetPropertiesLabelVisibility(False)
            display.SetSnapMode(display.SnapModeUnconstrained)
        return node

    def _observe(self, node: Any, event: int, react: Callable[[Any, str], None]) -> None:
        self._observed.append((node, node.AddObserver(event, react)))

    def _singleton(self, which: str) -> Any:
        return self._scene.GetNodeByID(SINGLETONS[which])
