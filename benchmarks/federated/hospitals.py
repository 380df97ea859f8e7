"""The hospitals of a benchmark: `<root>/<site>/studies/…` and `<root>/<site>/split.json`, and the cases drawn from them. No torch.

What the product may see of a hospital (training and validation cases) is put into a folder of links of its own; test cases are not in it.
"""

import csv
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from benchmarks.federated.configuration import Configuration
from sam_adapters.cases import LabelledCase, labelled_cases
from sam_adapters.errors import SettingError
from sam_adapters.image_names import image_extension
from sam_adapters.images import read_image
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

SPACING_COLUMNS = ("original_spacing_x_mm", "original_spacing_y_mm", "original_spacing_z_mm")


@dataclass(frozen=True)
class Hospital:
    """One hospital's cases by role, sorted by name, and what cases.csv says of them.

    Attributes:
        patients: case -> patient, where cases.csv tells.
        spacing: case -> real (i, j, k) spacing in mm, where cases.csv tells because the files do not.
    """

    name: str
    train: tuple[LabelledCase, ...]
    validation: tuple[LabelledCase, ...]
    test: tuple[LabelledCase, ...]
    patients: dict[str, str]
    spacing: dict[str, tuple[float, float, float]]


def find_hospitals(root: Path) -> list[Hospital]:
    """Every folder of `root` with studies and a split, by name.

    Raises:
        SettingError: fewer than two, or one whose split cannot be used.
    """
    table = _case_table(root / "cases.csv")
    found = [_hospital(folder, table) for folder in sorted(root.iterdir()) if (folder / "studies").is_dir()] if root.is_dir() else []
    if len(found) < 2:
        raise SettingError(f"{root} holds {len(found)} hospitals: expected at least two folders <site>/studies with <site>/split.json.")
    return found


def read_hospital(folder: Path) -> Hospital:
    """One hospital, of another folder of hospitals.

    Raises:
        SettingError: its studies or split cannot be used.
    """
    if not (folder / "studies").is_dir():
        raise SettingError(f"{folder} is no hospital: expected {folder}/studies and {folder}/split.json.")
    return _hospital(folder, _case_table(folder.parent / "cases.csv"))


def _hospital(folder: Path, table: dict[str, dict[str, str]]) -> Hospital:
    try:
        split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
        names = {role: set(split[role]) for role in ("train", "val", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"{folder / 'split.json'} cannot be used ({error}): expected lists train, val and test of case names."
        ) from error
    cases = labelled_cases(SiteDirectory(folder), SiteSettings())
    roles = {role: tuple(case for case in cases if case.case in chosen) for role, chosen in names.items()}
    for role, chosen in roles.items():
        if not chosen:
            raise SettingError(f"{folder} has no labelled case of the list {role!r}: each of train, val and test needs some.")
    rows = {case.case: table[case.case] for case in cases if case.case in table}
    patients = {case: row["patient"] for case, row in rows.items() if row.get("patient")}
    spacing = {case: _spacing(row) for case, row in rows.items() if all(row.get(key) for key in SPACING_COLUMNS)}
    return Hospital(folder.name, roles["train"], roles["val"], roles["test"], patients, spacing)


def _spacing(row: dict[str, str]) -> tuple[float, float, float]:
    x, y, z = (float(row[key]) for key in SPACING_COLUMNS)
    return x, y, z


def _case_table(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


def drawn(cases: tuple[LabelledCase, ...], count: int, seed: int, name: str) -> tuple[LabelledCase, ...]:
    """`count` of the cases (0: all), evenly drawn by seed and name, in order of their names."""
    if count == 0 or len(cases) <= count:
        return cases
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return tuple(cases[index] for index in sorted(int(one) for one in rng.choice(len(cases), count, replace=False)))


def training_cases(hospital: Hospital, configuration: Configuration, seed: int) -> tuple[LabelledCase, ...]:
    """The training cases of a seed."""
    if hospital.name == configuration.newcomer_site:
        return drawn(hospital.train, configuration.newcomer_cases, seed, f"{hospital.name} train") if configuration.newcomer_cases else ()
    small = configuration.small_cases if hospital.name == configuration.small_site else 0
    return drawn(hospital.train, small or configuration.train_cases, seed, f"{hospital.name} train")


def validation_cases(hospital: Hospital, configuration: Configuration, seed: int) -> tuple[LabelledCase, ...]:
    """The validation cases of a seed."""
    if hospital.name == configuration.newcomer_site and not configuration.newcomer_cases:
        return ()
    return drawn(hospital.validation, configuration.validation_cases, seed, f"{hospital.name} validation")


def test_cases(hospital: Hospital, configuration: Configuration) -> tuple[LabelledCase, ...]:
    """The test cases: the same for every seed, method and arm."""
    return drawn(hospital.test, configuration.test_cases, 0, f"{hospital.name} test")


def spare_cases(hospital: Hospital, configuration: Configuration, seed: int, most: int) -> tuple[LabelledCase, ...]:
    """Validation and training cases that the seed has not drawn, of patients that it has not drawn either; so many at most, 0 for all."""
    used = (*training_cases(hospital, configuration, seed), *validation_cases(hospital, configuration, seed))
    seen = {hospital.patients.get(case.case, case.patient) for case in used}
    free = (case for case in (*hospital.validation, *hospital.train) if hospital.patients.get(case.case, case.patient) not in seen)
    return drawn(tuple(free), most, seed, f"{hospital.name} spare")


def scored_cases(hospital: Hospital, configuration: Configuration, seed: int) -> tuple[LabelledCase, ...]:
    """What figures are of: the test cases, the same for every seed, method and arm; or as many validation cases, the same too; or as many
    cases that the seed spares.

    Raises:
        SettingError: `scored` is none of these, or the hospital has no case to spare.
    """
    wanted = configuration.scored
    if wanted == "test":
        return test_cases(hospital, configuration)
    if wanted == "validation":
        return drawn(hospital.validation, configuration.test_cases, 0, f"{hospital.name} scored validation")
    if wanted == "spare":
        if spare := spare_cases(hospital, configuration, seed, configuration.test_cases):
            return spare
        raise SettingError(f"{hospital.name} has no spare case: every patient's cases are used. Score test or validation cases.")
    raise SettingError(f"scored is {wanted!r}, expected test, validation or spare.")


def write_site(root: Path, hospital: Hospital, settings: SiteSettings, configuration: Configuration, seed: int, *, validate: bool) -> Path:
    """A site directory of the product with links to this seed's training and, if asked, validation cases. Done twice, it is the same.

    Returns:
        its studies folder.
    """
    site = SiteDirectory.open(root)
    settings.save(site.settings_file)
    chosen: dict[str, tuple[LabelledCase, ...]] = {
        "train": training_cases(hospital, configuration, seed),
        "val": validation_cases(hospital, configuration, seed) if validate else (),
    }
    inverted = hospital.name == configuration.inverted_site
    for case in (*chosen["train"], *chosen["val"]):
        _link(case.image, site.studies / case.image.name, inverted=inverted)
        _link(case.label, site.studies / "labels" / "final" / case.label.name)
    names = {role: [case.case for case in cases] for role, cases in chosen.items()}
    _write(site.split_file, {**names, "test": []})
    _write(site.patients_file, {case: hospital.patients[case] for case in (*names["train"], *names["val"]) if case in hospital.patients})
    return site.studies


def _link(source: Path, target: Path, *, inverted: bool = False) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return
    if inverted:
        write_inverted(source, target)
    else:
        target.symlink_to(source.resolve())


def write_inverted(source: Path, target: Path) -> None:
    """A copy of an image with its values turned round within their range: minimum and maximum change places."""
    image = sitk.ReadImage(str(source))
    array = sitk.GetArrayFromImage(image)
    turned = sitk.GetImageFromArray(
        (array.max() - array + array.min()).astype(array.dtype), isVector=image.GetNumberOfComponentsPerPixel() > 1
    )
    turned.CopyInformation(image)
    part = target.with_name(f".part-{target.name}")  # a kill leaves no half picture under the real name
    sitk.WriteImage(turned, str(part))
    part.replace(target)


def image_spacing(case: LabelledCase, hospital: Hospital) -> tuple[float, float]:
    """Real spacing of rows and columns (j, i): mm, or pixels for a picture."""
    if case.case in hospital.spacing:
        x, y, _ = hospital.spacing[case.case]
        return y, x
    x, y, _ = read_image(case.image).geometry.spacing
    return y, x


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")


def extension_of(path: Path) -> str:
    """The image extension of a file's name."""
    return image_extension(path) or path.suffix
