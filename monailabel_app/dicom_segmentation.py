"""A label map as a DICOM Segmentation object (BINARY) that refers to the series it was drawn on. Pure but for the headers that it reads.

Written with pydicom alone (DICOM PS3.3 A.51, C.8.20): highdicom wants pydicom 3 or a numpy before 2, the C++ tools of dcmqi would have to
be downloaded by the server. One frame a segment and slice; slices without the segment have no frame. Patient and study are the series' own.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import ExplicitVRLittleEndian

from sam_adapters.errors import LabelError
from sam_adapters.geometry import Geometry

# Headers are copied as they are: a hospital's odd dates and names are neither ours to repair nor worth a warning for every label.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
SOFTWARE = "FedSCA Label"
MAX_SEGMENTS = 200

_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyDate",
    "StudyTime", "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip
_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
           "ReferringPhysicianName")  # fmt: skip  # must be there, may be empty
_HEADER_TAGS = [*_PATIENT_AND_STUDY, "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImagePositionPatient",
                "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "NumberOfFrames", "Rows", "Columns"]  # fmt: skip


@dataclass(frozen=True)
class Segmentation:
    """A DICOM file in memory, and its UIDs."""

    data: bytes
    sop_uid: str
    series_uid: str
    study_uid: str


def write_segmentation(
    label: NDArray[Any], geometry: Geometry, files: Sequence[Path], *, names: Mapping[int, str], identity: str, when: datetime
) -> Segmentation:
    """Make a DICOM SEG of a label map.

    Args:
        label: (k, j, i), 0 background, every other value one segment.
        geometry: of the image (and so of the label).
        files: the series' files in order of k.
        names: what segments are called, by value; others are called "label <value>".
        identity: what the UIDs are made of: the same text gives the same object, so that sending it twice leaves one.
        when: when the label was saved.

    Raises:
        LabelError: the label is empty, has too many segments, or the series is not one file a slice.
    """
    values = [int(value) for value in np.unique(label) if value]
    if not values:
        raise LabelError("The label is empty: a DICOM SEG needs at least one voxel.")
    if len(values) > MAX_SEGMENTS:
        raise LabelError(f"The label has {len(values)} different values, at most {MAX_SEGMENTS} are sent as DICOM SEG.")
    headers = [_header(file) for file in files]
    _require_one_file_a_slice(label, headers)
    dataset = _dataset(headers[0], identity, when)
    _describe_series(dataset, headers)
    _describe_pixels(dataset, label.shape, geometry, headers[0])
    dataset.SegmentSequence = DicomSequence(
        [_segment(number, names.get(value, f"label {value}")) for number, value in enumerate(values, start=1)]
    )
    _add_frames(dataset, label, values, headers)
    return Segmentation(_bytes(dataset), str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.StudyInstanceUID))


def derived_uid(identity: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that follows from a text."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, identity).int}"


def _header(file: Path) -> Dataset:
    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_HEADER_TAGS)
    except (InvalidDicomError, OSError, ValueError) as error:
        raise LabelError(f"The header of {file.name} cannot be read: no DICOM SEG can refer to it.") from error


def _require_one_file_a_slice(label: NDArray[Any], headers: Sequence[Dataset]) -> None:
    needed = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient",
              "ImageOrientationPatient")  # fmt: skip
    whole = all(all(getattr(header, name, None) for name in needed) and int(header.get("NumberOfFrames") or 1) == 1 for header in headers)
    if len(headers) != label.shape[0] or not whole:
        raise LabelError("The series does not have one file with a place in the patient for each slice: no DICOM SEG can refer to it.")
    if any((header.Rows, header.Columns) != label.shape[1:] for header in headers):
        raise LabelError("The series' files differ in size from the label: no DICOM SEG can refer to them.")


def _dataset(source: Dataset, identity: str, when: datetime) -> FileDataset:
    """Patient, study, series, equipment and instance."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.UID(SEGMENTATION_STORAGE)
    meta.MediaStorageSOPInstanceUID = pydicom.uid.UID(derived_uid(f"instance {identity}"))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.is_little_endian, dataset.is_implicit_VR = True, False
    dataset.SpecificCharacterSet = "ISO_IR 192"
    for name in _PATIENT_AND_STUDY:
        found = source.get(name)
        if found is not None or name in _TYPE_2:
            tag = pydicom.tag.Tag(name)
            vr = pydicom.datadict.dictionary_VR(tag)
            dataset.add(DataElement(tag, vr, "" if found is None else str(found), validation_mode=pydicom.config.IGNORE))
    local = when.astimezone(UTC)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.SeriesInstanceUID = derived_uid(f"series {identity}")
    dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "SEG", 900, 1
    dataset.SeriesDescription = "Segmentation (FedSCA Label)"
    dataset.ContentDate = dataset.SeriesDate = local.strftime("%Y%m%d")
    dataset.ContentTime = dataset.SeriesTime = local.strftime("%H%M%S")
    dataset.TimezoneOffsetFromUTC = "+0000"
    dataset.Manufacturer = dataset.ManufacturerModelName = SOFTWARE
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", "0.1.0"
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = "SEGMENTATION", "Label", ""
    return dataset


def _describe_series(dataset: Dataset, headers: Sequence[Dataset]) -> None:
    """Common Instance Reference: the series that the label was drawn on."""
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = DicomSequence([_reference(header) for header in headers])
    dataset.ReferencedSeriesSequence = DicomSequence([series])


def _describe_pixels(dataset: Dataset, shape: Sequence[int], geometry: Geometry, source: Dataset) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SegmentationType, dataset.SegmentsOverlap = "BINARY", "NO"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    dataset.LossyImageCompression = "00"
    dataset.Rows, dataset.Columns = int(shape[1]), int(shape[2])
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = list(source.get("PixelSpacing") or [_decimal(geometry.spacing[1]), _decimal(geometry.spacing[0])])
    measures.SliceThickness = source.get("SliceThickness") or _decimal(geometry.spacing[2])
    measures.SpacingBetweenSlices = _decimal(geometry.spacing[2])
    orientation.ImageOrientationPatient = list(source.ImageOrientationPatient)
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([orientation])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    organization = Dataset()
    organization.DimensionOrganizationUID = derived_uid(f"dimension {dataset.SOPInstanceUID}")
    dataset.DimensionOrganizationSequence = DicomSequence([organization])
    dataset.DimensionIndexSequence = DicomSequence(
        [
            _dimension(organization.DimensionOrganizationUID, 0x0062000B, 0x0062000A),  # segment number
            _dimension(organization.DimensionOrganizationUID, 0x00200032, 0x00209113),  # position
        ]
    )


def _dimension(uid: str, pointer: int, group: int) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID, item.DimensionIndexPointer, item.FunctionalGroupPointer = uid, pointer, group
    return item


def _segment(number: int, name: str) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, _long_string(name)
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "SEMIAUTOMATIC", SOFTWARE
    item.SegmentedPropertyCategoryCodeSequence = DicomSequence([_tissue()])
    item.SegmentedPropertyTypeCodeSequence = DicomSequence([_tissue()])
    return item


def _tissue() -> Dataset:
    """The code for what has no code: a site's structure has a name and nothing more."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "85756007", "SCT", "Tissue"
    return code


def _add_frames(dataset: Dataset, label: NDArray[Any], values: Sequence[int], headers: Sequence[Dataset]) -> None:
    groups: list[Dataset] = []
    frames: list[NDArray[np.bool_]] = []
    for number, value in enumerate(values, start=1):
        for k, plane in enumerate(label):
            mask = plane == value
            if mask.any():
                groups.append(_frame(number, k, headers[k]))
                frames.append(mask)
    dataset.NumberOfFrames = len(frames)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(groups)
    packed = np.packbits(np.concatenate([frame.ravel() for frame in frames]), bitorder="little").tobytes()
    dataset.add(DataElement(0x7FE00010, "OB", packed + b"\0" * (len(packed) % 2)))


def _frame(number: int, k: int, source: Dataset) -> Dataset:
    content, position, segment, derivation, group = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [number, k + 1]
    position.ImagePositionPatient = list(source.ImagePositionPatient)
    segment.ReferencedSegmentNumber = number
    derivation.SourceImageSequence = DicomSequence([_source(source)])
    derivation.DerivationCodeSequence = DicomSequence([_code("113076", "DCM", "Segmentation")])
    group.FrameContentSequence = DicomSequence([content])
    group.PlanePositionSequence = DicomSequence([position])
    group.SegmentIdentificationSequence = DicomSequence([segment])
    group.DerivationImageSequence = DicomSequence([derivation])
    return group


def _source(header: Dataset) -> Dataset:
    item = _reference(header)
    item.PurposeOfReferenceCodeSequence = DicomSequence([_code("121322", "DCM", "Source image for image processing operation")])
    return item


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _reference(header: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def _decimal(number: float) -> str:
    """A number as DICOM's decimal string of at most 16 characters."""
    return next(text for digits in range(15, 0, -1) if len(text := f"{number:.{digits}g}") <= 16)


def _long_string(name: str) -> str:
    """A name as DICOM's long string: at most 64 characters, no backslash, no control characters."""
    cleaned = "".join(character if character.isprintable() and character != "\\" else " " for character in name).strip()
    return cleaned[:64] or "label"


def _bytes(dataset: FileDataset) -> bytes:
    out = BytesIO()
    pydicom.dcmwrite(out, dataset, write_like_original=False)
    return out.getvalue()


def label_names(info: object, default: str) -> dict[int, str]:
    """Names of label values from what a client sent as `label_info` ([{"name": …, "idx": …}]); `default` for 1 where it says nothing.
    Entries that cannot be used are left out.
    """
    found = {1: default}
    for entry in info if isinstance(info, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("idx"), int) and isinstance(entry.get("name"), str):
            found[entry["idx"]] = entry["name"]
    return found
