"""Prompts as a draft keeps them: JSON and back. Pure. What cannot be read is None, never an error: a draft's masks matter more."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from FedSCALib.canvas import Geometry
from FedSCALib.errors import BadReply
from FedSCALib.history import SliceKey
from FedSCALib.prompts import MOST_POINTS, Point, PromptSet, Scribble, pixel_of
from FedSCALib.wire import LARGEST_SIDE, pack, read_box, unpack


def to_json(key: SliceKey, prompts: PromptSet) -> Dict[str, Any]:
    """The prompts of a label on a slice."""
    label, axis, index = key
    kept: Dict[str, Any] = {"label": label, "axis": axis, "index": index}
    if prompts.points:
        kept["points"] = [[*point.ijk, int(point.positive)] for point in prompts.points]
    if prompts.box is not None:
        kept["box"] = list(prompts.box)
    if prompts.scribble is not None:
        strokes = prompts.scribble
        kept["scribble"] = {"size": list(strokes.foreground.shape), "on": pack(strokes.foreground), "beside": pack(strokes.background)}
    if prompts.automatic:
        kept["automatic"] = True
    return kept


def from_json(value: Any) -> Optional[Tuple[SliceKey, PromptSet]]:
    """What `to_json` made; None for anything else."""
    try:
        label, axis, index = value["label"], value["axis"], value["index"]
        if not isinstance(label, str) or axis not in ("i", "j", "k") or not _whole(index):
            return None
        points = tuple(_point(item) for item in _list(value.get("points", []))[:MOST_POINTS])
        prompts = PromptSet(points, read_box(value.get("box")), _strokes(value.get("scribble")), value.get("automatic") is True)
    except (KeyError, TypeError, ValueError, AttributeError, BadReply):
        return None
    return None if prompts.empty else ((label, axis, index), prompts)


def fits(geometry: Geometry, key: SliceKey, prompts: PromptSet) -> bool:
    """Whether the slice, and everything on it, lies inside of an image."""
    _, axis, index = key
    rows, columns = geometry.slice_shape(axis)
    return (
        0 <= index < geometry.slices(axis)
        and all(geometry.contains(point.ijk) and pixel_of(axis, point.ijk)[0] == index for point in prompts.points)
        and (prompts.box is None or (prompts.box[2] < columns and prompts.box[3] < rows))
        and (prompts.scribble is None or prompts.scribble.foreground.shape == (rows, columns))
    )


def _point(value: Any) -> Point:
    i, j, k, positive = value
    if not all(map(_whole, (i, j, k))):
        raise ValueError(value)
    return Point((i, j, k), bool(positive))


def _strokes(value: Any) -> Optional[Scribble]:
    if value is None:
        return None
    rows, columns = value["size"]
    if not (_whole(rows) and _whole(columns) and 0 < rows <= LARGEST_SIDE and 0 < columns <= LARGEST_SIDE):
        raise ValueError(value["size"])
    box = (0, 0, columns - 1, rows - 1)
    return Scribble(np.array(unpack(box, value["on"])), np.array(unpack(box, value["beside"])))


def _list(value: Any) -> List[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
