import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from sam_adapters.case_loading import LoadedCase, SkippedCase, load_case, load_cases
from sam_adapters.cases import labelled_cases, split_cases
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import is_validation
from tests.sam_adapters.toy_studies import SETTINGS, add_picture, add_volume, make_site, write_array


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    return SiteDirectory.open(tmp_path / "site")


def names(cases) -> list[str]:  # type: ignore[no-untyped-def]
    return [case.case for case in cases]


def test_an_empty_site_has_no_cases(site: SiteDirectory) -> None:
    assert labelled_cases(site, SETTINGS) == []


def test_labelled_cases_are_those_with_image_and_final_label(site: SiteDirectory) -> None:
    add_picture(site, "b", 1)
    add_volume(site, "a.with.dots", 2)
    write_array(np.zeros((4, 4), np.uint8), site.studies / "unlabelled.png")
    write_array(np.zeros((4, 4), np.uint8), site.studies / "labels" / "final" / "no_image.png")
    write_array(np.zeros((4, 4), np.uint8), site.studies / "labels" / "original" / "unlabelled.png")
    (site.studies / "labels" / "final" / ".tmp-b.png").write_bytes(b"")
    (site.studies / "datastore_v2.json").write_text("{}", encoding="utf-8")
    cases = labelled_cases(site, SETTINGS)
    assert names(cases) == ["a.with.dots", "b"]
    label = site.studies / "labels" / "final" / "b.png"
    assert cases[1].image == site.studies / "b.png"
    assert cases[1].label == label
    assert cases[1].label_sha256 == hashlib.sha256(label.read_bytes()).hexdigest()
    assert cases[1].patient == "b"


def test_the_newest_label_counts_whatever_its_format(site: SiteDirectory) -> None:
    add_picture(site, "a", 1)
    folder = site.studies / "labels" / "final"
    write_array(np.ones((1, 48, 48), np.uint8), folder / "a.nrrd")
    os.utime(folder / "a.png", ns=(10**18, 10**18))
    assert labelled_cases(site, SETTINGS)[0].label == folder / "a.nrrd"
    os.utime(folder / "a.nrrd", ns=(10**17, 10**17))
    assert labelled_cases(site, SETTINGS)[0].label == folder / "a.png"


def test_split_file_and_patients_decide_and_test_cases_are_in_neither(site: SiteDirectory) -> None:
    for number, case in enumerate(["a", "b", "c", "d"]):
        add_picture(site, case, number)
    site.patients_file.write_text('{"b": "anna", "d": "anna"}', encoding="utf-8")
    site.split_file.write_text('{"train": ["a"], "val": ["b"], "test": ["c"]}', encoding="utf-8")
    split = split_cases(labelled_cases(site, SETTINGS), site, SETTINGS)
    assert names(split.train) == ["a"]
    assert names(split.validation) == ["b", "d"]
    assert {case.patient for case in split.validation} == {"anna"}


def test_without_a_split_file_the_patients_hash_decides(site: SiteDirectory) -> None:
    for number in range(8):
        add_picture(site, f"case{number}", number)
    cases = labelled_cases(site, SETTINGS)
    split = split_cases(cases, site, SETTINGS)
    assert sorted(names(split.train) + names(split.validation)) == names(cases)
    assert names(split.validation) == [case for case in names(cases) if is_validation(case, fraction=SETTINGS.validation_fraction)]


def test_any_value_is_the_target_unless_one_is_named(site: SiteDirectory) -> None:
    label = np.zeros((2, 3, 4), np.uint8)
    label[0, 0, 0], label[1, 2, 3] = 1, 2
    write_array(label, site.studies / "a.nii.gz")
    write_array(label, site.studies / "labels" / "final" / "a.nii.gz")
    case = labelled_cases(site, SETTINGS)[0]
    assert np.array_equal(load_case(case).target, label > 0)
    assert np.array_equal(load_case(case, 2).target, label == 2)


def test_a_bad_case_is_skipped_with_its_reason_and_the_others_are_not(site: SiteDirectory) -> None:
    add_volume(site, "a", 1)
    add_volume(site, "grid", 2)
    write_array(np.ones((4, 48, 48), np.uint8), site.studies / "labels" / "final" / "grid.nii.gz", spacing=1.1)
    add_volume(site, "damaged", 3)
    image = site.studies / "damaged.nii.gz"
    image.write_bytes(image.read_bytes()[:-500])
    add_volume(site, "z", 4)
    found = list(load_cases(labelled_cases(site, SETTINGS)))
    assert [type(one) for one in found] == [LoadedCase, SkippedCase, SkippedCase, LoadedCase]
    skipped = {one.case: one.reason for one in found if isinstance(one, SkippedCase)}
    assert "another grid" in skipped["grid"]
    assert "damaged.nii.gz" in skipped["damaged"]
    with pytest.raises(ImageError):
        load_case(labelled_cases(site, SETTINGS)[1])


def test_a_label_saved_again_is_not_taken_for_the_one_that_was_listed(site: SiteDirectory) -> None:
    add_picture(site, "a", 1)
    case = labelled_cases(site, SETTINGS)[0]
    add_picture(site, "a", 2)
    with pytest.raises(LabelError, match="saved again"):
        load_case(case)


def test_a_case_that_vanished_is_skipped(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=1, validation=0)
    cases = labelled_cases(site, SETTINGS)
    cases[0].label.unlink()
    (found,) = load_cases(cases)
    assert isinstance(found, SkippedCase)
