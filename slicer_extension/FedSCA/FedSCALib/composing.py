"""How an answer meets what was drawn before, and which pixels then have to be written. Pure functions on masks (rows, columns)."""

from __future__ import annotations

from typing import Optional, Tuple

import numpy as np
from numpy.typing import NDArray

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
