"""Prompts: from IJK voxels of a volume to pixels of its slices. numpy only, pure functions.

Arrays are (k, j, i), as SimpleITK gives them, with the colours of a picture as a fourth dimension. Prompts arrive as voxel indices
(i, j, k) of the image as stored. On a slice, x is the column and y the row:

    axis   slice at   rows   columns
    k      k          j      i
    j      j          k      i
    i      i          k      j
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sam_adapters.errors import PromptError

Axis = Literal["k", "j", "i"]
AXES: tuple[Axis, ...] = get_args(Axis)


@dataclass(frozen=True)
class SlicePrompts:
    """What is known about one slice. Coordinates are pixel indices of the slice as stored: x = column, y = row.

    Attributes:
        points: (x, y, label) with label 1 on the target and 0 beside it.
        box: x0, y0, x1, y1, inclusive.
        mask: (m, m) low-resolution logits of an earlier answer for the same slice (`Decoded.low_res`).
    """

    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: NDArray[np.float32] | None = field(default=None, compare=False)

    @property
    def empty(self) -> bool:
        """Whether the network is left to segment on its own."""
        return not self.points and self.box is None and self.mask is None

    def check(self, size: tuple[int, int]) -> None:
        """Raise PromptError if a point or the box does not lie in a slice of `size` (rows, columns), or is malformed."""
        height, width = size
        for x, y, label in self.points:
            if label not in (0, 1):
                raise PromptError(f"Point ({x}, {y}) has label {label!r}, expected 1 (target) or 0 (not target).")
            _check_coordinate("Point x (column)", x, width)
            _check_coordinate("Point y (row)", y, height)
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            for name, value, count in (("x0", x0, width), ("y0", y0, height), ("x1", x1, width), ("y1", y1, height)):
                _check_coordinate(f"Box {name}", value, count)
            if x1 < x0 or y1 < y0:
                raise PromptError(f"Box {list(self.box)} is inside out, expected x0 <= x1 and y0 <= y1.")


def checked_axis(axis: str) -> Axis:
    """`axis` if it is k, j or i, else PromptError."""
    if axis not in AXES:
        raise PromptError(f"Axis {axis!r}, expected one of k, j, i (the voxel axis that slices are perpendicular to).")
    return axis


def slice_count(shape_kji: Sequence[int], axis: Axis) -> int:
    """Number of slices perpendicular to `axis`."""
    return int(shape_kji[AXES.index(axis)])


def slice_size(shape_kji: Sequence[int], axis: Axis) -> tuple[int, int]:
    """Rows and columns of a slice perpendicular to `axis`."""
    rows, columns = (int(count) for place, count in enumerate(shape_kji[:3]) if place != AXES.index(axis))
    return rows, columns


def take_slice(array: NDArray[Any], axis: Axis, index: int) -> NDArray[Any]:
    """The slice at `index` as a view: (rows, columns) or, of a colour picture, (rows, columns, 3).

    Raises:
        PromptError: there is no such slice.
    """
    count = slice_count(array.shape, axis)
    if not 0 <= index < count:
        raise PromptError(f"Slice {index} along {axis}, expected 0 to {count - 1}.")
    return array[(slice(None),) * AXES.index(axis) + (index,)]


def put_slice(array: NDArray[Any], axis: Axis, index: int, pixels: NDArray[Any]) -> None:
    """Write `pixels` into the slice at `index`, in place. Raises as `take_slice` does."""
    take_slice(array, axis, index)[...] = pixels


def prompts_by_slice(
    *,
    foreground: Sequence[Sequence[float]] = (),
    background: Sequence[Sequence[float]] = (),
    roi: Sequence[float] | None = None,
    axis: Axis,
    shape_kji: Sequence[int],
) -> dict[int, SlicePrompts]:
    """Sort a volume's prompts by slice.

    A point touches its own slice only. A box spans slices; on a slice with both, the point is combined with the box.

    Args:
        foreground: voxels (i, j, k) on the target; fractions are rounded to the voxel.
        background: voxels (i, j, k) beside the target.
        roi: i0, i1, j0, j1, k0, k1, inclusive; None or empty for no box.
        axis: the slices' axis.
        shape_kji: the image's size; a fourth number (colours) is ignored.

    Returns:
        Prompts by slice index, only for slices that have any; in ascending order.

    Raises:
        PromptError: a voxel is malformed, not finite or outside the image; it says which, and the allowed range.
    """
    counts = {"k": int(shape_kji[0]), "j": int(shape_kji[1]), "i": int(shape_kji[2])}
    row_axis, column_axis = (name for name in AXES if name != axis)
    points: dict[int, list[tuple[float, float, int]]] = {}
    for kind, label, voxels in (("Foreground", 1, foreground), ("Background", 0, background)):
        for number, voxel in enumerate(voxels):
            ijk = _checked_voxel(f"{kind} point {number}", voxel, counts)
            points.setdefault(ijk[axis], []).append((float(ijk[column_axis]), float(ijk[row_axis]), label))
    box: tuple[float, float, float, float] | None = None
    boxed: range = range(0)
    if roi is not None and len(roi):
        low, high = _checked_roi(roi, counts)
        box = (float(low[column_axis]), float(low[row_axis]), float(high[column_axis]), float(high[row_axis]))
        boxed = range(low[axis], high[axis] + 1)
    return {
        index: SlicePrompts(points=tuple(points.get(index, ())), box=box if index in boxed else None) for index in sorted({*points, *boxed})
    }


def tight_box(mask: NDArray[Any]) -> tuple[float, float, float, float]:
    """The smallest box x0, y0, x1, y1 (inclusive) around everything that is not 0 in a mask (rows, columns).

    Raises:
        PromptError: the mask is empty.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise PromptError("An empty mask has no box.")
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def _checked_voxel(name: str, voxel: Sequence[float], counts: Mapping[str, int]) -> dict[str, int]:
    try:
        values = [float(value) for value in voxel]
    except (TypeError, ValueError):
        raise PromptError(f"{name} is {voxel!r}, expected three numbers i, j, k.") from None
    if len(values) != 3:
        raise PromptError(f"{name} is {voxel!r}, expected three numbers i, j, k.")
    return {axis: _voxel_index(f"{name}, {axis}", value, counts[axis]) for axis, value in zip("ijk", values, strict=True)}


def _checked_roi(roi: Sequence[float], counts: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    try:
        values = [float(value) for value in roi]
    except (TypeError, ValueError):
        raise PromptError(f"Box {roi!r}, expected six numbers i0, i1, j0, j1, k0, k1.") from None
    if len(values) != 6:
        raise PromptError(f"Box {roi!r}, expected six numbers i0, i1, j0, j1, k0, k1.")
    low = {axis: _voxel_index(f"Box {axis}0", values[2 * place], counts[axis]) for place, axis in enumerate("ijk")}
    high = {axis: _voxel_index(f"Box {axis}1", values[2 * place + 1], counts[axis]) for place, axis in enumerate("ijk")}
    for axis in "ijk":
        if high[axis] < low[axis]:
            raise PromptError(f"Box from {axis} {low[axis]} to {high[axis]} is inside out, expected {axis}0 <= {axis}1.")
    return low, high


def _voxel_index(name: str, value: float, count: int) -> int:
    _check_coordinate(name, value, count)
    return min(max(math.floor(value + 0.5), 0), count - 1)


def _check_coordinate(name: str, value: float, count: int) -> None:
    # the pixel at index v covers v - 1/2 to v + 1/2
    if not (math.isfinite(value) and -0.5 <= value <= count - 0.5):
        raise PromptError(f"{name} is {value:g}, expected 0 to {count - 1}: it lies outside the image.")
