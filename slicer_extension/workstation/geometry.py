"""Between a picture of a slice and the image's voxels. Pure functions.

A picture's x runs to the right and y downwards, pixel centres at whole numbers plus a half; IJK as in the image file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LETTERS = ("LR", "PA", "IS")  # of the axes of RAS: towards the negative and the positive end


def picture_to_ijk(xy_to_ras: NDArray[np.float64], ijk_to_ras: NDArray[np.float64], height: int) -> NDArray[np.float64]:
    """(3, 3): IJK of the place (x, y, 1) of a picture.

    Args:
        xy_to_ras: of Slicer's slice view, (4, 4): its y runs upwards from the lowest row, whole numbers are pixel centres.
        height: of the picture, in pixels.
    """
    full = np.linalg.inv(ijk_to_ras) @ xy_to_ras
    flipped = np.array([[1.0, 0.0, -0.5], [0.0, -1.0, height - 0.5], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found: NDArray[np.float64] = (full @ flipped)[:3]
    return found


def edge_letters(xy_to_ras: NDArray[np.float64]) -> dict[str, str]:
    """What lies to the right, left, top and bottom of a picture: R, L, A, P, S or I."""
    return {
        "right": direction_letter(xy_to_ras[:3, 0]),
        "left": direction_letter(-xy_to_ras[:3, 0]),
        "top": direction_letter(xy_to_ras[:3, 1]),
        "bottom": direction_letter(-xy_to_ras[:3, 1]),
    }


def direction_letter(direction: Any) -> str:
    """The letter of the RAS axis that a direction (3,) mostly follows."""
    axis = int(np.argmax(np.abs(direction)))
    return LETTERS[axis][int(direction[axis] > 0)]


def millimetres_per_pixel(xy_to_ras: NDArray[np.float64]) -> float:
    """Width of a picture's pixel."""
    return float(np.linalg.norm(xy_to_ras[:3, 0]))


def brush(points_xy: Any, radius: float, shape: tuple[int, int]) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]] | None:
    """A stroke's pixels: the box (x0, y0, x1, y1) around it and the mask of that box; None where it misses the slice.

    Args:
        points_xy: (n, 2), x and y in pixels of the slice, pixel centres at whole numbers.
        radius: in pixels; a stroke always holds the pixels that its points lie in.
        shape: rows and columns of the slice.
    """
    points = np.asarray(points_xy, float).reshape(-1, 2)
    reach = max(radius, 0.5)
    low = np.maximum(np.floor(points.min(axis=0) - reach).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0) + reach).astype(int), (shape[1] - 1, shape[0] - 1))
    if (low > high).any():
        return None
    x0, y0, x1, y1 = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    columns, rows = np.meshgrid(np.arange(x0, x1 + 1), np.arange(y0, y1 + 1))
    mask = np.zeros(columns.shape, bool)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        along = end - start
        length = float(along @ along)
        place = np.clip(((columns - start[0]) * along[0] + (rows - start[1]) * along[1]) / length, 0, 1) if length else 0.0
        mask |= (columns - start[0] - place * along[0]) ** 2 + (rows - start[1] - place * along[1]) ** 2 <= reach**2
    for x, y in np.floor(points + 0.5).astype(int):
        if x0 <= x <= x1 and y0 <= y <= y1:
            mask[y - y0, x - x0] = True
    return ((x0, y0, x1, y1), mask) if mask.any() else None
