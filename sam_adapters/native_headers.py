"""The geometry fields of NIfTI and NRRD headers, kept as they stand in the file.

Both formats store geometry in another form than ITK holds it (NIfTI: float32 matrices and quaternions; NRRD: spacing and direction as one
vector), so that geometry taken from ITK and written again comes back changed in its last digits: up to 7e-8 in a NIfTI direction. Repeating
the fields themselves brings back exactly the same numbers.
"""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from sam_adapters.geometry import NativeHeader

_NRRD_GEOMETRY = ("space", "space dimension", "space directions", "space origin", "space units")
_NRRD_HEADER_LIMIT = 1 << 20


def native_header(path: Path) -> NativeHeader | None:
    """Header fields of a NIfTI or three-dimensional NRRD file that a mask can repeat; None for other formats and forms."""
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        return _nifti(path)
    return _nrrd(path) if name.endswith(".nrrd") else None


def _nifti(path: Path) -> NativeHeader | None:
    try:
        header = nib.load(path).header
    except (HeaderDataError, ImageFileError, ValueError, OSError):
        return None
    single = isinstance(header, nib.Nifti1Header)  # Nifti2Header is its subclass, Analyze is not
    return NativeHeader("nifti", header.binaryblock) if single and header["dim"][0] <= 4 else None


def _nrrd(path: Path) -> NativeHeader | None:
    with path.open("rb") as stream:
        head = stream.read(_NRRD_HEADER_LIMIT)
    text = head.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("ascii", "replace")
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith("#"))
    directions = [part for part in fields.get("space directions", "").split() if part != "none"]
    if len(directions) != 3 or not ("space" in fields or "space dimension" in fields):
        return None
    fields["space directions"] = " ".join(directions)  # the colour axis of an RGB volume has no direction
    lines = [f"{key}: {fields[key].strip()}" for key in _NRRD_GEOMETRY if key in fields]
    return NativeHeader("nrrd", "\n".join(lines).encode("ascii", "replace"))


def nifti_mask_bytes(header: NativeHeader, values: NDArray[Any]) -> bytes:
    """A whole uncompressed NIfTI file: `values` (k, j, i) under the geometry fields of `header`."""
    block = header.payload
    second = len(block) == nib.Nifti2Header.sizeof_hdr
    fields = (nib.Nifti2Header if second else nib.Nifti1Header)(block, check=False)
    spatial = values.transpose()
    if int(fields["dim"][0]) == 2 and spatial.shape[2] == 1:
        spatial = spatial[..., 0]
    fields.set_data_dtype(values.dtype)
    fields.set_intent("none")
    fields["cal_min"] = fields["cal_max"] = 0
    # Without an affine, nibabel leaves pixdim, qform and sform as they are and sets only what describes the voxels.
    image = (nib.Nifti2Image if second else nib.Nifti1Image)(spatial, None, fields)
    image.header.set_slope_inter(1, 0)
    return bytes(image.to_bytes())


def nrrd_mask_bytes(header: NativeHeader, values: NDArray[Any]) -> bytes:
    """A whole gzip-encoded NRRD file: `values` (k, j, i) under the geometry lines of `header` (format NRRD0004)."""
    sizes = " ".join(str(part) for part in values.shape[::-1])
    lines = [
        "NRRD0004",
        f"type: {values.dtype.name}",
        "dimension: 3",
        f"sizes: {sizes}",
        *header.payload.decode("ascii").splitlines(),
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
    ]
    voxels = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return ("\n".join(lines) + "\n\n").encode("ascii") + gzip.compress(voxels, mtime=0)
