"""Masks as they travel: a box and its pixels, one bit each, row by row, zlib and base64 (docs/http.md). Pure functions."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Any, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.errors import BadReply
from FedSCALib.translate import tr

Box = Tuple[int, int, int, int]
"""x0, y0, x1, y1 of a slice, inclusive; x is the column, y the row."""

LARGEST_SIDE = 65536


def pack(crop: NDArray[np.bool_]) -> str:
    """Pixels of a box, bool (rows, columns), as text."""
    return base64.b64encode(zlib.compress(np.packbits(np.asarray(crop, dtype=bool)).tobytes())).decode("ascii")


def unpack(box: Box, data: str) -> NDArray[np.bool_]:
    """Pixels of a box, bool (rows, columns).

    Raises:
        BadReply: the text is not the packed pixels of a box of this size.
    """
    rows, columns = box_shape(box)
    expected = (rows * columns + 7) // 8
    try:
        unzip = zlib.decompressobj()
        raw = unzip.decompress(base64.b64decode(data, validate=True), expected + 1)  # never more than the box can hold
    except (binascii.Error, zlib.error, ValueError) as error:
        raise BadReply(tr("The server sent a mask that cannot be read.")) from error
    if len(raw) != expected:
        text = tr("The server sent {found} bytes for a mask of {rows} x {columns} pixels, expected {expected}.")
        raise BadReply(text.format(found=len(raw), rows=rows, columns=columns, expected=expected))
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=rows * columns)
    return np.asarray(bits.reshape(rows, columns).astype(bool))


def read_box(value: Any) -> Optional[Box]:
    """A box out of JSON; None stays None.

    Raises:
        BadReply: not four whole numbers in order.
    """
    if value is None:
        return None
    numbers = tuple(value) if isinstance(value, (list, tuple)) else ()
    if len(numbers) != 4 or not all(isinstance(number, int) and 0 <= number < LARGEST_SIDE for number in numbers):
        raise BadReply(tr("The server sent the box {box}, expected four whole numbers.").format(box=repr(value)[:80]))
    box: Box = (numbers[0], numbers[1], numbers[2], numbers[3])
    box_shape(box)
    return box


def box_shape(box: Box) -> Tuple[int, int]:
    """Rows and columns of an inclusive box. Raises BadReply where it ends before it begins."""
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        raise BadReply(tr("The server sent the box {box}, which ends before it begins.").format(box=box))
    return y1 - y0 + 1, x1 - x0 + 1


def apply_change(mask: NDArray[np.bool_], box: Optional[Box], pixels: Optional[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """A copy of a slice's mask (rows, columns) with the pixels of a box put in; None changes nothing.

    Raises:
        BadReply: the box does not lie inside the mask.
    """
    changed = np.array(mask, dtype=bool)
    if box is not None and pixels is not None:
        x0, y0, x1, y1 = box
        if y1 >= mask.shape[0] or x1 >= mask.shape[1]:
            text = tr("The server sent a change in {box}, outside of a slice of {rows} x {columns} pixels.")
            raise BadReply(text.format(box=box, rows=mask.shape[0], columns=mask.shape[1]))
        changed[y0 : y1 + 1, x0 : x1 + 1] = pixels
    return changed


def bounds(mask: NDArray[np.bool_]) -> Optional[Box]:
    """The inclusive box around what is set; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])
