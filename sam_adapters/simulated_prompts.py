"""Prompts as a person would give them, made from a known target. numpy and SimpleITK; no torch.

Drawing (which needs randomness) is separate from applying (which does not): what was drawn can be recorded and repeated. Masks are (h, w)
boolean; points are (x, y) = (column, row) in pixels of the mask; boxes are (x0, y0, x1, y1), inclusive.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Box = tuple[float, float, float, float]

MAX_JITTER = 0.1
"""A drawn side of a box is off by at most this fraction of the box's width or height …"""
MIN_JITTER_PIXELS = 2.0
"""… or by this many pixels where that is more."""
CORE_DEPTH = 0.5
"""A drawn point lies at least at this fraction of the region's largest depth: people click the middle, not the rim."""


@dataclass(frozen=True)
class BoxJitter:
    """How far each side of a box is off, each in -1..1 of the largest allowed distance; positive is right or down."""

    x0: float
    y0: float
    x1: float
    y1: float


def draw_box_jitter(rng: np.random.Generator) -> BoxJitter:
    """Four sides off independently and evenly."""
    return BoxJitter(*(float(value) for value in rng.uniform(-1, 1, size=4)))


def apply_box_jitter(box: Box, jitter: BoxJitter, shape: tuple[int, int]) -> Box:
    """Move the sides of `box`, keep it inside an image of `shape` (h, w) and at least one pixel wide and high."""
    x0, y0, x1, y1 = box
    reach_x = max(MAX_JITTER * (x1 - x0 + 1), MIN_JITTER_PIXELS)
    reach_y = max(MAX_JITTER * (y1 - y0 + 1), MIN_JITTER_PIXELS)
    left, right = sorted((x0 + jitter.x0 * reach_x, x1 + jitter.x1 * reach_x))
    top, bottom = sorted((y0 + jitter.y0 * reach_y, y1 + jitter.y1 * reach_y))
    height, width = shape
    return (
        float(np.clip(left, 0, width - 1)),
        float(np.clip(top, 0, height - 1)),
        float(np.clip(right, 0, width - 1)),
        float(np.clip(bottom, 0, height - 1)),
    )


def depth(mask: Mask) -> NDArray[np.float32]:
    """Distance in pixels of each inside pixel to the nearest outside pixel, 0 outside; what lies beyond the image is outside."""
    padded = np.pad(mask, 1).astype(np.uint8)
    if not mask.any():
        return np.zeros(mask.shape, np.float32)
    distance = sitk.SignedMaurerDistanceMap(
        sitk.GetImageFromArray(1 - padded), insideIsPositive=False, squaredDistance=False, useImageSpacing=False
    )
    values: NDArray[np.float32] = sitk.GetArrayFromImage(distance)[1:-1, 1:-1]
    return np.where(mask, np.maximum(values, 0), 0).astype(np.float32)


def deepest_point(mask: Mask) -> tuple[int, int]:
    """The pixel (x, y) farthest from the outside; the first in row order among equals.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("An empty mask has no inside to click on.")
    row, column = np.unravel_index(int(np.argmax(depth(mask))), mask.shape)
    return int(column), int(row)


def draw_interior_point(mask: Mask, rng: np.random.Generator) -> tuple[int, int]:
    """A pixel (x, y) drawn evenly from the core of the mask (see `CORE_DEPTH`).

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("An empty mask has no inside to click on.")
    depths = depth(mask)
    rows, columns = np.nonzero(depths >= CORE_DEPTH * depths.max())
    chosen = int(rng.integers(len(rows)))
    return int(columns[chosen]), int(rows[chosen])


def largest_region(mask: Mask) -> Mask:
    """The largest region of pixels connected by their sides; all False for an empty mask. The first in row order among equals."""
    labels: NDArray[np.integer] = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8))))
    sizes = np.bincount(labels.ravel())
    if sizes.size < 2:
        return np.zeros(mask.shape, bool)
    return np.asarray(labels == 1 + int(np.argmax(sizes[1:])), bool)


def corrective_click(predicted: Mask, target: Mask, rng: np.random.Generator | None = None) -> tuple[int, int, int] | None:
    """The click that a reader would give next: inside the largest connected region that is wrong.

    Missed and wrongly covered pixels form separate regions, so that one click means one thing.

    Args:
        rng: draws the point from the region's core; without it, the deepest point is taken.

    Returns:
        (x, y, 1) where the region was missed, (x, y, 0) where it is wrongly covered, None when nothing is wrong.
    """
    missed, surplus = largest_region(target & ~predicted), largest_region(predicted & ~target)
    region, label = (missed, 1) if np.count_nonzero(missed) >= np.count_nonzero(surplus) else (surplus, 0)
    if not region.any():
        return None
    x, y = draw_interior_point(region, rng) if rng is not None else deepest_point(region)
    return x, y, label
