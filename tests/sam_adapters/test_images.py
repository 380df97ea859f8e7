import gzip
import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_adapters import images
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.images import read_image, read_label, write_mask

numbers = itertools.count()


@st.composite
def directions(draw: st.DrawFn) -> np.ndarray:
    """Orthonormal 3 x 3 matrices: oblique (from a quaternion), with axes flipped and swapped."""
    quaternion = np.array([draw(st.floats(-1, 1)) for _ in range(4)])
    norm = np.linalg.norm(quaternion)
    a, b, c, d = quaternion / norm if norm > 0.1 else np.array([1.0, 0, 0, 0])
    rotation = np.array(
        [
            [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
        ]
    )
    signs = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    return rotation[:, draw(st.permutations(range(3)))] * signs


spacings = st.tuples(*[st.floats(0.1, 8)] * 3)
origins = st.tuples(*[st.floats(-500, 500)] * 3)


def volume(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def write(path: Path, array: np.ndarray, spacing=(1, 1, 1), origin=(0, 0, 0), direction=None, vector: bool = False) -> Path:  # type: ignore[no-untyped-def]
    image = sitk.GetImageFromArray(array, isVector=vector)
    if image.GetDimension() == 3:
        image.SetSpacing([float(value) for value in spacing])
        image.SetOrigin([float(value) for value in origin])
        image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd", ".mha"])
@settings(max_examples=25, deadline=None)
@given(direction=directions(), spacing=spacings, origin=origins)
def test_a_mask_has_exactly_its_images_geometry(tmp_path_factory, extension, direction, spacing, origin) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("geometry")
    image = read_image(write(folder / f"image{extension}", volume(), spacing, origin, direction))
    mask = np.zeros((4, 5, 6), bool)
    mask[1, 2, 3] = True
    write_mask(mask, image, folder / f"mask{extension}")
    back = read_image(folder / f"mask{extension}")
    assert back.geometry.spacing == image.geometry.spacing
    assert back.geometry.origin == image.geometry.origin
    assert back.geometry.direction == image.geometry.direction
    assert back.array.dtype == np.uint8
    assert np.array_equal(back.array, mask)
    assert np.array_equal(read_label(folder / f"mask{extension}", image), mask)


@settings(max_examples=25, deadline=None)
@given(
    direction=directions(),
    spacing=spacings,
    origin=origins,
    formats=st.sampled_from([(a, b) for a in (".nii.gz", ".nrrd", ".mha") for b in (".nii.gz", ".nrrd", ".mha") if a != b]),
)
def test_across_formats_the_grid_is_the_same_within_the_formats_precision(  # type: ignore[no-untyped-def]
    tmp_path_factory, direction, spacing, origin, formats
) -> None:
    folder = tmp_path_factory.mktemp("across")
    image = read_image(write(folder / f"image{formats[0]}", volume(), spacing, origin, direction))
    write_mask(np.ones((4, 5, 6), np.uint8), image, folder / f"mask{formats[1]}")
    back = read_image(folder / f"mask{formats[1]}").geometry
    precision = 1e-6 if formats[1] == ".nii.gz" else 1e-14
    for name in ("spacing", "origin", "direction"):
        wanted = np.array(getattr(image.geometry, name))
        assert np.allclose(getattr(back, name), wanted, rtol=precision, atol=precision * max(1, np.abs(wanted).max()))
    assert image.geometry.difference(back) is None


def test_a_nifti_whose_qform_and_sform_differ_is_repeated_field_by_field(tmp_path: Path) -> None:
    image = nib.Nifti1Image(volume().transpose(), None)
    image.header["scl_slope"], image.header["scl_inter"] = 2, -10
    image.set_qform(np.diag([1, 2, 3, 1]) + np.array([[0, 0, 0, 7.0]] * 3 + [[0] * 4]), code=1)
    image.set_sform(np.diag([-1, -2, 3, 1]), code=2)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "image.nii.gz")
    write_mask(np.ones((4, 5, 6), bool), read_image(tmp_path / "image.nii.gz"), tmp_path / "mask.nii.gz")
    wanted, found = nib.load(tmp_path / "image.nii.gz").header, nib.load(tmp_path / "mask.nii.gz").header
    for key in ("qform_code", "sform_code", "quatern_b", "qoffset_x", "srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units", "dim"):
        assert np.array_equal(wanted[key], found[key]), key
    assert np.asarray(nib.load(tmp_path / "mask.nii.gz").dataobj).max() == 1


def test_axes_of_the_array_are_k_j_i(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "image.nii.gz", volume((2, 3, 4)), spacing=(0.5, 0.75, 3)))
    assert image.array.shape == (2, 3, 4)
    assert image.geometry.size == (4, 3, 2)
    assert image.geometry.spacing == (0.5, 0.75, 3)
    assert not image.is_picture
    assert not image.array.flags.writeable


@pytest.mark.parametrize("extension", [".png", ".jpg", ".jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures(tmp_path: Path, extension: str, channels: int) -> None:
    pixels = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    path = write(tmp_path / f"picture{extension}", pixels if channels == 3 else pixels[..., 0], vector=channels == 3)
    image = read_image(path)
    assert image.array.shape == ((1, 20, 30, 3) if channels == 3 else (1, 20, 30))
    assert np.abs(image.array[0, 5, 5].astype(int) - (pixels[5, 5] if channels == 3 else 200)).max() <= 3
    assert image.is_picture

    mask = np.zeros((1, 20, 30), bool)
    mask[0, 2:9, 4:25] = True
    write_mask(mask, image, tmp_path / "mask.png")
    stored = sitk.ReadImage(str(tmp_path / "mask.png"))
    assert stored.GetSize() == (30, 20)
    assert stored.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(read_label(tmp_path / "mask.png", image), mask)


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".mha"])
def test_a_pictures_mask_as_a_volume_is_one_slice_where_slicer_puts_pictures(tmp_path: Path, extension: str) -> None:
    image = read_image(write(tmp_path / "picture.png", np.zeros((20, 30), np.uint8)))
    write_mask(np.ones((1, 20, 30), bool), image, tmp_path / f"mask{extension}")
    stored = sitk.ReadImage(str(tmp_path / f"mask{extension}"))
    assert stored.GetSize() == (30, 20, 1)
    assert stored.GetSpacing() == (1, 1, 1)
    assert stored.GetOrigin() == (0, 0, 0)
    assert stored.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert read_label(tmp_path / f"mask{extension}", image).shape == (1, 20, 30)


def test_transparency_is_dropped(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = (1, 2, 3), 77
    image = read_image(write(tmp_path / "picture.png", pixels, vector=True))
    assert image.array.shape == (1, 4, 5, 3)
    assert image.array[0, 0, 0].tolist() == [1, 2, 3]


def test_a_colour_volume_keeps_its_colours_and_its_mask_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "colour.nrrd", np.zeros((3, 4, 5, 3), np.uint8), spacing=(1, 2, 3), vector=True)
    image = read_image(path)
    assert image.array.shape == (3, 4, 5, 3)
    write_mask(np.ones((3, 4, 5), bool), image, tmp_path / "mask.nrrd")
    assert read_image(tmp_path / "mask.nrrd").geometry == image.geometry


def test_a_series_of_dicom_files(tmp_path: Path) -> None:
    array = volume((5, 6, 7))
    dicom_series(tmp_path, array, positions=[10.0, 12.5, 15.0, 17.5, 20.0])
    image = read_image(tmp_path)
    assert np.array_equal(image.array, array)
    assert image.geometry.spacing == pytest.approx((0.5, 0.5, 2.5))
    assert image.geometry.origin == pytest.approx((0, 0, 10))
    write_mask(array > 30, image, tmp_path.parent / "mask.nrrd")
    assert read_image(tmp_path.parent / "mask.nrrd").geometry == image.geometry


def test_dicom_folders_that_are_not_one_volume(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no DICOM series"):
        read_image(tmp_path)
    dicom_series(tmp_path, volume((4, 6, 7)), positions=[0, 1, 2, 5])
    with pytest.raises(ImageError, match="slices are missing"):
        read_image(tmp_path)
    dicom_series(tmp_path, volume((4, 6, 7)), positions=[0, 0, 1, 1])
    with pytest.raises(ImageError, match="at one position"):
        read_image(tmp_path)
    dicom_series(tmp_path, volume((4, 6, 7)), positions=[0, 1, 2, 3], series="1.2.3.4", name="other")
    with pytest.raises(ImageError, match="2 DICOM series"):
        read_image(tmp_path)


def dicom_series(folder: Path, array: np.ndarray, positions: list[float], series: str = "1.2.3", name: str = "slice") -> None:
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, position in enumerate(positions):
        image = sitk.GetImageFromArray(array[number])
        image.SetSpacing((0.5, 0.5))
        for key, value in {
            "0008|0060": "CT",
            "0020|000e": series,
            "0020|000d": "1.2",
            "0008|0018": f"{series}.{number}",
            "0020|0032": f"0\\0\\{position}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(number),
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{name}{number}.dcm"))
        writer.Execute(image)


@pytest.mark.parametrize("extension", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg"])
def test_files_that_are_no_whole_image(tmp_path: Path, extension: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (40, 50) if extension in (".png", ".jpg") else (10, 40, 50)).astype(np.uint8)
    whole = write(tmp_path / f"whole{extension}", noise).read_bytes()
    path = tmp_path / f"image{extension}"
    for name, data in {
        "half": whole[: len(whole) // 2],
        "all but the end": whole[:-12],
        "nothing": b"",
        "text": b"not an image\n" * 100,
        "noise": rng.bytes(5000),
    }.items():
        path.write_bytes(data)
        with pytest.raises(ImageError, match=path.name):
            read_image(path)
        with pytest.raises(LabelError, match=path.name):
            read_label(path)
        assert name
    path.unlink()
    with pytest.raises(ImageError, match="There is no image"):
        read_image(path)


def test_an_unknown_ending_is_named(tmp_path: Path) -> None:
    (tmp_path / "image.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ImageError, match=r"image\.txt.*\.nrrd"):
        read_image(tmp_path / "image.txt")


def test_a_jpeg_with_a_thumbnail_is_not_taken_for_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50)).astype(np.uint8)
    data = write(tmp_path / "picture.jpg", noise).read_bytes()
    segment = b"\xff\xe1" + (2 + 300).to_bytes(2, "big") + (b"\xff\xd8\xff\xd9" * 75)
    with_thumbnail = data[:2] + segment + data[2:]
    (tmp_path / "picture.jpg").write_bytes(with_thumbnail)
    assert read_image(tmp_path / "picture.jpg").array.shape == (1, 40, 50)
    (tmp_path / "picture.jpg").write_bytes(with_thumbnail[:-300])
    with pytest.raises(ImageError, match="cut short"):
        read_image(tmp_path / "picture.jpg")


def test_four_axes_are_refused_and_a_single_time_point_is_not(tmp_path: Path) -> None:
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4, 2), np.int16), np.eye(4)), path)
    with pytest.raises(ImageError, match=r"4 axes \(6 × 5 × 4 × 2\).*one time point"):
        read_image(path)
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4, 1), np.int16), np.diag([2, 3, 4, 1])), path)
    image = read_image(path)
    assert image.array.shape == (4, 5, 6)
    write_mask(np.ones((4, 5, 6), bool), image, tmp_path / "mask.nii.gz")
    assert read_image(tmp_path / "mask.nii.gz").geometry == image.geometry


def test_a_nifti_of_two_axes_keeps_them(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((6, 5), np.int16), np.diag([2, 3, 4, 1])), tmp_path / "image.nii.gz")
    image = read_image(tmp_path / "image.nii.gz")
    assert image.array.shape == (1, 5, 6)
    assert image.geometry.dimension == 2
    assert not image.is_picture
    write_mask(np.ones((1, 5, 6), bool), image, tmp_path / "mask.nii.gz")
    assert read_image(tmp_path / "mask.nii.gz").geometry == image.geometry
    write_mask(np.ones((1, 5, 6), bool), image, tmp_path / "mask.nrrd")
    assert read_label(tmp_path / "mask.nrrd", image).shape == (1, 5, 6)


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((30000, 30000, 30000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4 + 10_000)))
    with pytest.raises(ImageError, match=r"50291\.4 GiB.*at most 2 GiB"):
        read_image(tmp_path / "huge.nii.gz")
    path = write(tmp_path / "image.nrrd", volume())
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", volume().nbytes)
    assert read_image(path).array.nbytes == volume().nbytes
    monkeypatch.setattr(images, "MAX_IMAGE_BYTES", volume().nbytes - 1)
    with pytest.raises(ImageError, match="crop or resample"):
        read_image(path)


def test_the_content_hash_names_voxels_type_and_place(tmp_path: Path) -> None:
    first = read_image(write(tmp_path / "a.nii.gz", volume())).content_hash
    assert read_image(write(tmp_path / "b.mha", volume())).content_hash == first
    assert read_image(write(tmp_path / "c.nii.gz", volume() + 1)).content_hash != first
    assert read_image(write(tmp_path / "d.nii.gz", volume().astype(np.int32))).content_hash != first
    assert read_image(write(tmp_path / "e.nii.gz", volume(), spacing=(1, 1, 2))).content_hash != first
    assert read_image(write(tmp_path / "f.nii.gz", volume((4, 6, 5)))).content_hash != first


def test_labels_must_lie_on_the_images_grid(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "image.nii.gz", volume(), spacing=(1, 1, 3), origin=(5, 6, 7)))
    label = np.ones((4, 5, 6), np.uint8)
    for name, array, spacing, origin, message in (
        ("size", label[:, :, :5], (1, 1, 3), (5, 6, 7), r"size 5 × 5 × 4 instead of 6 × 5 × 4"),
        ("spacing", label, (1, 1, 3.5), (5, 6, 7), "mm away"),
        ("origin", label, (1, 1, 3), (5, 6, 7.5), "mm away"),
    ):
        with pytest.raises(LabelError, match=message):
            read_label(write(tmp_path / f"{name}.nii.gz", array, spacing, origin), image)
    with pytest.raises(LabelError, match="mm away"):
        read_label(write(tmp_path / "flip.nii.gz", label, (1, 1, 3), (5, 6, 7), np.diag([-1, -1, 1])), image)
    near = write(tmp_path / "near.nii.gz", label, (1, 1, 3 + 1e-5), (5 + 1e-4, 6, 7))
    assert read_label(near, image).all()


def test_a_pictures_label_needs_its_size_only(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "picture.png", np.zeros((20, 30), np.uint8)))
    nib.save(nib.Nifti1Image(np.ones((30, 20, 1), np.uint8), np.eye(4)), tmp_path / "label.nii.gz")  # reads as flipped in LPS
    assert read_label(tmp_path / "label.nii.gz", image).all()
    with pytest.raises(LabelError, match="instead of"):
        read_label(write(tmp_path / "label.png", np.zeros((30, 20), np.uint8)), image)


def test_label_values_are_whole_numbers(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.float32)
    values[0, 0, 0] = 117
    assert read_label(write(tmp_path / "float.nrrd", values)).max() == 117
    for wrong, message in ((0.5, "not whole"), (np.nan, "not whole"), (-1, "-1")):
        values[1, 1, 1] = wrong
        with pytest.raises(LabelError, match=message):
            read_label(write(tmp_path / "float.nrrd", values))
    grey = np.repeat(np.eye(4, dtype=np.uint8)[..., None] * 255, 3, axis=2)
    assert read_label(write(tmp_path / "grey.png", grey, vector=True)).shape == (1, 4, 4)
    grey[0, 0, 0] = 7
    with pytest.raises(LabelError, match="several channels"):
        read_label(write(tmp_path / "colour.png", grey, vector=True))


def test_masks_that_cannot_be_written(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "image.nii.gz", volume()))
    mask = np.zeros((4, 5, 6), np.uint8)
    with pytest.raises(LabelError, match=r"\[6, 5, 4\], expected the image's \[4, 5, 6\]"):
        write_mask(mask.transpose(), image, tmp_path / "mask.nrrd")
    with pytest.raises(LabelError, match="PNG cannot keep"):
        write_mask(mask, image, tmp_path / "mask.png")
    with pytest.raises(LabelError, match=r"mask\.jpg"):
        write_mask(mask, image, tmp_path / "mask.jpg")
    with pytest.raises(LabelError, match="70000"):
        write_mask(mask + np.uint32(70000), image, tmp_path / "mask.nrrd")
    with pytest.raises(LabelError, match="not whole"):
        write_mask(mask + 0.5, image, tmp_path / "mask.nrrd")
    assert [path.name for path in tmp_path.iterdir()] == ["image.nii.gz"]


def test_large_label_values_get_a_larger_type(tmp_path: Path) -> None:
    image = read_image(write(tmp_path / "image.nii.gz", volume()))
    for extension in (".nii.gz", ".nrrd", ".mha"):
        write_mask(volume() * 3, image, tmp_path / f"mask{extension}")
        back = read_image(tmp_path / f"mask{extension}").array
        assert back.dtype == np.uint16
        assert np.array_equal(back, volume() * 3)
