"""Masks to disk: one function a format, every one atomic. Arrays are (k, j, i)."""

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters import atomic
from sam_adapters.geometry import Geometry
from sam_adapters.native_headers import nifti_mask_bytes, nrrd_mask_bytes


def write_mask_file(values: NDArray[Any], geometry: Geometry, path: Path, extension: str) -> None:
    """Write `values` (k, j, i; uint8 or uint16) under `geometry` in the format of `extension`; see `images.write_mask`."""
    native = geometry.native.format if geometry.native else None
    if native == "nifti" and extension in (".nii", ".nii.gz") and geometry.native:
        data = nifti_mask_bytes(geometry.native, values)
        data = gzip.compress(data, compresslevel=6, mtime=0) if extension == ".nii.gz" else data
    elif native == "nrrd" and extension in (".nrrd", ".seg.nrrd") and geometry.native:
        data = nrrd_mask_bytes(geometry.native, values)
    else:
        data = _through_simpleitk(values, geometry, extension)
    atomic.write_bytes(path, data)


def _through_simpleitk(values: NDArray[Any], geometry: Geometry, extension: str) -> bytes:
    """The bytes of a file that SimpleITK writes: PNG as a two-dimensional picture, all else as a volume."""
    if extension == ".png":
        image = sitk.GetImageFromArray(np.ascontiguousarray(values[0]))
        image.SetSpacing(geometry.spacing[:2])
    else:
        image = sitk.GetImageFromArray(np.ascontiguousarray(values))
        image.SetSpacing(geometry.spacing)
        image.SetOrigin(geometry.origin)
        image.SetDirection(geometry.direction)
    with tempfile.TemporaryDirectory(prefix="fedsca-mask-") as folder:
        file = Path(folder) / f"mask{extension}"
        sitk.WriteImage(image, str(file), useCompression=extension != ".nii")
        return file.read_bytes()
