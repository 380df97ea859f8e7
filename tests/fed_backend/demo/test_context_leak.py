import os
from pathlib import Path

import numpy as np
import pytest

from fed_backend.demo.context_leak import bounding_box, box_iou, content_mask, judge, overall, site_finding
from fed_backend.demo.real_hospitals import real_hospitals
from fed_backend.demo.virtual_hospitals import virtual_hospital

DATA = Path(os.environ.get("FEDSCA_DATA", Path(__file__).parents[4] / "shared" / "data"))


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"real data {name} not in {DATA} (set FEDSCA_DATA)")


def box(*values: float) -> np.ndarray:
    return np.array(values, float)


def test_iou_of_inclusive_boxes_by_hand() -> None:
    assert box_iou(box(0, 0, 3, 3), box(2, 2, 5, 5)) == pytest.approx(4 / 28)  # overlap 2x2; 16 + 16 - 4
    assert box_iou(box(0, 0, 3, 3), box(0, 0, 3, 3)) == 1
    assert box_iou(box(0, 0, 1, 1), box(5, 5, 6, 6)) == 0
    assert box_iou(box(3, 3, 0, 0), box(0, 0, 3, 3)) == 0, "an inside-out box is empty"


def test_bounding_box_is_in_plane_over_all_slices() -> None:
    mask = np.zeros((3, 6, 8), bool)
    mask[0, 2, 3] = mask[2, 4, 6] = True
    np.testing.assert_array_equal(bounding_box(mask), [3, 2, 6, 4])
    assert bounding_box(np.zeros((2, 4, 4), bool)) is None


def test_content_is_what_is_brighter_than_the_padding() -> None:
    pixels = np.array([[[-5, -5, -4.9], [-5, 20, -5]]], np.float32)
    np.testing.assert_array_equal(content_mask(pixels), [[[False, False, True], [False, True, False]]])
    np.testing.assert_array_equal(content_mask(pixels, tolerance=0.05), [[[False, False, False], [False, True, False]]])


def test_a_frame_round_the_lesion_leaks() -> None:
    rng = np.random.default_rng(0)
    corners = rng.integers(20, 60, (12, 2))
    labels = [np.concatenate([corner, corner + rng.integers(10, 40, 2)]).astype(float) for corner in corners]
    contents = [label + box(-5, -5, 4, 4) for label in labels]
    finding = judge(contents, labels, [(128, 128)] * 12)
    assert finding.leaks
    assert finding.iou == 1
    assert finding.constant_iou < 0.5


def test_an_organ_that_is_always_in_the_same_place_is_no_leak() -> None:
    labels = [box(40 + shift, 40, 60 + shift, 60) for shift in (0, 1, -1, 0, 2)]
    contents = [box(0, 0, 127, 127)] * 5
    finding = judge(contents, labels, [(128, 128)] * 5)
    assert finding.iou > 0.8
    assert not finding.leaks


def test_without_cases_nothing_is_claimed() -> None:
    assert not judge([], [], []).leaks


def test_virtual_hospitals_do_not_leak(tmp_path: Path) -> None:
    findings = [site_finding(virtual_hospital(tmp_path, index, seed=0, train=5, val=1, test=1)) for index in range(3)]
    assert not overall(findings).leaks


@needs("fedbca")
def test_crops_with_zero_padding_leak(tmp_path: Path) -> None:
    finding = overall([site_finding(hospital) for hospital in real_hospitals(DATA / "fedbca", tmp_path)])
    assert finding.leaks
    assert finding.iou > 0.9


@needs("optic_disc")
def test_whole_pictures_do_not_leak(tmp_path: Path) -> None:
    finding = overall([site_finding(hospital, max_cases=10) for hospital in real_hospitals(DATA / "optic_disc", tmp_path)])
    assert not finding.leaks
