"""What the mouse does in the slice views: it places prompts (markups), or paints (Segment Editor); and what the views show.

Follows the annotator's state: tool, polarity, label, case. Main thread only.
Markups are read once Slicer has finished with the event that changed them.
"""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import qt
import slicer

from FedSCALib import qt_segment_editor
from FedSCALib.mrml_prompts import PromptEvents, PromptMarkups
from FedSCALib.mrml_scene import ViewWatcher, show_case, slice_in_view, slice_nodes
from FedSCALib.qt_segment_editor import SegmentEditor

PLACED = ("point", "box", "scribble")
BY_HAND = ("paint", "erase")


class Hands:
    """Connects slice views and annotator.

    Args:
        ui: for the brush's size, and the place of the Segment Editor.
    """

    def __init__(self, ui: Any, annotator: Any, canvas: Any) -> None:
        self._ui, self._annotator, self._canvas = ui, annotator, canvas
        self.by_hand = qt_segment_editor.available()
        self._held: Optional[Tuple[Any, ...]] = None
        self._volume_id = ""
        self._showing = False
        self.editor: Optional[SegmentEditor] = None
        self._drawn: Optional[Tuple[Any, int]] = None
        self._left_at = 0
        self._prompts: List[Any] = []
        events = PromptEvents(
            placed=lambda voxel, axis, positive: annotator.add_point(voxel, axis, positive),
            moved=self._moved,
            removed=lambda axis, voxel: annotator.remove_point(voxel, axis),
            boxed=annotator.set_box,
            stroked=self._stroked,
            refused=annotator.warn,
        )
        self.markups = PromptMarkups(slicer.mrmlScene, canvas, events, later=lambda work: qt.QTimer.singleShot(0, work))
        self.watcher = ViewWatcher(slicer.mrmlScene, lambda: canvas.volume_node, self._looked)
        ui.editorSection.setVisible(self.by_hand)
        ui.brushSlider.connect("valueChanged(int)", self._brush)
        annotator.changed.connect(self.show)

    def show(self, *_: Any) -> None:
        """Take up the state's tool, and draw its prompts in the views."""
        if self._showing:
            return
        self._showing = True
        try:
            self._show_case()
            self.markups.read()  # a point that was just placed must be known before prompts are drawn
            self._show_prompts()
            self._hold()
        finally:
            self._showing = False

    def again(self) -> None:
        """Place the next one: after a box, B begins another."""
        self._held = None
        self.show()

    def enter(self) -> None:
        """The module is shown again: take the tool up, and see whether another module drew in the case."""
        if self._segmentation_time() != self._left_at and self._annotator.state.case:
            self._annotator.refresh_labels()
            self._annotator.edited()
        self.again()

    def leave(self) -> None:
        """Another module is shown: nothing is placed or painted by accident; the tool stays chosen."""
        self.markups.place("none", True)
        self._lay_brush_down()
        self._held = None
        self._left_at = self._segmentation_time()

    def undo(self) -> None:
        """The last stroke while painting, else the last prompt."""
        if self.editor is not None and self.editor.active():
            self.editor.undo()
        else:
            self._annotator.undo()

    def redo(self) -> None:
        """The other way."""
        if self.editor is not None and self.editor.active():
            self.editor.redo()
        else:
            self._annotator.redo()

    def close(self) -> None:
        """Remove the markups, follow nothing any more."""
        self._annotator.changed.disconnect(self.show)
        self.leave()
        self.watcher.close()
        self.markups.close()
        if self.editor is not None:
            self.editor.close()

    def _show_case(self) -> None:
        volume = self._canvas.volume_node
        found = volume.GetID() if volume is not None else ""
        if found == self._volume_id:
            return
        self._volume_id = found
        self._held = None
        self._prompts = []
        if volume is not None:
            show_case(slicer.mrmlScene, volume, slicer.app.applicationLogic())
            self.watcher.refresh()

    def _show_prompts(self) -> None:
        volume = self._canvas.volume_node
        places = [slice_in_view(node, volume) for node in slice_nodes(slicer.mrmlScene)] if volume is not None else []
        shown = [(*place, self._annotator.prompts_on(*place)) for place in sorted({place for place in places if place is not None})]
        if _same(shown, self._prompts):
            return  # also because drawing them anew would take away a box of which only the first corner is there
        self._prompts = shown
        self.markups.show(shown)

    def _hold(self) -> None:
        state = self._annotator.state
        held = (state.tool, state.polarity, state.label, self._volume_id)
        volume = self._canvas.volume_node
        if held == self._held:
            return
        self._held = held
        self.markups.place(state.tool if state.tool in PLACED and volume is not None else "none", state.polarity)
        if state.tool in BY_HAND and volume is not None and self.by_hand and state.label:
            self._take_brush(state)
        else:
            self._lay_brush_down()

    def _take_brush(self, state: Any) -> None:
        if self.editor is None:
            self.editor = SegmentEditor(self._ui.editorSection.layout())
        self._lay_brush_down()
        node, volume = self._canvas.segmentation_node, self._canvas.volume_node
        self.editor.start(state.tool, node, volume, self._canvas.segment_id(state.label), float(self._ui.brushSlider.value))
        segmentation = node.GetSegmentation()
        self._drawn = (segmentation, segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, self._painted))

    def _lay_brush_down(self) -> None:
        if self._drawn is not None:
            segmentation, tag = self._drawn
            segmentation.RemoveObserver(tag)
            self._drawn = None
        if self.editor is not None:
            self.editor.stop()

    def _painted(self, *_: Any) -> None:
        self._annotator.edited()

    def _segmentation_time(self) -> int:
        node = self._canvas.segmentation_node
        return int(node.GetSegmentation().GetMTime()) if node is not None else 0

    def _brush(self, diameter: int) -> None:
        self._ui.brushValue.setText(f"{diameter} mm")
        if self.editor is not None:
            self.editor.set_brush(diameter)

    def _looked(self, axis: str, index: int) -> None:
        self._annotator.view_slice(axis, index)
        self.show()

    def _moved(self, axis: str, old: Any, new: Any) -> None:
        self._annotator.move_point(old, new, axis)

    def _stroked(self, axis: str, index: int, pixels: Any, positive: bool) -> None:
        nothing = pixels & False
        self._annotator.add_scribble(axis, index, pixels if positive else nothing, nothing if positive else pixels)
        self.again()  # a stroke ends placing; the next one should need no key


def _same(first: List[Any], second: List[Any]) -> bool:
    """Whether two lists of (axis, index, prompts) show the same; sets of prompts are immutable."""
    if len(first) != len(second):
        return False
    return all(one[:2] == other[:2] and (one[2] is other[2] or (one[2].empty and other[2].empty)) for one, other in zip(first, second))
