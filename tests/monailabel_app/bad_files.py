"""Files that are not what they claim to be: cut short, of another kind, promising more than they hold, or pointing elsewhere."""

import gzip
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from tests.monailabel_app.server_process import write_picture, write_volume


def whole_files(folder: Path) -> dict[str, bytes]:
    """Good files by name, to be spoilt."""
    found = {}
    for name in ("v.nii.gz", "v.nii", "v.nrrd", "v.mha"):
        write_volume(folder / name)
        found[name] = (folder / name).read_bytes()
    for name in ("p.png", "p.jpg"):
        write_picture(folder / name)
        found[name] = (folder / name).read_bytes()
    return found


def bad_images(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What is wrong -> file name and content. None of them is an image."""
    whole = whole_files(folder)
    cut = {f"cut {name}": (name, data[: len(data) * 3 // 5]) for name, data in whole.items()}
    text = {f"text as {name}": (name, b"this is a letter, not an image\n" * 40) for name in whole}
    four = sitk.JoinSeries([sitk.ReadImage(str(folder / "v.nii.gz"))] * 3)
    sitk.WriteImage(four, str(folder / "four.nii.gz"))
    zeros = gzip.compress(bytes(1 << 24), 9)
    return {
        **cut,
        **text,
        "empty": ("v.nii.gz", b""),
        "four axes": ("v.nii.gz", (folder / "four.nii.gz").read_bytes()),
        "2 GB of zeros": ("v.nii.gz", gzip.compress(nifti_header(1000, 1000, 1000), 9) + zeros * 120),
        "promises 70 TB": ("v.nii.gz", gzip.compress(nifti_header(32767, 32767, 32767), 9)),
        "promises 2 MB": ("v.nii", nifti_header(100, 100, 100) + bytes(500)),
        "promises 2 MB, gzipped": ("v.nii.gz", gzip.compress(nifti_header(100, 100, 100) + bytes(500))),
        "PNG of 2.5 gigapixels": ("p.png", png(50_000, 50_000)),
        "PNG of 400 megapixels": ("p.png", png(20_000, 20_000)),
        "NRRD of another file": ("v.nrrd", nrrd(b"data file: /etc/hostname")),
        "NRRD of a list of files": ("v.nrrd", nrrd(b"datafile: LIST")),
        "NRRD of a billion channels": ("v.nrrd", nrrd(b"content: x", sizes=b"1000000000 2 2 2")),
        "MetaImage of another file": ("v.mha", mha("/etc/hostname")),
        "MetaImage of a pattern of files": ("v.mha", mha("%d.raw 1 3 1")),
    }


def nifti_header(*size: int) -> bytes:
    """The 352 bytes before the voxels of an int16 NIfTI-1 volume."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(size)
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    return bytes(header.binaryblock) + bytes(4)


def png(width: int, height: int) -> bytes:
    """A grey PNG that promises so many pixels and holds one row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(width + 1))) + chunk(b"IEND", b"")


def nrrd(field: bytes, sizes: bytes = b"2 2 2") -> bytes:
    """A raw NRRD of shorts with one more header field."""
    dimension = str(len(sizes.split())).encode()
    lines = [b"NRRD0004", b"type: short", b"dimension: " + dimension, b"sizes: " + sizes, b"encoding: raw", b"endian: little", field]
    return b"\n".join(lines) + b"\n\n" + bytes(16)


def mha(data_file: str) -> bytes:
    """A MetaImage whose voxels lie in `data_file`."""
    lines = ["ObjectType = Image", "NDims = 3", "DimSize = 2 2 2", "ElementType = MET_SHORT", f"ElementDataFile = {data_file}", ""]
    return "\n".join(lines).encode() + bytes(16)
