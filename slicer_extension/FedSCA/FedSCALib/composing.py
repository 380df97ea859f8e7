"""How an answer meets what was drawn before, and which pixels then have to be written. Pure functions on masks (rows, columns)."""

from __future__ import annotations

from typing import Any, Iterable, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import Crop
from FedSCALib.prompts import pixel_of, voxel_on_slice
from FedSCALib.wire import Box, bounds

Mask = NDArray[np.bool_]


def compose(mode: str, drawn: Mask, answer: Mask) -> Mask:
    """What the slice should hold: `drawn` is what it held before the first prompt, `answer` the model's mask."""
    if mode == "add":
        return np.asarray(drawn | answer)
    if mode == "subtract":
        return np.asarray(drawn & ~answer)
    return answer


def rebase(mode: str, drawn: Mask, answer: Mask, now: Mask) -> Mask:
    """What was drawn before the first prompt, with the edits that a person has made since: `now` is what the slice holds."""
    if mode == "add":
        return np.asarray(now & ~(answer & ~drawn))
    if mode == "subtract":
        return np.asarray(now | (drawn & answer))
    return now


def difference(now: Mask, wanted: Mask) -> Optional[Tuple[Box, Mask]]:
    """The smallest box outside of which nothing changes, and its pixels; None when nothing does."""
    box = bounds(now != wanted)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    return box, wanted[y0 : y1 + 1, x0 : x1 + 1]


def changed_on(crops: Iterable[Crop], axis: str, index: int, shape: Tuple[int, int]) -> Mask:
    """The pixels (rows, columns) of a slice that writes have changed in any label, also on slices of other axes that cross it."""
    found = np.zeros(shape, dtype=bool)
    for crop in crops:
        if crop.axis != axis or crop.index == index:
            rows, columns = np.nonzero(crop.before != crop.after)
            x: Any = columns + crop.box[0]
            y: Any = rows + crop.box[1]
            voxels: Any = np.broadcast_arrays(*voxel_on_slice(crop.axis, crop.index, x, y))
            slices: Any
            slices, x, y = pixel_of(axis, voxels)
            here = slices == index
            found[y[here], x[here]] = True
    return found
