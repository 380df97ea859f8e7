"""Masks of one slice on the wire: only the box that changed, one bit a pixel, compressed. Pure functions.

Masks are (rows, columns) boolean. Boxes are x0, y0, x1, y1, inclusive; x = column, y = row.
Packed bits are base64(zlib(bits)): the pixels of the box row by row, eight to a byte, the first in the highest bit, 0 filling up the last.
"""

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monailabel_app.app_errors import RequestError

Box = tuple[int, int, int, int]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """What a mask holds inside a box now; outside of the box nothing changed. Applying it twice is applying it once."""

    box: Box
    data: str


def mask_box(mask: NDArray[Any]) -> Box | None:
    """The smallest box around everything that is not 0; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def change_between(before: Mask | None, after: Mask) -> Change | None:
    """The smallest change that makes `after` of `before` (None: of an empty mask); None when they are equal."""
    box = mask_box(after if before is None else before ^ after)
    if box is None:
        return None
    return Change(box, pack(after[_inside(box)]))


def apply_change(mask: Mask, change: Change | None) -> Mask:
    """A copy of `mask` with the change in it. Raises RequestError if the change does not fit the mask."""
    changed = mask.copy()
    if change is not None:
        checked_box(change.box, (mask.shape[0], mask.shape[1]), "The change")
        changed[_inside(change.box)] = unpack(change.data, box_size(change.box), "The change")
    return changed


def place(box: Sequence[int], data: str, size: tuple[int, int], name: str) -> Mask:
    """A mask of `size` (rows, columns) with the packed bits inside the box, False outside.

    Raises:
        RequestError: the box lies outside the slice, or the bits are not those of such a box; `name` says whose they are.
    """
    found = checked_box(box, size, name)
    mask = np.zeros(size, np.bool_)
    mask[_inside(found)] = unpack(data, box_size(found), name)
    return mask


def pack(crop: NDArray[Any]) -> str:
    """The pixels of a box, packed; see the module."""
    return base64.b64encode(zlib.compress(np.packbits(crop).tobytes())).decode("ascii")


def unpack(text: str, size: tuple[int, int], name: str = "The mask") -> Mask:
    """The pixels of a box of `size` (rows, columns). Never inflates more than the box holds.

    Raises:
        RequestError: not base64 of zlib of exactly that many pixels.
    """
    expected = -(-size[0] * size[1] // 8)
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(base64.b64decode(text, validate=True), expected + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise RequestError(f"{name} cannot be unpacked, expected base64 of zlib of one bit a pixel ({error}).") from error
    if len(raw) != expected or not inflate.eof or inflate.unused_data:
        raise RequestError(f"{name} does not hold exactly one bit for each of the {size[0]} rows × {size[1]} columns of its box.")
    return np.unpackbits(np.frombuffer(raw, np.uint8), count=size[0] * size[1]).reshape(size).astype(np.bool_)


def checked_box(box: Sequence[int], size: tuple[int, int], name: str) -> Box:
    """`box` if it lies in a slice of `size` (rows, columns) and its ends are in order, else RequestError."""
    x0, y0, x1, y1 = (int(value) for value in box)
    rows, columns = size
    for end, value, count in (("x0", x0, columns), ("y0", y0, rows), ("x1", x1, columns), ("y1", y1, rows)):
        if not 0 <= value < count:
            raise RequestError(f"{name} has a box with {end} = {value}, expected 0 to {count - 1}: it lies outside the slice.")
    if x1 < x0 or y1 < y0:
        raise RequestError(f"{name} has the box {[x0, y0, x1, y1]}, which is inside out: expected x0 <= x1 and y0 <= y1.")
    return x0, y0, x1, y1


def box_size(box: Box) -> tuple[int, int]:
    """Rows and columns of a box."""
    x0, y0, x1, y1 = box
    return y1 - y0 + 1, x1 - x0 + 1


def _inside(box: Box) -> tuple[slice, slice]:
    x0, y0, x1, y1 = box
    return slice(y0, y1 + 1), slice(x0, x1 + 1)
