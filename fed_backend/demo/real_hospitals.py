"""Hospitals from a folder of real data: `<data>/<site>/studies/<case>.*`, labels in `studies/labels/final`, `split.json` beside `studies`.

Images are hard-linked (or copied, across file systems) into the run's own site folders. Labels stay where they are: only the scripted
radiologist reads them, and a hospital's server sees a label when it is submitted over REST.
"""

import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from fed_backend.demo.errors import DemoError
from fed_backend.demo.hospital import CaseSplit, Hospital, images_in
from sam_adapters import atomic
from sam_adapters.errors import SettingError
from sam_adapters.site_directory import checked_site_name


def site_folders(data: Path) -> list[Path]:
    """The sites of a data folder in name order: sub-folders with `studies/` and `split.json`.

    Raises:
        DemoError: the folder does not exist, or fewer than two sites are in it.
    """
    if not data.is_dir():
        raise DemoError(f"Data folder {data} does not exist: name a folder that holds <site>/studies and <site>/split.json.")
    folders = sorted(path for path in data.iterdir() if (path / "studies").is_dir() and (path / "split.json").is_file())
    if len(folders) < 2:
        raise DemoError(
            f"{data} holds {len(folders)} site(s), expected at least 2: every site is a folder with studies/, studies/labels/final/ "
            "and split.json."
        )
    return folders


def real_hospital(source: Path, run: Path, patients: Mapping[str, str]) -> Hospital:
    """Lay out the site folder `run/sites/<name>` for the site at `source`.

    Args:
        source: folder of the site in the data.
        run: folder of the demo's run.
        patients: case -> patient, for as many cases as are known (see `read_patients`).

    Raises:
        DemoError: a case of the split lacks its image or label, or the split is malformed.
    """
    try:
        name = checked_site_name(source.name)
    except SettingError as error:
        raise DemoError(str(error)) from error
    split = read_split(source / "split.json")
    images, labels = images_in(source / "studies"), images_in(source / "studies" / "labels" / "final")
    wanted = (*split.train, *split.val, *split.test)
    for kind, present in (("image", images), ("label", labels)):
        missing = [case for case in wanted if case not in present]
        if missing:
            raise DemoError(f"{source}: {len(missing)} case(s) of split.json have no {kind}, first {missing[0]!r}.")
    root = run / "sites" / name
    (root / "studies").mkdir(parents=True, exist_ok=True)
    own: dict[str, Path] = {}
    for case in wanted:
        own[case] = root / "studies" / images[case].name
        _link_or_copy(images[case], own[case])
    known = {case: patients[case] for case in wanted if case in patients}
    atomic.write_json(root / "split.json", split.to_dict())
    if known:
        atomic.write_json(root / "patients.json", known)
    return Hospital(name, root, own, {case: labels[case] for case in wanted}, split, known)


def read_split(path: Path) -> CaseSplit:
    """Read `split.json`: three disjoint lists of cases, each with at least one case.

    Raises:
        DemoError: it is not of that form.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: tuple(str(case) for case in value[part]) for part in ("train", "val", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DemoError(f"{path} is not a split: expected {{'train': [...], 'val': [...], 'test': [...]}}.") from error
    every = [case for part in parts.values() for case in part]
    if len(set(every)) != len(every):
        raise DemoError(f"{path}: a case stands in two parts: every case belongs to exactly one.")
    empty = [part for part, cases in parts.items() if not cases]
    if empty:
        raise DemoError(f"{path}: part {empty[0]!r} is empty: the demo needs at least one case in each.")
    return CaseSplit(**parts)


def read_patients(data: Path) -> dict[str, str]:
    """case -> patient from `<data>/cases.csv` (columns case, patient), empty where there is no such file.

    Raises:
        DemoError: the file lacks a column.
    """
    path = data / "cases.csv"
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        if not {"case", "patient"} <= set(rows.fieldnames or ()):
            raise DemoError(f"{path} lacks a column: expected at least case and patient, found {', '.join(rows.fieldnames or ())}.")
        return {row["case"]: row["patient"] for row in rows}


def real_hospitals(data: Path, run: Path) -> list[Hospital]:
    """All hospitals of a data folder, laid out under `run/sites`."""
    patients = read_patients(data)
    return [real_hospital(folder, run, patients) for folder in site_folders(data)]


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
