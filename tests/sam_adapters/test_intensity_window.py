from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from sam_adapters.case_loading import load_case
from sam_adapters.cases import LabelledCase
from sam_adapters.errors import SettingError
from sam_adapters.geometry import Geometry
from sam_adapters.images import MedicalImage, read_image
from sam_adapters.intensity_window import SOFT_TISSUE, Window, clip, looks_like_hounsfield, parse_window, window_of, windowed
from sam_adapters.label_log import label_file_sha256
from sam_adapters.preprocess import prepare_slice
from sam_adapters.settings import SiteSettings


def image(array: np.ndarray, *, modality: str = "", picture: bool = False) -> MedicalImage:
    geometry = Geometry((array.shape[2], array.shape[1], array.shape[0]), (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    return MedicalImage(array, geometry, "ab" * 32, picture, modality)


def body() -> np.ndarray:
    """Air around soft tissue with a dense spot, in Hounsfield units."""
    array = np.full((3, 20, 20), -1000, np.int16)
    array[:, 4:16, 4:16] = 50
    array[:, 8, 8] = 1500
    return array


@pytest.mark.parametrize(
    ("setting", "window"), [("", None), ("auto", None), ("-160..240", Window(-160, 240)), ("0.5..1.25", Window(0.5, 1.25))]
)
def test_settings(setting: str, window: Window | None) -> None:
    assert parse_window(setting) == window
    assert SiteSettings(window=setting).window == setting


@pytest.mark.parametrize("setting", ["Auto", "240..-160", "1..1", "-160", "a..b", "1..nan", "-160-240", "..", "1e3..2e3"])
def test_what_is_no_window_is_refused(setting: str) -> None:
    with pytest.raises(SettingError, match="expected ''"):
        SiteSettings(window=setting)


def test_the_network_sees_what_the_window_leaves() -> None:
    # by hand: -1000 -> -160 -> 0; 50 -> 210 / 400 = 0.525; 1500 -> 240 -> 1
    pixels = prepare_slice(windowed(image(body()), "auto").array[1], 20).pixels[0]
    np.testing.assert_allclose([pixels[0, 0], pixels[5, 5], pixels[8, 8]], [0, 0.525, 1], atol=1e-6)
    plain = prepare_slice(windowed(image(body()), "").array[1], 20).pixels[0]
    np.testing.assert_allclose([plain[0, 0], plain[5, 5], plain[8, 8]], [0, 1050 / 2500, 1], atol=1e-6)


def test_another_window_is_another_content() -> None:
    """What is cached under an image's content hash is never that of another window."""
    plain = image(body())
    hashes = {windowed(plain, setting).content_hash for setting in ("", "auto", "-160..240", "-150..250")}
    assert len(hashes) == 3  # auto is -160..240 here
    assert windowed(plain, "") is plain
    assert not windowed(plain, "auto").array.flags.writeable
    assert plain.array.min() == -1000


def test_auto_goes_by_the_dicom_modality_and_else_by_the_values() -> None:
    assert window_of(image(body()), "auto") == SOFT_TISSUE
    assert window_of(image(body(), modality="MR"), "auto") is None
    assert window_of(image(np.zeros((2, 4, 4), np.int16), modality="CT"), "auto") == SOFT_TISSUE
    assert window_of(image(np.zeros((2, 4, 4), np.int16)), "auto") is None


@pytest.mark.parametrize("setting", ["auto", "-160..240"])
def test_pictures_are_left_alone(setting: str) -> None:
    grey = image(np.full((1, 4, 4), 250, np.uint8), picture=True)
    colour = MedicalImage(np.zeros((1, 4, 4, 3), np.uint8), grey.geometry, "cd" * 32)
    assert windowed(grey, setting) is grey
    assert windowed(colour, setting) is colour


@pytest.mark.parametrize(
    ("what", "array", "found"),
    [
        ("CT", body(), True),
        ("CT as float32", body().astype(np.float32), True),
        ("MR", np.random.default_rng(0).integers(0, 2000, (5, 30, 30)).astype(np.int16), False),
        ("MR normalised", np.random.default_rng(0).normal(0, 1, (5, 30, 30)), False),
        ("MR phase", np.random.default_rng(0).integers(-4096, 4096, (5, 30, 30)).astype(np.int16), False),
        ("a few negative voxels", np.concatenate([np.full((5, 30, 30), 40), np.full((1, 1, 30), -900).repeat(30, 1)])[:5], False),
        ("unsigned", (body() + 1024).astype(np.uint16), False),
    ],
)
def test_hounsfield_units_are_told_by_their_values(what: str, array: np.ndarray, found: bool) -> None:
    assert looks_like_hounsfield(array) is found, what


def test_clipping_keeps_the_type_and_what_is_not_finite() -> None:
    np.testing.assert_array_equal(clip(np.array([0, 100, 255], np.uint8), Window(-160, 240)), np.array([0, 100, 240], np.uint8))
    np.testing.assert_array_equal(clip(np.array([0, 100, 255], np.uint8), Window(1000, 2000)), np.array([255, 255, 255], np.uint8))
    floats = np.array([np.nan, np.inf, -np.inf, -500, 500], np.float32)
    np.testing.assert_array_equal(clip(floats, Window(-160, 240)), np.array([np.nan, np.inf, -np.inf, -160, 240], np.float32))


def test_tuning_gate_and_probe_read_cases_through_the_window(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(body()), str(tmp_path / "a.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray((body() > 0).astype(np.uint8)), str(tmp_path / "label.nii.gz"))
    case = LabelledCase("a", "a", tmp_path / "a.nii.gz", tmp_path / "label.nii.gz", label_file_sha256(tmp_path / "label.nii.gz"))
    loaded = load_case(case, window="auto")
    served = windowed(read_image(tmp_path / "a.nii.gz"), "auto")
    np.testing.assert_array_equal(loaded.image.array, served.array)
    assert loaded.image.content_hash == served.content_hash
    assert load_case(case).image.array.min() == -1000
