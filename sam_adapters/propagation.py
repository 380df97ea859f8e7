"""From a mask on one slice to the slices before and after it, one by one, until the structure ends.

Each slice is prompted by what was found on its neighbour: the box around it, a little larger, and where a rule says so its mask too. The
rule and its numbers were chosen by measuring (`benchmarks/propagation.py`, `docs/http.md`). Pure functions, except `propagate`, which asks
the network.
Threads: a `propagate` iterator is used by one thread at a time; it holds no lock between two slices.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.dice import dice
from sam_adapters.embedding_cache import SliceKey
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import Axis, SlicePrompts, take_slice, tight_box
from sam_adapters.segmenter import Decoded, Segmenter


@dataclass(frozen=True)
class PropagationRule:
    """What carries over to the next slice, and when it ends.

    Attributes:
        enlarge: each side of the box moves out by this fraction of the box's width or height, …
        enlarge_pixels: … and by at least this many pixels.
        box: whether the box is a prompt.
        mask: whether the neighbour's logits are a prompt.
        least_overlap: a mask whose Dice with its neighbour's is below this is not the structure any more.
        least_iou: nor is one for which the network itself expects a lower IoU.
        largest_growth: nor is one with more than this many times its neighbour's pixels.
        least_pixels: nor is one with fewer pixels.
    """

    enlarge: float = 0.05
    enlarge_pixels: float = 1.0
    box: bool = True
    mask: bool = False
    least_overlap: float = 0.5
    least_iou: float = 0.75
    largest_growth: float = 2.0
    least_pixels: int = 4


DEFAULT_RULE = PropagationRule()


@dataclass(frozen=True)
class Neighbour:
    """What is known of a slice that is done: its mask (rows, columns) and its low-resolution logits (m, m)."""

    mask: NDArray[np.bool_]
    low_res: NDArray[np.float32]


def next_prompts(done: Neighbour, rule: PropagationRule = DEFAULT_RULE) -> SlicePrompts:
    """The prompts for the slice beside `done`, whose mask is not empty. Raises PromptError for an empty one."""
    box = enlarged(tight_box(done.mask), rule, (done.mask.shape[0], done.mask.shape[1])) if rule.box else None
    return SlicePrompts(box=box, mask=done.low_res if rule.mask else None)


def enlarged(box: tuple[float, float, float, float], rule: PropagationRule, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """`box` (x0, y0, x1, y1, inclusive) grown on every side as `rule` says, kept inside a slice of `size` (rows, columns)."""
    x0, y0, x1, y1 = box
    across = max(rule.enlarge * (x1 - x0 + 1), rule.enlarge_pixels)
    down = max(rule.enlarge * (y1 - y0 + 1), rule.enlarge_pixels)
    rows, columns = size
    return max(x0 - across, 0.0), max(y0 - down, 0.0), min(x1 + across, columns - 1.0), min(y1 + down, rows - 1.0)


def end_reason(before: NDArray[np.bool_], after: NDArray[np.bool_], iou: float, rule: PropagationRule = DEFAULT_RULE) -> str | None:
    """Why the structure ends before the slice whose mask is `after`, in words; None when it goes on.

    Args:
        before: the neighbour's mask, not empty.
        iou: what the network expects of `after`.
    """
    area, area_before = int(np.count_nonzero(after)), int(np.count_nonzero(before))
    if area < rule.least_pixels:
        return "nothing is left of it"
    if area > rule.largest_growth * area_before:
        return f"it grows {area / area_before:.1f} times from one slice to the next"
    overlap = dice(after, before)
    if overlap < rule.least_overlap:
        return f"it has little in common with the slice before (Dice {overlap:.2f})"
    if iou < rule.least_iou:
        return f"the network is not sure of it (expected IoU {iou:.2f})"
    return None


def propagate(
    segmenter: Segmenter,
    array: NDArray[Any],
    axis: Axis,
    start: int,
    known: Neighbour,
    within: range,
    *,
    rule: PropagationRule = DEFAULT_RULE,
    key_of: Callable[[int], SliceKey | None] = lambda index: None,
    priority: Priority = Priority.VOLUME,
) -> Iterator[tuple[int, Decoded]]:
    """Masks of the slices around `start`, nearest first: one step up, one step down, until both directions have ended.

    Args:
        array: (k, j, i[, 3]).
        start: the slice that is known, whose mask is `known`; it is not given out again.
        within: the slices that may be filled, in steps of 1, `start` among them.
        key_of: names a slice in the embedding cache; None keeps its embedding out of it.

    Yields:
        Slice index and its mask. A slice on which the structure has ended is not given out.

    Raises:
        PromptError, ImageError: as `Segmenter`.
    """
    if not known.mask.any():
        return
    fronts: dict[int, Neighbour] = {1: known, -1: known}
    reached = {1: start, -1: start}
    while fronts:
        for step in list(fronts):
            index = reached[step] + step
            found = None
            if index in within:
                embedding = segmenter.encode(take_slice(array, axis, index), key=key_of(index), priority=priority)
                found = segmenter.decode(embedding, next_prompts(fronts[step], rule), priority=priority)
            if found is None or end_reason(fronts[step].mask, found.mask, found.iou, rule) is not None:
                del fronts[step]
                continue
            fronts[step], reached[step] = Neighbour(found.mask, found.low_res), index
            yield index, found
