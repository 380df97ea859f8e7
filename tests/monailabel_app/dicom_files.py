"""Small DICOM series for tests, drawn: nobody's pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ROW, COLUMN = (0.8, -0.6, 0.0), (0.36, 0.48, 0.8)  # an oblique plane: its normal is (-0.48, -0.64, 0.6)
SPACING = (0.703125, 0.9375, 3.5)  # along i, j, k
ORIGIN = (-117.25, 83.5, 250.125)


def write_series(
    folder: Path,
    array: NDArray[Any],
    *,
    modality: str = "MR",
    patient: str = "P1",
    study: str | None = None,
    series: str | None = None,
    slope: float = 1,
    intercept: float = 0,
    positions: list[float] | None = None,
    end: str = ".dcm",
) -> str:
    """Write a volume (k, j, i) of 16 bits as one file a slice; returns the SeriesInstanceUID.

    Slices are named in no order of theirs. `positions` are mm along the normal, evenly spaced by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame = series or generate_uid(), study or generate_uid(), generate_uid()
    normal = np.cross(ROW, COLUMN)
    places = positions or [k * SPACING[2] for k in range(len(array))]
    for k, (plane, place) in enumerate(zip(array, places, strict=True)):
        dataset = _header(modality, patient, study, series, frame)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [f"{value:.9g}" for value in np.array(ORIGIN) + place * normal]
        dataset.ImageOrientationPatient = [*ROW, *COLUMN]
        dataset.PixelSpacing, dataset.SliceThickness = [SPACING[1], SPACING[0]], SPACING[2]
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, int(plane.dtype.kind == "i")
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.PixelData = np.ascontiguousarray(plane).tobytes()
        pydicom.dcmwrite(folder / f"{(7 * k) % len(array) if len(array) % 7 else k:03d}{end}", dataset, write_like_original=False)
    return str(series)


def _header(modality: str, patient: str, study: str, series: str, frame: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(CT if modality == "CT" else MR)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = "Drawn^Phantom", patient, "", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20260101", "120000", "1", ""
    dataset.ReferringPhysicianName, dataset.Modality, dataset.SeriesNumber = "", modality, 1
    return dataset
