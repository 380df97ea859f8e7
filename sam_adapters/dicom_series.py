"""Which folders hold DICOM files, and which of a folder's files make up its one series, in order of position. Reads headers; no state."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters.errors import ImageError

_POSITION, _ORIENTATION, _MODALITY = "0020|0032", "0020|0037", "0008|0060"
_PREAMBLE, _MAGIC = 128, b"DICM"
_LOOKED_AT = 32
GAP_TOLERANCE = 0.1
"""Largest deviation of a slice distance from the median one, as a fraction: more means that slices are missing."""


def series_files(folder: Path) -> list[Path]:
    """The files of the one series in `folder`, sorted along the slice normal.

    Raises:
        ImageError: no DICOM series, several of them, several images at one position (a time series), or missing slices.
    """
    ids = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not ids:
        raise ImageError(f"Folder {folder.name} holds no DICOM series.")
    if len(ids) > 1:
        raise ImageError(f"Folder {folder.name} holds {len(ids)} DICOM series, expected one: put each into a folder of its own.")
    files = [Path(name) for name in sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), ids[0])]
    positions = np.array([_position_along_normal(file) for file in files])
    if len(files) > 1 and np.isfinite(positions).all():
        _require_even_steps(np.diff(np.sort(positions)), folder)
    return files


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds DICOM files: one of its first files by name (those ending in .dcm first) begins as they do."""
    try:
        files = sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=_dcm_first)[:_LOOKED_AT]
        return any(entry.is_file() and _begins_as_dicom(entry) for entry in files)
    except OSError:
        return False


def modality_of(path: Path) -> str:
    """DICOM modality (CT, MR …) of a DICOM file or a folder of them; "" for anything else."""
    if path.is_dir():
        files = sorted((entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith(".")), key=_dcm_first)
        found = next((entry for entry in files[:_LOOKED_AT] if _begins_as_dicom(entry)), None)
    else:
        found = path if path.name.lower().endswith(".dcm") else None
    return "" if found is None else _text(found, _MODALITY)


def _dcm_first(entry: Path) -> tuple[bool, str]:
    return not entry.name.lower().endswith(".dcm"), entry.name


def _begins_as_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(_PREAMBLE + len(_MAGIC))[_PREAMBLE:] == _MAGIC


def _text(file: Path, tag: str) -> str:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        return str(reader.GetMetaData(tag)).strip()
    except RuntimeError:
        return ""


def _require_even_steps(steps: NDArray[np.float64], folder: Path) -> None:
    typical = float(np.median(steps))
    if float(steps.min()) < 1e-3 * max(typical, 1.0):
        raise ImageError(f"Folder {folder.name} has several images at one position (a time series?): export one time point.")
    if float(np.abs(steps - typical).max()) > GAP_TOLERANCE * typical:
        raise ImageError(
            f"Folder {folder.name} has slices {steps.min():.3g} to {steps.max():.3g} mm apart: slices are missing, export the series again."
        )


def _position_along_normal(file: Path) -> float:
    """Distance in mm of a slice along its normal, NaN where the header does not say."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        position = _numbers(reader.GetMetaData(_POSITION), 3)
        orientation = _numbers(reader.GetMetaData(_ORIENTATION), 6)
    except (RuntimeError, ValueError):
        return float("nan")
    return float(np.dot(np.cross(orientation[:3], orientation[3:]), position))


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    values = np.array([float(part) for part in text.split("\\")])
    if values.shape != (count,):
        raise ValueError(text)
    return values
