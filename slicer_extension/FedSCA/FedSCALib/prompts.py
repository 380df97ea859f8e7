"""The prompts of one label on one slice. Immutable: every change makes a new set, so that undo keeps the old one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import Voxel
from FedSCALib.wire import Box, bounds, pack

MOST_POINTS = 1000


@dataclass(frozen=True)
class Point:
    """A click on (+) or beside (-) the structure."""

    ijk: Voxel
    positive: bool


@dataclass(frozen=True, eq=False)
class Scribble:
    """Strokes on a slice: two masks (rows, columns), on and beside the structure."""

    foreground: NDArray[np.bool_]
    background: NDArray[np.bool_]

    def to_json(self) -> Optional[Dict[str, Any]]:
        """As `POST /fedsca/segment` takes it; None when nothing was drawn."""
        box = bounds(self.foreground | self.background)
        if box is None:
            return None
        x0, y0, x1, y1 = box
        crop = (slice(y0, y1 + 1), slice(x0, x1 + 1))
        sent: Dict[str, Any] = {"box": list(box)}
        for key, drawn in (("foreground", self.foreground), ("background", self.background)):
            if drawn.any():
                sent[key] = pack(drawn[crop])
        return sent


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Points in the order in which they were set, a box (x0, y0, x1, y1 of the slice, inclusive), strokes."""

    points: Tuple[Point, ...] = ()
    box: Optional[Box] = None
    scribble: Optional[Scribble] = None
    automatic: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to ask with."""
        return not self.points and self.box is None and self.scribble is None and not self.automatic

    def with_point(self, point: Point) -> PromptSet:
        """With one point more; a point on the same voxel is replaced."""
        kept = tuple(item for item in self.points if item.ijk != point.ijk)
        return replace(self, points=(*kept, point), automatic=False)

    def without_point(self, ijk: Voxel) -> PromptSet:
        """Without the point on a voxel."""
        return replace(self, points=tuple(item for item in self.points if item.ijk != ijk))

    def moved(self, old: Voxel, new: Voxel) -> PromptSet:
        """With a point dragged to another voxel, its sign and place in the order kept."""
        points = tuple(Point(new, item.positive) if item.ijk == old else item for item in self.points if item.ijk != new or old == new)
        return replace(self, points=points)

    def with_box(self, box: Optional[Box]) -> PromptSet:
        """With this box, corners in any order."""
        if box is not None:
            x0, y0, x1, y1 = box
            box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        return replace(self, box=box, automatic=False)

    def with_scribble(self, foreground: NDArray[np.bool_], background: NDArray[np.bool_]) -> PromptSet:
        """With these strokes added; where signs meet, the newer stroke holds."""
        if self.scribble is not None:
            foreground, background = (
                foreground | (self.scribble.foreground & ~background),
                background | (self.scribble.background & ~foreground),
            )
        return replace(self, scribble=Scribble(np.array(foreground, bool), np.array(background, bool)), automatic=False)


def voxel_on_slice(axis: str, index: int, x: int, y: int) -> Voxel:
    """The voxel at column x and row y of a slice."""
    return {"k": (x, y, index), "j": (x, index, y), "i": (index, x, y)}[axis]


def pixel_of(axis: str, voxel: Voxel) -> Tuple[int, int, int]:
    """Slice index, column x and row y of a voxel."""
    i, j, k = voxel
    return {"k": (k, i, j), "j": (j, i, k), "i": (i, j, k)}[axis]


def box_to_roi(axis: str, index: int, box: Box) -> List[int]:
    """A box of a slice as MONAI Label's roi: [i0, i1, j0, j1, k0, k1], inclusive."""
    low, high = voxel_on_slice(axis, index, box[0], box[1]), voxel_on_slice(axis, index, box[2], box[3])
    return [end for pair in zip(low, high) for end in pair]
