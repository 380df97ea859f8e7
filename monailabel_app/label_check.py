"""Whether an uploaded file is an image, and a label can be used with its image. Meant to cost milliseconds: voxels are read only of small
labels, of others the header has to do."""

import math
from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from sam_adapters.errors import ImageError, LabelError
from sam_adapters.geometry import Geometry
from sam_adapters.images import PICTURE_EXTENSIONS, read_image, read_label

FULL_CHECK_VOXELS = 2_000_000
"""Labels up to this size are read whole: about 20 ms."""


def header_geometry(path: Path) -> Geometry:
    """Geometry from a file's header; of a DICOM folder, from its whole series.

    Raises:
        ImageError: the file is not an image of two or three axes.
    """
    if path.is_dir():
        return read_image(path).geometry
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ImageError(f"{path.name} cannot be read as an image: it is damaged or of another format.") from error
    size, spacing, origin, direction = reader.GetSize(), reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
    if len(size) == 3:
        return Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(direction), 3)
    if len(size) == 2:
        a, b, c, d = direction
        return Geometry(
            (size[0], size[1], 1), (spacing[0], spacing[1], 1.0), (origin[0], origin[1], 0.0), (a, b, 0.0, c, d, 0.0, 0.0, 0.0, 1.0), 2
        )
    raise ImageError(f"{path.name} has {len(size)} axes, expected 2 or 3.")


def label_problem(image: Path, label: Path, series: Callable[[Path], Geometry] = header_geometry) -> str | None:
    """Why a label cannot be used with its image, as a sentence; None when it can.

    Of a label above `FULL_CHECK_VOXELS` only the header is looked at; what is wrong with its voxels is found, and the label left out, when
    a tuning reads it.

    Args:
        series: geometry of a DICOM folder; a caller that has it in memory saves reading it.
    """
    try:
        wanted, found = series(image) if image.is_dir() else header_geometry(image), header_geometry(label)
        if math.prod(found.size) <= FULL_CHECK_VOXELS:
            read_label(label)
    except (ImageError, LabelError) as error:
        return str(error)
    if image.name.lower().endswith(PICTURE_EXTENSIONS):
        same = wanted.size == found.size
        difference = None if same else f"size {found.size[0]} × {found.size[1]} instead of {wanted.size[0]} × {wanted.size[1]} pixels"
    else:
        difference = wanted.difference(found)
    if difference is None:
        return None
    return f"The label lies on another grid than its image: {difference}. Export it on the image's own grid."
