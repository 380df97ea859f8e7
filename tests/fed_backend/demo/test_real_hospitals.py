import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fed_backend.demo.errors import DemoError
from fed_backend.demo.real_hospitals import real_hospitals


def make_site(folder: Path, cases: dict[str, str], suffix: str = ".nii.gz") -> None:
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    labels = folder / "studies" / "labels" / "final"
    labels.mkdir(parents=True)
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for case, part in cases.items():
        sitk.WriteImage(image, str(folder / "studies" / f"{case}{suffix}"))
        sitk.WriteImage(image, str(labels / f"{case}{suffix}"))
        split[part].append(case)
    (folder / "split.json").write_text(json.dumps(split), encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    make_site(folder / "north", {"n1": "train", "n2": "val", "n3.x": "test"})
    make_site(folder / "south", {"s1": "train", "s2": "val", "s3": "test"})
    (folder / "cases.csv").write_text("case,patient,part\nn1,01,train\nn2,02,val\n", encoding="utf-8")
    return folder


def test_images_come_along_labels_stay(data: Path, tmp_path: Path) -> None:
    north, south = real_hospitals(data, tmp_path / "run")
    assert (north.name, south.name) == ("north", "south")
    assert {path.name for path in north.root.rglob("*") if path.is_file()} == {
        "n1.nii.gz",
        "n2.nii.gz",
        "n3.x.nii.gz",
        "split.json",
        "patients.json",
    }
    assert north.truths["n3.x"] == data / "north" / "studies" / "labels" / "final" / "n3.x.nii.gz"
    assert json.loads((north.root / "patients.json").read_text(encoding="utf-8")) == {"n1": "01", "n2": "02"}
    assert not (south.root / "patients.json").exists(), "no patient of it is known"
    assert not north.pictures


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: (data / "north" / "studies" / "n1.nii.gz").unlink(), "no image, first 'n1'"),
        (lambda data: (data / "north" / "studies" / "labels" / "final" / "n2.nii.gz").unlink(), "no label, first 'n2'"),
        (lambda data: (data / "north" / "split.json").write_text("[]", encoding="utf-8"), "not a split"),
        (
            lambda data: (data / "north" / "split.json").write_text('{"train": ["n1"], "val": ["n1"], "test": ["n2"]}', encoding="utf-8"),
            "two parts",
        ),
        (
            lambda data: (data / "north" / "split.json").write_text('{"train": ["n1"], "val": [], "test": ["n2"]}', encoding="utf-8"),
            "'val' is empty",
        ),
        (lambda data: (data / "cases.csv").write_text("case,name\n", encoding="utf-8"), "lacks a column"),
        (lambda data: (data / "north").rename(data / "-north"), "Site name"),
    ],
)
def test_what_does_not_fit_is_said(data: Path, tmp_path: Path, change: object, message: str) -> None:
    change(data)  # type: ignore[operator]
    with pytest.raises(DemoError, match=message):
        real_hospitals(data, tmp_path / "run")


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="does not exist"):
        real_hospitals(tmp_path / "nowhere", tmp_path / "run")
    with pytest.raises(DemoError, match="at least 2"):
        real_hospitals(tmp_path, tmp_path / "run")
