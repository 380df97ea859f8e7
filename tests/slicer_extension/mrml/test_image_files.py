"""IJK in Slicer is IJK in the file, for every grid and format, and labels leave on exactly the image's grid."""

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FedSCALib.errors import CanvasError, GeometryMismatch
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_files import volume_array, write_label
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slicer_extension.mrml.images import grids, ijk_to_ras, oblique, same_grid, values, written

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")


@settings(max_examples=60, deadline=None)
@given(grids(), st.sampled_from(FORMATS), st.data())
def test_voxels_lie_in_slicer_where_simpleitk_says(image: sitk.Image, ending: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "case" + ending)
        file = written(image, path)
        canvas = MrmlCanvas(slicer.vtkMRMLScene())
        geometry = canvas.open_image(path, "case")
    assert geometry.size_ijk == file.GetSize()
    assert geometry.is_2d == (file.GetSize()[2] == 1)
    np.testing.assert_array_equal(volume_array(canvas.volume_node), sitk.GetArrayFromImage(file))
    ijk = data.draw(st.tuples(*[st.integers(0, n - 1) for n in file.GetSize()]))
    left, posterior, superior = file.TransformIndexToPhysicalPoint(ijk)
    np.testing.assert_allclose((geometry.ijk_to_ras @ [*ijk, 1])[:3], (-left, -posterior, superior), atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(grids(), st.sampled_from(FORMATS), st.data())
def test_a_mask_comes_back_at_the_voxels_it_was_drawn_on(image: sitk.Image, ending: str, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from("ijk"))
    size = image.GetSize()
    index = data.draw(st.integers(0, size["ijk".index(axis)] - 1))
    columns, rows = {"i": (size[1], size[2]), "j": (size[0], size[2]), "k": (size[0], size[1])}[axis]
    mask = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).random((rows, columns)) < 0.6
    mask[-1, 0] = True
    expected = np.zeros(size[::-1], np.uint8)
    expected[{"k": np.s_[index], "j": np.s_[:, index], "i": np.s_[:, :, index]}[axis]] = 4 * mask
    with tempfile.TemporaryDirectory() as folder:
        path, label = Path(folder, "case" + ending), Path(folder, "label.nii.gz")
        file = written(image, path)
        canvas = MrmlCanvas(slicer.vtkMRMLScene())
        canvas.open_image(path, "case")
        canvas.add_segment("tumour", 4)
        canvas.write("tumour", axis, index, (0, 0, columns - 1, rows - 1), mask, "replace")
        assert canvas.export_labels(label) == [{"name": "tumour", "idx": 4}]
        exported = sitk.ReadImage(str(label))
    np.testing.assert_array_equal(canvas.slice_mask("tumour", axis, index), mask)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(exported), expected)
    assert same_grid(exported, file)


@settings(max_examples=30, deadline=None)
@given(grids(), st.sampled_from(FORMATS), st.integers(0, 2**32 - 1))
def test_a_label_file_is_read_and_written_back_unchanged(image: sitk.Image, ending: str, seed: int) -> None:
    labels = np.random.default_rng(seed).choice([0, 0, 1, 2, 300], image.GetSize()[::-1]).astype(np.uint16)
    label = sitk.GetImageFromArray(labels)
    label.CopyInformation(image)
    with tempfile.TemporaryDirectory() as folder:
        path, given_label, again = Path(folder, "case" + ending), Path(folder, "label" + ending), Path(folder, "again.nii.gz")
        written(image, path)
        written(label, given_label)
        canvas = MrmlCanvas(slicer.vtkMRMLScene())
        canvas.open_image(path, "case")
        canvas.load_labels(given_label, {1: "tumour", 2: "bladder", 300: "node"})
        canvas.export_labels(again)
        np.testing.assert_array_equal(values(again), labels)
    assert {segment.name: segment.value for segment in canvas.segments()} == {
        name: value for name, value in (("tumour", 1), ("bladder", 2), ("node", 300)) if (labels == value).any()
    }


@pytest.mark.parametrize("ending", [".png", ".jpg", ".jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_has_its_first_row_on_top(tmp_path: Path, scene: Any, ending: str, channels: int) -> None:
    j, i = np.indices((24, 40))
    pixels = np.stack([j * 8, i * 5, 40 + 0 * i], axis=-1).astype(np.uint8)[..., :channels]
    path = tmp_path / f"eye{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(pixels.squeeze(), isVector=channels > 1), str(path))
    canvas = MrmlCanvas(scene)
    geometry = canvas.open_image(path, "eye")
    assert geometry.size_ijk == (40, 24, 1)
    assert geometry.is_2d
    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).reshape(1, 24, 40, channels).astype(int)
    assert np.abs(volume_array(canvas.volume_node).reshape(stored.shape).astype(int) - stored).max() <= 8  # JPEG decoders round differently
    np.testing.assert_array_equal(geometry.ijk_to_ras, np.diag([-1, -1, 1, 1]))


def test_transparency_of_a_picture_is_left_out(tmp_path: Path, scene: Any) -> None:
    pixels = np.arange(4 * 6 * 4, dtype=np.uint8).reshape(4, 6, 4)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "eye.png"))
    canvas = MrmlCanvas(scene)
    canvas.open_image(tmp_path / "eye.png", "eye")
    np.testing.assert_array_equal(volume_array(canvas.volume_node)[0], pixels[..., :3])


def test_files_with_numbers_in_their_names_are_no_series(tmp_path: Path, scene: Any) -> None:
    for number in range(3):
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 5), number, np.uint8)), str(tmp_path / f"slice{number}.nii.gz"))
    canvas = MrmlCanvas(scene)
    assert canvas.open_image(tmp_path / "slice1.nii.gz", "one").size_ijk == (5, 4, 1)
    assert volume_array(canvas.volume_node).max() == 1


@pytest.mark.parametrize("name", ["case.nii.gz", "case.nrrd", "case.png", "case.jpg"])
def test_a_file_that_is_no_image_is_told_by_name(tmp_path: Path, scene: Any, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not an image")
    nodes = scene.GetNumberOfNodes()
    for path in (tmp_path / name, tmp_path / f"missing-{name}"):
        with pytest.raises(CanvasError, match=name):
            MrmlCanvas(scene).open_image(path, "case")
    assert scene.GetNumberOfNodes() == nodes


@pytest.mark.parametrize("change", ["shifted", "reversed", "smaller"])
def test_labels_on_another_grid_are_refused(tmp_path: Path, scene: Any, change: str) -> None:
    image = written(oblique(), tmp_path / "case.nii.gz")
    label = sitk.Cast(image, sitk.sitkUInt8)
    if change == "shifted":
        label.SetOrigin(np.add(image.GetOrigin(), (0.4, 0, 0)).tolist())
    label = label[::-1] if change == "reversed" else label[:-1] if change == "smaller" else label
    sitk.WriteImage(label, str(tmp_path / "label.nii.gz"))
    canvas = MrmlCanvas(scene)
    canvas.open_image(tmp_path / "case.nii.gz", "case")
    with pytest.raises(GeometryMismatch, match="another image"):
        canvas.load_labels(tmp_path / "label.nii.gz", {1: "tumour"})
    assert canvas.segments() == []


def test_a_grid_that_nifti_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.5
    with pytest.raises(GeometryMismatch):
        write_label(tmp_path / "label.nii.gz", np.ones((3, 4, 5), np.uint8), sheared)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    with pytest.raises(CanvasError, match="cannot be written"):
        write_label(tmp_path / "nowhere" / "label.nii.gz", np.ones((3, 4, 5), np.uint8), np.eye(4))


def test_labels_are_compressed(tmp_path: Path) -> None:
    write_label(tmp_path / "label.nii.gz", np.ones((30, 40, 50), np.uint8), np.eye(4))
    with gzip.open(tmp_path / "label.nii.gz") as stream:
        assert len(stream.read()) > 60_000
    assert (tmp_path / "label.nii.gz").stat().st_size < 2_000


def test_a_persons_own_volume_is_exported_voxel_for_voxel(tmp_path: Path, scene: Any) -> None:
    file = written(oblique(), tmp_path / "own.nrrd")
    logic = slicer.vtkSlicerVolumesLogic()
    logic.SetMRMLScene(scene)
    volume = logic.AddArchetypeVolume(str(tmp_path / "own.nrrd"), "own")  # Slicer reverses its slices: it is left-handed
    canvas = MrmlCanvas(scene)
    geometry = canvas.use_volume(volume)
    canvas.export_image(tmp_path / "upload.nii.gz")
    upload = sitk.ReadImage(str(tmp_path / "upload.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(upload), volume_array(volume))
    np.testing.assert_allclose(ijk_to_ras(upload), geometry.ijk_to_ras, atol=1e-4)
    assert sitk.GetArrayFromImage(file)[0, 0, 0] == sitk.GetArrayFromImage(upload)[-1, 0, 0]
