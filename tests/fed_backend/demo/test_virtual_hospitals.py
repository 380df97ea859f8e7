import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from fed_backend.demo.errors import DemoError
from fed_backend.demo.hospital import Hospital, read_pixels, read_truth
from fed_backend.demo.scoring import target_slices
from fed_backend.demo.virtual_hospitals import MAX_HOSPITALS, draw_case, protocol, smooth_field, virtual_hospital

SIZE = (8, 64, 64)


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> list[Hospital]:
    run = tmp_path_factory.mktemp("run")
    return [virtual_hospital(run, index, seed=3, train=2, val=1, test=1, size=SIZE) for index in range(3)]


def test_the_same_seed_draws_the_same_voxels_and_another_seed_others() -> None:
    style = protocol(1, 3)
    first, again, other = (draw_case(style, np.random.default_rng([seed, 1, 0]), SIZE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.truth, again.truth)
    assert (first.image != other.image).any()
    assert (first.truth != other.truth).any()


def test_every_case_has_a_lesion_on_some_but_not_all_slices(hospitals: list[Hospital]) -> None:
    for hospital in hospitals:
        for case, path in hospital.truths.items():
            truth = read_truth(path)
            slices = target_slices(truth)
            assert 2 <= len(slices) < SIZE[0], case
            assert 0.002 < truth[slices].mean() < 0.15, case


def test_the_lesion_can_be_seen_and_its_contrast_differs_between_hospitals(hospitals: list[Hospital]) -> None:
    signs = []
    for hospital in hospitals:
        contrasts = []
        for case, path in hospital.images.items():
            pixels, truth = read_pixels(path), read_truth(hospital.truths[case])
            around = np.zeros_like(truth)
            k, j, i = np.nonzero(truth)
            around[k.min() : k.max() + 1, j.min() - 3 : j.max() + 4, i.min() - 3 : i.max() + 4] = True
            contrasts.append((pixels[truth].mean() - pixels[around & ~truth].mean()) / pixels.std())
        assert abs(np.mean(contrasts)) > 0.1, hospital.name
        signs.append(np.sign(np.mean(contrasts)))
    assert len(set(signs)) == 2, "somewhere the lesion is darker, somewhere brighter than its surroundings"


def test_hospitals_differ_in_grid_and_grey_values(hospitals: list[Hospital]) -> None:
    headers = [sitk.ReadImage(str(next(iter(hospital.images.values())))) for hospital in hospitals]
    for a, b in combinations(headers, 2):
        assert a.GetSpacing() != b.GetSpacing()
        assert a.GetDirection() != b.GetDirection()
    ranges = [float(np.ptp(sitk.GetArrayFromImage(header))) for header in headers]
    assert max(ranges) > 2 * min(ranges)


def test_image_and_truth_lie_on_one_grid_and_the_site_folder_holds_no_label(hospitals: list[Hospital]) -> None:
    for hospital in hospitals:
        for case, path in hospital.images.items():
            image, truth = sitk.ReadImage(str(path)), sitk.ReadImage(str(hospital.truths[case]))
            assert image.GetSize() == truth.GetSize()
            np.testing.assert_allclose(image.GetDirection(), truth.GetDirection())
            assert not hospital.truths[case].is_relative_to(hospital.root)
        written = {file.name for file in hospital.root.rglob("*") if file.is_file()}
        assert written == {"split.json", "patients.json"} | {path.name for path in hospital.images.values()}


def test_the_split_is_disjoint_and_complete(hospitals: list[Hospital]) -> None:
    for hospital in hospitals:
        parts = json.loads((hospital.root / "split.json").read_text(encoding="utf-8"))
        assert {key: len(cases) for key, cases in parts.items()} == {"train": 2, "val": 1, "test": 1}
        assert sorted(case for cases in parts.values() for case in cases) == sorted(hospital.images)


def test_more_hospitals_are_variations_with_names_of_their_own() -> None:
    styles = [protocol(index, 0) for index in range(MAX_HOSPITALS)]
    assert len({style.name for style in styles}) == MAX_HOSPITALS
    assert all(abs(style.tissue["lesion"] - style.tissue["liver"]) >= 0.09 for style in styles)
    assert protocol(5, 0) == protocol(5, 0)
    assert protocol(5, 0) != protocol(5, 1)


def test_a_hospital_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="expected 0 to 7"):
        virtual_hospital(tmp_path, MAX_HOSPITALS, seed=0)


def test_smooth_field_is_standardised_and_smooth() -> None:
    field = smooth_field(np.random.default_rng(0), (8, 32, 32), (2.0, 8.0, 8.0))
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(field, axis=2)).mean() < 0.5
