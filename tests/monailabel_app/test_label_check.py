"""Which labels are taken: on their image's grid, whole numbers, declared values."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.app_errors import RequestError
from monailabel_app.declared_values import DeclaredValues, declared_values
from monailabel_app.label_check import check_label, values_of
from sam_adapters.errors import LabelError
from sam_adapters.settings import SiteSettings
from tests.monailabel_app.server_process import as_volume, blob, write_label, write_picture, write_volume

ANY = DeclaredValues(None, "nobody")


def declared(*values: int) -> list[dict[str, Any]]:
    """As the official plug-in sends it."""
    return [{"name": f"segment {value}", "idx": value} for value in values]


def test_labels_on_their_images_grid_are_taken(tmp_path: Path) -> None:
    inside = write_volume(tmp_path / "image.nii.gz")
    for name in ("label.nii.gz", "label.nrrd", "label.seg.nrrd"):
        write_label(tmp_path / name, inside)
        check_label(tmp_path / "image.nii.gz", tmp_path / name, ANY)


def refusal(image: Path, label: Path) -> str:
    with pytest.raises(LabelError) as caught:
        check_label(image, label, ANY)
    return str(caught.value)


def test_labels_on_another_grid_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "image.nii.gz"
    inside = write_volume(image)
    straight = as_volume(inside.astype(np.uint8), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(straight, str(tmp_path / "straight.nii.gz"))
    write_label(tmp_path / "cropped.nii.gz", inside[:, 1:])
    (tmp_path / "text.nii.gz").write_text("no image", encoding="utf-8")
    sitk.WriteImage(as_volume(blob()[0]), str(tmp_path / "intensities.nii.gz"))
    assert "mm away" in refusal(image, tmp_path / "straight.nii.gz")
    assert "48 × 39 × 6 instead of 48 × 40 × 6" in refusal(image, tmp_path / "cropped.nii.gz")
    assert "cannot be read" in refusal(image, tmp_path / "text.nii.gz")
    assert "label values" in refusal(image, tmp_path / "intensities.nii.gz")


def test_a_pictures_label_needs_its_size_only(tmp_path: Path) -> None:
    inside = write_picture(tmp_path / "image.png")
    write_label(tmp_path / "label.nrrd", inside)  # with spacing and direction, as 3D Slicer writes it
    check_label(tmp_path / "image.png", tmp_path / "label.nrrd", ANY)
    sitk.WriteImage(sitk.GetImageFromArray(inside[0, 1:].astype(np.uint8)), str(tmp_path / "small.png"))
    assert "size 80 × 59 instead of 80 × 60" in refusal(tmp_path / "image.png", tmp_path / "small.png")


def test_undeclared_values_are_listed_with_what_was_expected() -> None:
    found = declared_values({"label_info": [{"name": "liver", "idx": 1}, {"name": "tumour", "idx": 2}]}, SiteSettings())
    found.check({0, 1, 2})
    found.check({0})
    with pytest.raises(LabelError, match=r"the values 3, 7, .*expected 0 \(background\), 1 \(liver\), 2 \(tumour\)") as caught:
        found.check({1, 3, 7})
    assert '"idx": 3' in str(caught.value)


def test_without_a_declaration_the_sites_target_counts_and_without_that_anything() -> None:
    with pytest.raises(LabelError, match=r"the value 1, .*expected 0 \(background\), 2 \(tumour\), by this site's label_value"):
        declared_values({}, SiteSettings(label_value=2, label_name="tumour")).check({0, 1, 2})
    declared_values({"label_info": declared(1, 2)}, SiteSettings(label_value=2)).check({1, 2})
    declared_values({"label_info": []}, SiteSettings()).check({5, 60_000})


def test_the_official_plug_ins_numbering_is_taken() -> None:
    """It counts the scribbles that it leaves out, but exports values from 1."""
    found = declared_values({"label_info": declared(3, 4)}, SiteSettings())
    found.check({1, 2})
    found.check({3, 4})
    with pytest.raises(LabelError):
        found.check({1, 4})
    with pytest.raises(LabelError):
        declared_values({"label_info": declared(7)}, SiteSettings()).check({1})


def test_a_long_list_is_cut() -> None:
    with pytest.raises(LabelError) as caught:
        declared_values({"label_info": declared(*range(1, 200))}, SiteSettings()).check(range(1000))
    assert "and 790 more" in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    "given",
    ["liver", {"liver": 1}, ["liver"], [{"name": "liver"}], [{"idx": "1"}], [{"idx": True}], [{"idx": -1}], [{"idx": 65536}], [None]],
)
def test_a_malformed_declaration_is_refused(given: object) -> None:
    with pytest.raises(RequestError, match="label_info"):
        declared_values({"label_info": given}, SiteSettings())


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=40))
def test_values_are_found_by_slices(values: list[int]) -> None:
    assert values_of(np.array(values, dtype=np.int64).reshape(-1, 1, 1)) == set(values)
