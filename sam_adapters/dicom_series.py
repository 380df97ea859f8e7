"""Which files of a folder make up its one DICOM series, in order of position. Reads headers only; no state."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters.errors import ImageError

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
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
