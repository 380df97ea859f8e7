"""Checks that an image file is whole and holds its own voxels, before SimpleITK reads it. Reads only; no threads.

Tried with SimpleITK 2.5: a NIfTI file cut in half (plain or gzipped) and a JPEG cut in half come back as an image whose rest is made up.
NRRD, MetaImage and PNG raise by themselves. NRRD and MetaImage headers may name another file as the place of their voxels, which SimpleITK
would read: any file of this machine.
"""

import gzip
import math
import re
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from sam_adapters.errors import ImageError

_CHUNK = 1 << 20
_HEADER_LIMIT = 1 << 20
_BOMB_BYTES = 256 << 20
_BOMB_RATIO = 200


def require_own_voxels(path: Path) -> None:
    """Raise ImageError for a NRRD or MetaImage file whose voxels lie in another file."""
    name = path.name.lower()
    if not name.endswith((".nrrd", ".mha")):
        return
    with path.open("rb") as stream:
        head = stream.read(_HEADER_LIMIT)
    if name.endswith(".nrrd"):
        fields = (line.split(b":", 1)[0].strip().lower() for line in head.replace(b"\r", b"\n").partition(b"\n\n")[0].split(b"\n"))
        detached = any(field in (b"data file", b"datafile") for field in fields)
    else:
        # ElementDataFile is the header's last field: what comes after it is voxels.
        named = re.search(rb"^\s*ElementDataFile\s*[=:]\s*([^\r\n]*)", head, re.MULTILINE | re.IGNORECASE)
        detached = named is not None and named[1].strip().upper() != b"LOCAL"
    if detached:
        raise ImageError(f"{path.name} keeps its voxels in another file: export it as one file.")


def require_content(path: Path, promised: int) -> None:
    """Raise ImageError for a large image in a file so small that its voxels can hold next to nothing but one value.

    A file of zeros that a mail could carry would otherwise take gigabytes of memory. Real images shrink to a third, empty ones of the
    `_BOMB_BYTES` that are taken here to a thousandth; labels are not images, they do shrink that far.

    Args:
        promised: size in bytes of the voxels that the header describes.
    """
    size = path.stat().st_size
    if promised > _BOMB_BYTES and promised > size * _BOMB_RATIO:
        raise ImageError(
            f"{path.name} has {size:,} bytes and promises {promised / 2**20:,.0f} MiB of voxels: nearly all would have the same value."
        )


def require_whole_nifti(path: Path) -> None:
    """Raise ImageError unless a NIfTI file holds all the voxels that its header promises; a gzip file's checksum is verified too."""
    try:
        needed = _promised_bytes(path)
        found = _decompressed_size(path, needed) if path.suffix.lower() == ".gz" else path.stat().st_size
    except (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        reason = str(error).replace(str(path), path.name)
        raise ImageError(f"{path.name} is damaged or cut short ({reason}): copy or export it again.") from error
    if found < needed:
        raise ImageError(f"{path.name} is cut short: {found:,} bytes where its header promises {needed:,}. Copy or export it again.")


def is_finite_nifti(path: Path) -> bool:
    """Whether every stored voxel of a NIfTI file is a number; SimpleITK reads those that are not as 0."""
    image = nib.load(path)
    return all(bool(np.isfinite(image.dataobj[..., k]).all()) for k in range(image.shape[-1]))


def _promised_bytes(path: Path) -> int:
    """Size of the whole file, decompressed, by its header. ITK does not tell: of a rescaled image it names the type after rescaling."""
    stored = nib.load(path).dataobj
    return int(stored.offset + math.prod(stored.shape) * stored.dtype.itemsize)


def _decompressed_size(path: Path, needed: int) -> int:
    """Bytes in a gzip file; reading stops a little after `needed`, so that a maliciously compressible file costs nothing."""
    total = 0
    with gzip.open(path, "rb") as stream:
        while total <= needed + 64 * _CHUNK:
            part = stream.read(_CHUNK)
            if not part:
                break
            total += len(part)
    return total


def require_whole_jpeg(path: Path) -> None:
    """Raise ImageError unless a JPEG file has its end-of-image marker after the start of its scan.

    Layout: ITU-T T.81 annex B. The segments before the scan are skipped by their lengths, because an embedded thumbnail has an end marker
    of its own; inside the scan, 0xFF is always followed by a stuffed 0, so that FF D9 can only be the marker.
    """
    data = path.read_bytes()
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xDA and data.find(b"\xff\xd9", position) >= 0:
            return
        if marker == 0xDA:
            break
    raise ImageError(f"{path.name} is cut short: its end-of-image marker is missing. Copy or export it again.")
