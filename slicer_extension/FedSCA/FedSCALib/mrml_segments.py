"""The segments of a segmentation by name: label value, colour, lock, visibility.

Label value and lock are tags of the segment, so they are saved with it. (Slicer's own `GetLabelValue` is a number inside of a shared
layer, which Slicer changes as it likes.)
Segments that a person added in the Segment Editor get the next free value, and a name of their own where theirs is taken, when they
are first seen.
"""

from __future__ import annotations

from typing import Any, Iterator

import vtk

from FedSCALib.canvas import Segment
from FedSCALib.errors import CanvasError
from FedSCALib.translate import tr

VALUE_TAG = "FedSCA.LabelValue"
LOCK_TAG = "FedSCA.Locked"
LARGEST_VALUE = 65_535
# Eight colours that colour-blind people can tell apart, on grey images too (Okabe and Ito 2008; black replaced by white).
PALETTE = tuple(
    (red / 255, green / 255, blue / 255)
    for red, green, blue in (
        (86, 180, 233),
        (230, 159, 0),
        (0, 158, 115),
        (204, 121, 167),
        (240, 228, 66),
        (213, 94, 0),
        (0, 114, 178),
        (255, 255, 255),
    )
)


def tag_of(segment: Any, name: str) -> str | None:
    """A tag of a vtkSegment; None where it has none."""
    text = vtk.reference("")
    return str(text.get()) if segment.GetTag(name, text) else None


class Segments:
    """The segments of one vtkMRMLSegmentationNode."""

    def __init__(self, node: Any) -> None:
        self._node = node
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()

    @property
    def segmentation(self) -> Any:
        return self._node.GetSegmentation()

    def all(self) -> list[Segment]:
        """In the order of Slicer's segment list."""
        self.complete()
        return [self._described(segment_id) for segment_id in self.segmentation.GetSegmentIDs()]

    def ids(self) -> Iterator[tuple[str, str]]:
        """Segment ids and names, in order."""
        for segment_id in self.segmentation.GetSegmentIDs():
            yield segment_id, self.segmentation.GetSegment(segment_id).GetName()

    def id_of(self, name: str) -> str:
        """The id of a segment.

        Raises:
            CanvasError: there is none of that name.
        """
        self.complete()
        found = self.find(name)
        if found is None:
            raise CanvasError(
                tr('There is no segment "{name}". It may have been removed or renamed: choose a label from the list.').format(name=name)
            )
        return found

    def find(self, name: str) -> str | None:
        """The id of the first segment of that name."""
        return next((segment_id for segment_id, found in self.ids() if found == name), None)

    def add(self, name: str, value: int, color: tuple[float, float, float] | None) -> str:
        """Add an empty segment and return its id; one that is there already stays as it is.

        Raises:
            CanvasError: the name is empty, or the value is another segment's or not 1 to 65535.
        """
        if not name.strip():
            raise CanvasError(tr("A label needs a name."))
        if not 1 <= value <= LARGEST_VALUE:
            raise CanvasError(tr("The value of a label must be 1 to {last}, not {value}.").format(last=LARGEST_VALUE, value=value))
        found = self.find(name)
        if found is not None:
            return found
        owner = next((segment.name for segment in self.all() if segment.value == value), None)
        if owner is not None:
            raise CanvasError(
                tr('Value {value} is already that of "{owner}": give "{name}" another one.').format(value=value, owner=owner, name=name)
            )
        segment_id: str = self.segmentation.AddEmptySegment("", name, list(color or PALETTE[(value - 1) % len(PALETTE)]))
        self.segmentation.GetSegment(segment_id).SetTag(VALUE_TAG, str(value))
        return segment_id

    def next_value(self) -> int:
        """The lowest value that no segment has."""
        taken = {self._value(segment_id) for segment_id, _ in self.ids()}
        return next(value for value in range(1, LARGEST_VALUE + 1) if value not in taken)

    def complete(self) -> None:
        """Give what was added elsewhere (Segment Editor, copied segments) a value and a name of its own."""
        names: set[str] = set()
        values: set[int] = set()
        for segment_id, name in list(self.ids()):
            segment = self.segmentation.GetSegment(segment_id)
            if name in names:
                name = next(f"{name} {number}" for number in range(2, 10_000) if f"{name} {number}" not in names)
                segment.SetName(name)
            value = self._value(segment_id)
            if value is None or value in values:
                value = self.next_value()
                segment.SetTag(VALUE_TAG, str(value))
            names.add(name)
            values.add(value)

    def locked(self, segment_id: str) -> bool:
        return tag_of(self.segmentation.GetSegment(segment_id), LOCK_TAG) == "1"

    def set_locked(self, segment_id: str, on: bool) -> None:
        self.segmentation.GetSegment(segment_id).SetTag(LOCK_TAG, "1" if on else "0")

    def visible(self, segment_id: str) -> bool:
        return bool(self._node.GetDisplayNode().GetSegmentVisibility(segment_id))

    def set_visible(self, segment_id: str, on: bool) -> None:
        self._node.GetDisplayNode().SetSegmentVisibility(segment_id, on)

    def _value(self, segment_id: str) -> int | None:
        text = tag_of(self.segmentation.GetSegment(segment_id), VALUE_TAG) or ""
        return int(text) if text.isdecimal() and 1 <= int(text) <= LARGEST_VALUE else None

    def _described(self, segment_id: str) -> Segment:
        segment = self.segmentation.GetSegment(segment_id)
        red, green, blue = segment.GetColor()
        return Segment(
            segment.GetName(), self._value(segment_id) or 0, (red, green, blue), self.locked(segment_id), self.visible(segment_id)
        )
