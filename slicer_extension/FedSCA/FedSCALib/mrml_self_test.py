"""What the module's own test does inside Slicer: masks, locks and undo on a small volume, without any server."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_files import write_label

SIZE = (12, 10, 4)  # i, j, k
BOX = (2, 3, 6, 7)


def masks_and_locks(scene: Any) -> None:
    """Open a volume, write a mask, and see that a locked label and its neighbour keep their voxels. Raises AssertionError."""
    canvas = MrmlCanvas(scene)
    matrix = np.diag([1.5, 1.5, 4.0, 1.0])
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "self-test.nii.gz"
        write_label(image, np.arange(np.prod(SIZE), dtype=np.uint16).reshape(SIZE[::-1]), matrix)
        canvas.open_image(image, "self-test")
    canvas.add_segment("first", 1)
    canvas.add_segment("second", 2)
    whole = np.ones((5, 5), bool)
    crop = canvas.write("first", "k", 1, BOX, whole, "replace")
    _check(int(canvas.slice_mask("first", "k", 1).sum()) == 25, "a box of 5 x 5 pixels was written")
    canvas.write("second", "k", 1, BOX, whole, "replace")
    _check(not canvas.slice_mask("second", "k", 1).any(), "another label's pixels stay")
    canvas.set_locked("first", True)
    canvas.put("first", "k", 1, BOX, crop.before, whole)
    _check(int(canvas.slice_mask("first", "k", 1).sum()) == 25, "a locked label stays")
    canvas.set_locked("first", False)
    canvas.put("first", "k", 1, BOX, crop.before, whole)
    _check(canvas.empty(), "undo takes it away")
    canvas.close_image()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"This does not hold: {what}.")
