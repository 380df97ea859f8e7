"""Whether a label fits its image and holds what was declared, before it replaces the one that is there.

The grid is compared by the headers, before any voxel is read: a file that promises more voxels than its image has costs nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monailabel_app.declared_values import DeclaredValues
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.geometry import Geometry
from sam_adapters.image_names import PICTURE_EXTENSIONS
from sam_adapters.images import header_geometry, read_image, read_label


def check_label(image: Path, label: Path, declared: DeclaredValues, series: Callable[[Path], Geometry] | None = None) -> None:
    """Check one label.

    Args:
        image: the image's file or folder.
        declared: the values that the label may hold.
        series: geometry of a DICOM folder; a caller that has it in memory saves reading it.

    Raises:
        LabelError: the label cannot be read, lies on another grid than its image, holds anything but whole numbers from 0, or values that
            were not declared.
    """
    try:
        found = header_geometry(label)
    except ImageError as error:
        raise LabelError(f"Label cannot be read: {error}") from error
    difference = _difference(image, found, series or _series_geometry)
    if difference is not None:
        raise LabelError(f"The label lies on another grid than its image: {difference}. Export it on the image's own grid.")
    declared.check(values_of(read_label(label)))


def values_of(array: NDArray[Any]) -> set[int]:
    """The values in an array (k, j, i) of whole numbers from 0."""
    found: set[int] = set()
    for part in array:  # slice by slice: np.unique sorts a copy
        counted = np.bincount(part.ravel()) if part.max(initial=0) < 65_536 else None
        found.update(map(int, np.unique(part) if counted is None else np.flatnonzero(counted)))
    return found


def _series_geometry(folder: Path) -> Geometry:
    return read_image(folder).geometry


def _difference(image: Path, found: Geometry, series: Callable[[Path], Geometry]) -> str | None:
    wanted = series(image) if image.is_dir() else header_geometry(image)
    if not image.name.lower().endswith(PICTURE_EXTENSIONS):
        return wanted.difference(found)
    same = wanted.size == found.size
    return None if same else f"size {found.size[0]} × {found.size[1]} instead of {wanted.size[0]} × {wanted.size[1]} pixels"
