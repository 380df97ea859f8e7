"""The labelled cases of a site: a MONAI Label local datastore on the disk, read only. No torch and no image library: see `case_loading`.

Images are <studies>/<case>.<ext> (or a folder <studies>/<case> of DICOM files), finished labels <studies>/labels/final/<case>.<ext>.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sam_adapters.image_names import image_extension
from sam_adapters.label_log import label_file_sha256
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import load_patients, load_split, patient_of, role_of

FINAL_TAG = "final"


@dataclass(frozen=True)
class LabelledCase:
    """A case with a finished label.

    Attributes:
        case: its name in the datastore.
        patient: whose it is (see `splits`); cases of one patient stay together.
        image: file, or folder of a DICOM series.
        label: label file.
        label_sha256: sha256 (hex) of the label file's bytes.
    """

    case: str
    patient: str
    image: Path
    label: Path
    label_sha256: str


@dataclass(frozen=True)
class CaseSplit:
    """Labelled cases to train on and to validate on. Test cases are in neither."""

    train: tuple[LabelledCase, ...]
    validation: tuple[LabelledCase, ...]


def labelled_cases(site: SiteDirectory, settings: SiteSettings, *, tag: str = FINAL_TAG) -> list[LabelledCase]:
    """Every case with a label under `tag` and an image, sorted by name. Contents are not looked at here.

    A label that was saved again in another format wins over the older file.

    Raises:
        SettingError: patients.json cannot be used.
    """
    patients = load_patients(site)
    labels = _newest_by_case(site.studies / "labels" / tag)
    images = _newest_by_case(site.studies, folders=True)
    return [
        LabelledCase(case, patient_of(case, patients), images[case], label, label_file_sha256(label))
        for case, label in sorted(labels.items())
        if case in images
    ]


def split_cases(cases: Iterable[LabelledCase], site: SiteDirectory, settings: SiteSettings) -> CaseSplit:
    """Cases to train on and to validate on, by `split.json` or else by a hash of the patient.

    Raises:
        SettingError: split.json or patients.json cannot be used.
    """
    split, patients = load_split(site), load_patients(site)
    train: list[LabelledCase] = []
    validation: list[LabelledCase] = []
    for case in cases:
        role = role_of(case.case, split=split, patients=patients, fraction=settings.validation_fraction)
        if role == "train":
            train.append(case)
        elif role == "validation":
            validation.append(case)
    return CaseSplit(tuple(train), tuple(validation))


def _newest_by_case(folder: Path, *, folders: bool = False) -> dict[str, Path]:
    """Case name -> its newest image file in `folder`; hidden files (writes under way) are left out."""
    found: dict[str, tuple[int, str, Path]] = {}
    if not folder.is_dir():
        return {}
    for path in folder.iterdir():
        extension = image_extension(path)
        is_series = folders and path.is_dir() and path.name != "labels"
        if path.name.startswith(".") or not (is_series or (extension and path.is_file())):
            continue
        case = path.name if is_series or extension is None else path.name[: -len(extension)]
        entry = (path.stat().st_mtime_ns, path.name, path)
        if case and entry > found.get(case, (-1, "", path)):
            found[case] = entry
    return {case: path for case, (_, _, path) in found.items()}
