"""What a client downloads as a case's image: the file itself; of a DICOM folder one NRRD file with exactly its voxels and geometry.

3D Slicer and MONAI Label's clients load one file. NRRD keeps spacing, origin and direction in double precision (NIfTI would round them to
single). The files lie in the site's work folder, named by the folder's state: a series that has changed is converted anew.
Threads: any; two that convert the same series at once write the same file, atomically.
"""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from monailabel_app.guarded_datastore import SERIES_DOWNLOAD_EXTENSION
from sam_adapters.images import MedicalImage, read_image

MAX_CONVERTED_BYTES = 4 * 2**30
"""Conversions are kept up to this size in all; the oldest go first."""


def download_file(image: Path, work: Path) -> Path:
    """The file to be sent for an image.

    Args:
        image: file or DICOM folder.
        work: folder for conversions; made if it is not there.

    Raises:
        ImageError: the folder is not one readable series.
    """
    if not image.is_dir():
        return image
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = work / f"{_state(image)}{SERIES_DOWNLOAD_EXTENSION}"
    if target.exists():
        os.utime(target)
        return target
    _write(read_image(image), target)
    _forget_oldest(work, keep=target)
    return target


def _state(folder: Path) -> str:
    """A name for a folder's contents, from names, sizes and times of its files."""
    digest = hashlib.sha256(str(folder).encode(errors="surrogateescape"))
    for entry in sorted(folder.iterdir()):
        found = entry.stat()
        digest.update(f"\0{entry.name}\0{found.st_size}\0{found.st_mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _write(image: MedicalImage, target: Path) -> None:
    volume = sitk.GetImageFromArray(np.ascontiguousarray(image.array), isVector=image.array.ndim == 4)
    volume.SetSpacing(image.geometry.spacing)
    volume.SetOrigin(image.geometry.origin)
    volume.SetDirection(image.geometry.direction)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=target.parent) as folder:
        file = Path(folder) / target.name
        sitk.WriteImage(volume, str(file))
        file.replace(target)


def _forget_oldest(work: Path, keep: Path) -> None:
    files = sorted(work.glob(f"*{SERIES_DOWNLOAD_EXTENSION}"), key=lambda file: file.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > MAX_CONVERTED_BYTES and file != keep:
            file.unlink(missing_ok=True)
