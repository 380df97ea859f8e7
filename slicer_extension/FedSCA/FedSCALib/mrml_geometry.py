"""Where a slice, a box and a voxel lie: pure functions between IJK, RAS and arrays.

IJK is the order of the image file, voxel centres at whole numbers. Arrays are (k, j, i). RAS is Slicer's patient space in mm; the
first two axes point the other way in files (LPS).
A slice is perpendicular to an axis; its columns x and rows y are (i, j) for "k", (i, k) for "j" and (j, k) for "i".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # x0, y0, x1, y1, inclusive
Region = tuple[int, int, int, int, int, int]  # i0, i1, j0, j1, k0, k1, inclusive

AXES = ("i", "j", "k")
COLUMN_AND_ROW = {"i": (1, 2), "j": (0, 2), "k": (0, 1)}  # which of i, j, k runs along x, and along y
SAME_GRID = 0.01  # two grids are one where no corner of the image is further apart than this part of the shortest side of a voxel


def slice_size(size_ijk: tuple[int, int, int], axis: str) -> tuple[int, int]:
    """Columns and rows of a slice."""
    column, row = COLUMN_AND_ROW[axis]
    return size_ijk[column], size_ijk[row]


def region_of(size_ijk: tuple[int, int, int], axis: str, index: int, box: Box | None = None) -> Region:
    """A box of a slice (by default the whole slice) as a region of the volume.

    Raises:
        ValueError: no such axis or slice, or the box is not inside of the slice.
    """
    if axis not in AXES:
        raise ValueError(f"axis is {axis!r}: expected one of i, j, k")
    across = AXES.index(axis)
    if not 0 <= index < size_ijk[across]:
        raise ValueError(f"slice {index} of axis {axis}: expected 0 to {size_ijk[across] - 1}")
    columns, rows = slice_size(size_ijk, axis)
    x0, y0, x1, y1 = box or (0, 0, columns - 1, rows - 1)
    if not (0 <= x0 <= x1 < columns and 0 <= y0 <= y1 < rows):
        raise ValueError(f"box {box}: expected x0, y0, x1, y1 inside of a slice of {columns} columns and {rows} rows")
    ends = [(index, index)] * 3
    column, row = COLUMN_AND_ROW[axis]
    ends[column], ends[row] = (x0, x1), (y0, y1)
    (i0, i1), (j0, j1), (k0, k1) = ends
    return i0, i1, j0, j1, k0, k1


def region_shape(region: Region) -> tuple[int, int, int]:
    """Shape (k, j, i) of an array over a region."""
    i0, i1, j0, j1, k0, k1 = region
    return k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1


def as_region(plane: NDArray[Any], axis: str) -> NDArray[Any]:
    """A plane (rows, columns) as an array (k, j, i) that is one voxel thick."""
    return np.expand_dims(plane, 2 - AXES.index(axis))


def as_plane(block: NDArray[Any], axis: str) -> NDArray[Any]:
    """An array (k, j, i) that is one voxel thick along `axis`, as a plane (rows, columns)."""
    return block.squeeze(2 - AXES.index(axis))


def slices_of(region: Region, origin: tuple[int, int, int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
    """Index of a region in an array (k, j, i) whose first voxel is `origin` (i, j, k)."""
    i0, i1, j0, j1, k0, k1 = region
    i, j, k = origin
    return slice(k0 - k, k1 - k + 1), slice(j0 - j, j1 - j + 1), slice(i0 - i, i1 - i + 1)


def intersection(first: Region, second: Region) -> Region | None:
    """What two regions share; None where that is nothing."""
    low = [max(first[n], second[n]) for n in (0, 2, 4)]
    high = [min(first[n], second[n]) for n in (1, 3, 5)]
    if any(a > b for a, b in zip(low, high)):
        return None
    return low[0], high[0], low[1], high[1], low[2], high[2]


def grown(have: Region | None, need: Region, limits: Region) -> Region:
    """A region that holds `have` and `need` and has room for more, inside of `limits`.

    Towards each side where it grows at all it grows by half of what it then is, at least 8 voxels: filling a volume slice by slice
    copies every voxel only a few times.
    """
    whole = list(need)
    for n in (0, 2, 4):
        old0, old1 = (have[n], have[n + 1]) if have else (need[n], need[n + 1])
        low, high = min(old0, need[n]), max(old1, need[n + 1])
        room = max(8, (high - low + 1) // 2)
        whole[n] = max(limits[n], low - room) if low < old0 or not have else low
        whole[n + 1] = min(limits[n + 1], high + room) if high > old1 or not have else high
    return whole[0], whole[1], whole[2], whole[3], whole[4], whole[5]


def far_apart(first: NDArray[np.float64], second: NDArray[np.float64], size_ijk: tuple[int, int, int]) -> float:
    """The largest distance between the corners of two grids of one size, in parts of the first grid's smallest voxel side.

    Args:
        first, second: IJK to RAS (or both to LPS), (4, 4), mm.
    """
    corners = np.array([[i, j, k, 1] for i in (0, size_ijk[0] - 1) for j in (0, size_ijk[1] - 1) for k in (0, size_ijk[2] - 1)], float)
    gaps = np.linalg.norm(corners @ (first - second).T, axis=1)
    return float(gaps.max() / np.linalg.norm(first[:3, :3], axis=0).min())


def ijk_at(ras: Any, ijk_to_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """Continuous IJK of a place (3,) in mm."""
    found: NDArray[np.float64] = np.linalg.solve(ijk_to_ras, [*ras, 1.0])[:3]
    return found


def voxel_at(ras: Any, ijk_to_ras: NDArray[np.float64], size_ijk: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """The voxel that holds a place (mm); None outside of the image."""
    i, j, k = (int(n) for n in np.floor(ijk_at(ras, ijk_to_ras) + 0.5))
    inside = 0 <= i < size_ijk[0] and 0 <= j < size_ijk[1] and 0 <= k < size_ijk[2]
    return (i, j, k) if inside else None


def ras_at(ijk: Any, ijk_to_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place (3,) in mm of a voxel's centre."""
    found: NDArray[np.float64] = (ijk_to_ras @ [*ijk, 1.0])[:3]
    return found


def axis_across(normal_ras: Any, ijk_to_ras: NDArray[np.float64]) -> str:
    """The axis whose slices lie most nearly in a plane with this normal (3,).

    Slices of an axis contain the directions of the other two axes, so their normal is a row of the inverse matrix (on a sheared grid
    it is not the axis itself).
    """
    normals = np.linalg.inv(ijk_to_ras[:3, :3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return AXES[int(np.argmax(np.abs(normals @ np.asarray(normal_ras, float))))]


def stroke_mask(points_xy: Any, shape: tuple[int, int], radius: float) -> NDArray[np.bool_]:
    """Pixels (rows, columns) no further than `radius` from a line through points, in pixels of the slice.

    Args:
        points_xy: (n, 2), x and y of each point, pixel centres at whole numbers; one point draws a dot.
    """
    rows, columns = np.indices(shape)
    mask = np.zeros(shape, bool)
    points = np.asarray(points_xy, float).reshape(-1, 2)
    for start, end in zip(points, [*points[1:], points[-1]]):
        along = end - start
        length = float(along @ along)
        place = ((columns - start[0]) * along[0] + (rows - start[1]) * along[1]) / length if length else np.zeros(shape)
        place = np.clip(place, 0, 1)
        mask |= (columns - start[0] - place * along[0]) ** 2 + (rows - start[1] - place * along[1]) ** 2 <= radius**2
    return mask


def nearest_rotation(ijk_to_ras: NDArray[np.float64]) -> NDArray[np.float64]:
    """A rotation (4, 4), right-handed, whose axes are those of the image's grid."""
    axes = ijk_to_ras[:3, :3] / np.linalg.norm(ijk_to_ras[:3, :3], axis=0)
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    turned = np.eye(4)
    turned[:3, :3] = axes
    return turned


def box_around(corners_ijk: Any, size_ijk: tuple[int, int, int], axis: str) -> Box | None:
    """The pixels of a slice whose centres lie between corners (n, 3) in continuous IJK; None where no pixel does.

    A corner within half a pixel of a pixel's centre counts as on it, so that a box drawn from pixel to pixel holds both.
    """
    corners = np.asarray(corners_ijk, float)
    ends: list[tuple[int, int]] = []
    for n in COLUMN_AND_ROW[axis]:
        low = max(0, int(np.floor(corners[:, n].min() + 0.5)))
        high = min(size_ijk[n] - 1, int(np.floor(corners[:, n].max() + 0.5)))
        if low > high:
            return None
        ends.append((low, high))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1
