"""What the mouse does in a view: looking (size, slices, zoom, brightness) and prompting. Values come from the page and are checked here."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from FedSCALib.annotator import Annotator
from FedSCALib.canvas import Geometry, Voxel

from workstation.actions import BadRequestError, flag, one_of
from workstation.case_display import CaseDisplay
from workstation.geometry import brush
from workstation.slice_view import View

MOST_POINTS = 4000  # of one stroke
AXES = ("i", "j", "k")


def number(values: list[Any], place: int) -> float:
    """A finite number among a gesture's values."""
    value = values[place] if place < len(values) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > 1e6:
        raise BadRequestError(f"value {place} is {str(value)[:40]!r}: expected a number")
    return float(value)


def whole(values: list[Any], place: int) -> int:
    """A whole number."""
    return round(number(values, place))


def voxel(values: list[Any], place: int) -> Voxel:
    """Three whole numbers."""
    value = values[place] if place < len(values) else None
    if not isinstance(value, list) or len(value) != 3:
        raise BadRequestError(f"value {place} is {str(value)[:40]!r}: expected i, j, k")
    return whole(value, 0), whole(value, 1), whole(value, 2)


def stroke(values: list[Any], place: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Points [[x, y], …] in pixels of the slice, (n, 2)."""
    value = values[place] if place < len(values) else None
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_POINTS:
        raise BadRequestError(f"value {place}: expected 1 to {MOST_POINTS} points")
    return np.array([(number(point, 0), number(point, 1)) for point in value if isinstance(point, list)])


class Gestures:
    """Turns them into calls of the controller and of the views.

    Args:
        views: by name.
        display: brightness, and which slices are shown.
        looked: called with the view that was used.
    """

    def __init__(self, annotator: Annotator, views: dict[str, View], display: CaseDisplay, looked: Callable[[str], None]) -> None:
        self._annotator, self._views, self._display, self._looked = annotator, views, display, looked
        self._kinds: dict[str, Callable[[View, list[Any]], None]] = {
            "size": self._size,
            "scroll": self._scroll,
            "slice": lambda view, v: display.show(view, whole(v, 0)),
            "zoom": lambda view, v: view.zoom(min(max(number(v, 0), 0.1), 10.0), (number(v, 1), number(v, 2))),
            "pan": lambda view, v: view.pan(number(v, 0), number(v, 1)),
            "window": lambda _view, v: display.drag_window(number(v, 0), number(v, 1)),
            "preset": lambda _view, v: display.set_preset(whole(v, 0)),
            "fit": lambda view, _v: view.fit(),
            "jump": lambda view, v: display.jump(voxel(v, 0), but=view),
            "point": self._point,
            "move_point": self._move_point,
            "remove_point": lambda _view, v: annotator.remove_point(voxel(v, 0), one_of(v, 1, AXES)),
            "box": self._box,
            "scribble": self._scribble,
            "paint": self._paint,
        }

    def __call__(self, view: str, kind: str, values: list[Any]) -> None:
        """One gesture. Raises BadRequestError."""
        if view not in self._views or kind not in self._kinds:
            raise BadRequestError(f"gesture {kind[:40]!r} in view {view[:40]!r}")
        if kind not in ("size", "window", "preset"):
            self._looked(view)
        self._kinds[kind](self._views[view], values)

    def _size(self, view: View, values: list[Any]) -> None:
        self._display.resize(view, whole(values, 0), whole(values, 1))

    def _scroll(self, view: View, values: list[Any]) -> None:
        place = view.place(self._display.volume)
        if place is not None:
            self._display.show(view, place[1] + whole(values, 0))

    def _point(self, _view: View, values: list[Any]) -> None:
        self._annotator.add_point(voxel(values, 0), one_of(values, 1, AXES), flag(values, 2) if len(values) > 2 else None)

    def _move_point(self, _view: View, values: list[Any]) -> None:
        old, new, axis = voxel(values, 0), voxel(values, 1), one_of(values, 2, AXES)
        geometry = self._annotator.canvas.geometry()
        if geometry is not None and geometry.contains(new):
            self._annotator.move_point(old, new, axis)

    def _box(self, _view: View, values: list[Any]) -> None:
        self._annotator.set_box(one_of(values, 0, AXES), whole(values, 1), [whole(values, place) for place in range(2, 6)])

    def _scribble(self, _view: View, values: list[Any]) -> None:
        axis, index, positive = one_of(values, 0, AXES), whole(values, 1), flag(values, 2)
        shape = self._slice(axis, index)
        drawn = brush(stroke(values, 3), number(values, 4), shape) if shape is not None else None
        if shape is not None and drawn is not None:
            (x0, y0, x1, y1), pixels = drawn
            masks = {True: np.zeros(shape, bool), False: np.zeros(shape, bool)}
            masks[positive][y0 : y1 + 1, x0 : x1 + 1] = pixels
            self._annotator.add_scribble(axis, index, masks[True], masks[False])

    def _paint(self, _view: View, values: list[Any]) -> None:
        axis, index, erase, goes_on = one_of(values, 0, AXES), whole(values, 1), flag(values, 2), flag(values, 3)
        shape = self._slice(axis, index)
        drawn = brush(stroke(values, 4), min(number(values, 5), 200.0), shape) if shape is not None else None
        if drawn is not None:
            self._annotator.paint(axis, index, drawn[0], drawn[1], erase=erase, goes_on=goes_on)

    def _slice(self, axis: str, index: int) -> tuple[int, int] | None:
        """Rows and columns of a slice; None without a case. Raises BadRequestError where there is no such slice."""
        geometry: Geometry | None = self._annotator.canvas.geometry()
        if geometry is None:
            return None
        if not 0 <= index < geometry.slices(axis):
            raise BadRequestError(f"slice {index} of axis {axis}")
        return geometry.slice_shape(axis)
