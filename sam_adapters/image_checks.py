"""Checks that an image file is whole, for the formats whose truncated files SimpleITK reads without complaint. Reads only; no threads.

Tried with SimpleITK 2.5: a NIfTI file cut in half (plain or gzipped) and a JPEG cut in half come back as an image whose rest is made up.
NRRD, MetaImage and PNG raise by themselves.
"""

import gzip
import math
import zlib
from pathlib import Path

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from sam_adapters.errors import ImageError

_CHUNK = 1 << 20


def require_whole_nifti(path: Path) -> None:
    """Raise ImageError unless a NIfTI file holds all the voxels that its header promises; a gzip file's checksum is verified too."""
    try:
        needed = _promised_bytes(path)
        found = _decompressed_size(path, needed) if path.suffix.lower() == ".gz" else path.stat().st_size
    except (EOFError, OSError, ValueError, zlib.error, ImageFileError, HeaderDataError) as error:
        raise ImageError(f"{path.name} is damaged or cut short ({error}): copy or export it again.") from error
    if found < needed:
        raise ImageError(f"{path.name} is cut short: {found:,} bytes where its header promises {needed:,}. Copy or export it again.")


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
