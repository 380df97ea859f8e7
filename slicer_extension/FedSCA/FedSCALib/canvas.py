"""What the annotator needs of the place where images and segments are shown: implemented on Slicer's MRML, and in the tests on arrays.

Everything here runs on the main thread. Axes, rows and columns of a slice and inclusive boxes are those of docs/http.md; voxels are
(i, j, k) of the image file as SimpleITK reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Protocol, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.wire import Box

Voxel = Tuple[int, int, int]
Color = Tuple[float, float, float]
MODES = ("replace", "add", "subtract")


@dataclass(frozen=True)
class Geometry:
    """Of an image.

    Attributes:
        size_ijk: voxels along i, j, k; (columns, rows, 1) for a picture.
        ijk_to_ras: (4, 4), millimetres.
        is_2d: a picture, not a volume.
    """

    size_ijk: Voxel
    ijk_to_ras: NDArray[Any]
    is_2d: bool = False

    def slice_shape(self, axis: str) -> Tuple[int, int]:
        """(rows, columns) of a slice perpendicular to this axis."""
        i, j, k = self.size_ijk
        return {"k": (j, i), "j": (k, i), "i": (k, j)}[axis]

    def slices(self, axis: str) -> int:
        """How many slices there are along an axis."""
        return self.size_ijk["ijk".index(axis)]

    def contains(self, voxel: Voxel) -> bool:
        """Whether a voxel lies inside."""
        return all(0 <= place < size for place, size in zip(voxel, self.size_ijk))


@dataclass(frozen=True)
class Segment:
    """One label's segment: its value in the label file, colour (0..1), whether it may be changed, and is shown."""

    name: str
    value: int
    color: Color
    locked: bool = False
    visible: bool = True


@dataclass(frozen=True)
class Crop:
    """What one write changed: the pixels of a box of one slice before and after it, bool (rows, columns)."""

    label: str
    axis: str
    index: int
    box: Box
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]


class Canvas(Protocol):
    """Shows one case at a time: an image and its segments."""

    def open_image(self, path: Path, name: str) -> Geometry:
        """Show an image file; segments begin empty. A case that was open stays in the scene, untouched. Raises CanvasError."""

    def close_image(self) -> None:
        """Nothing is open any more."""

    def geometry(self) -> Optional[Geometry]:
        """Of the open image, or None."""

    def segments(self) -> List[Segment]:
        """In the order in which they were added."""

    def add_segment(self, name: str, value: int, color: Optional[Color] = None) -> None:
        """Add an empty segment, unless there is one of this name. Raises CanvasError for a value that is taken."""

    def set_locked(self, name: str, on: bool) -> None:
        """Whether nothing may change it."""

    def set_visible(self, name: str, on: bool) -> None:
        """Whether it is shown."""

    def slice_mask(self, name: str, axis: str, index: int) -> NDArray[np.bool_]:
        """The segment on a slice as it is now, with what was drawn elsewhere: (rows, columns)."""

    def fingerprint(self, name: str, axis: str, index: int) -> bytes:
        """Differs when the segment on that slice differs."""

    def write(self, name: str, axis: str, index: int, box: Box, mask: NDArray[np.bool_], mode: str) -> Crop:
        """Put a mask (the pixels of `box`) into a segment: `replace`, `add` or `subtract`. Voxels of other segments, and a locked segment,
        stay as they are. Returns what really changed. Raises CanvasError for a segment that is locked or unknown."""

    def put(self, name: str, axis: str, index: int, box: Box, pixels: NDArray[np.bool_], where: NDArray[np.bool_]) -> None:
        """Set the pixels of a box where `where`; for undo and redo. Locked and other segments stay as they are."""

    def load_labels(self, path: Path, names: Dict[int, str]) -> None:
        """Fill the segments from a label file: value -> name. Raises GeometryMismatch, CanvasError."""

    def export_labels(self, path: Path) -> List[Dict[str, Any]]:
        """Write all segments to a label file on exactly the image's grid, checked by reading it back.

        Returns:
            MONAI Label's label_info: [{"name", "idx"}], idx the value in the file; only of segments that hold something.

        Raises:
            GeometryMismatch, CanvasError: nothing was written.
        """

    def empty(self) -> bool:
        """Whether no segment holds anything."""
