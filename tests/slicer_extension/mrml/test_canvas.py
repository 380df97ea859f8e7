"""Masks in Slicer's segments: only the box changes, other and locked segments never do."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from FedSCALib.canvas import Crop
from FedSCALib.errors import CanvasError, GeometryMismatch
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_segments import VALUE_TAG
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.slicer_extension.mrml.images import oblique, values, written

SIZE = (9, 8, 7)  # i, j, k


@pytest.fixture
def canvas(scene: Any, tmp_path: Path) -> MrmlCanvas:
    """A case on an oblique, left-handed grid with two labels."""
    written(oblique(SIZE), tmp_path / "case.nii.gz")
    made = MrmlCanvas(scene)
    made.open_image(tmp_path / "case.nii.gz", "case")
    made.add_segment("tumour", 3)
    made.add_segment("bladder", 7)
    return made


def block(rows: int, columns: int) -> NDArray[np.bool_]:
    return np.ones((rows, columns), bool)


def segment_array(canvas: MrmlCanvas, name: str) -> NDArray[np.bool_]:
    """A whole segment (k, j, i)."""
    return np.stack([canvas.slice_mask(name, "k", k) for k in range(SIZE[2])])


def layer_count(canvas: MrmlCanvas) -> int:
    return int(canvas.segmentation_node.GetSegmentation().GetNumberOfLayers())


@pytest.mark.parametrize(("mode", "expected"), [("replace", [[0, 1], [1, 1]]), ("add", [[1, 1], [1, 1]]), ("subtract", [[1, 0], [0, 0]])])
def test_modes(canvas: MrmlCanvas, mode: str, expected: list[list[int]]) -> None:
    canvas.write("tumour", "j", 2, (1, 1, 2, 2), np.array([[1, 0], [0, 1]], bool), "replace")
    canvas.write("tumour", "j", 2, (5, 5, 5, 5), block(1, 1), "replace")
    given = np.array([[0, 1], [1, 1]], bool)
    crop = canvas.write("tumour", "j", 2, (1, 1, 2, 2), given, mode)
    np.testing.assert_array_equal(crop.before, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(crop.after, expected)
    assert (crop.label, crop.axis, crop.index, crop.box) == ("tumour", "j", 2, (1, 1, 2, 2))
    now = canvas.slice_mask("tumour", "j", 2)
    np.testing.assert_array_equal(now[1:3, 1:3], expected)
    assert now[5, 5], "what lies outside of the box stays"
    assert now.sum() == np.sum(expected) + 1


def test_other_segments_are_left_out_and_keep_their_voxels(canvas: MrmlCanvas) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    crop = canvas.write("bladder", "k", 3, (3, 2, 6, 4), block(3, 4), "replace")
    np.testing.assert_array_equal(crop.after, [[0, 0, 1, 1]] * 3)
    assert canvas.slice_mask("tumour", "k", 3).sum() == 9
    canvas.write("bladder", "k", 3, (0, 0, 8, 7), np.zeros((8, 9), bool), "replace")
    assert canvas.slice_mask("tumour", "k", 3).sum() == 9
    assert layer_count(canvas) == 1


def test_segments_in_layers_of_their_own_are_left_out_too(canvas: MrmlCanvas) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.segmentation_node.GetSegmentation().SeparateSegmentLabelmap(canvas.segment_id("tumour"))
    assert layer_count(canvas) == 2
    crop = canvas.write("bladder", "k", 3, (3, 2, 6, 4), block(3, 4), "add")
    np.testing.assert_array_equal(crop.after, [[0, 0, 1, 1]] * 3)


def test_a_locked_segment_stays_as_it_is(canvas: MrmlCanvas) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.set_locked("tumour", True)
    assert [segment.locked for segment in canvas.segments()] == [True, False]
    for mode in ("replace", "add", "subtract"):
        with pytest.raises(CanvasError, match='"tumour" is locked'):
            canvas.write("tumour", "k", 3, (0, 0, 3, 3), np.eye(4, dtype=bool), mode)
    canvas.put("tumour", "k", 3, (2, 2, 4, 4), ~block(3, 3), block(3, 3))
    assert canvas.slice_mask("tumour", "k", 3).sum() == 9
    canvas.set_locked("tumour", False)
    canvas.put("tumour", "k", 3, (2, 2, 4, 4), ~block(3, 3), block(3, 3))
    assert canvas.empty()


def test_overlaps_that_a_person_made_are_not_undone_by_writing(canvas: MrmlCanvas, tmp_path: Path) -> None:
    """The Segment Editor may let segments overlap; the exported voxel is the locked segment's."""
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    overlap(canvas, "bladder", k=3, j=3, i=3)
    assert layer_count(canvas) == 2
    canvas.write("bladder", "k", 3, (2, 2, 4, 4), block(3, 3), "add")
    assert canvas.slice_mask("tumour", "k", 3)[3, 3]
    assert canvas.slice_mask("bladder", "k", 3).sum() == 1
    for locked, value in (("tumour", 3), ("bladder", 7)):
        canvas.set_locked(locked, True)
        canvas.export_labels(tmp_path / "label.nii.gz")
        assert values(tmp_path / "label.nii.gz")[3, 3, 3] == value
        canvas.set_locked(locked, False)


def overlap(canvas: MrmlCanvas, name: str, *, k: int, j: int, i: int) -> None:
    """One voxel by Slicer's own logic, over whatever is there, as the Segment Editor does when overlaps are allowed."""
    geometry = canvas.geometry()
    assert geometry is not None
    image = slicer.vtkOrientedImageData()
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(list(geometry.ijk_to_ras.ravel()))
    image.SetImageToWorldMatrix(matrix)
    extent = (i, i, j, j, k, k)
    image.SetExtent(extent)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    image.SetScalarComponentFromDouble(i, j, k, 0, 1)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(image, canvas.segmentation_node, canvas.segment_id(name), logic.MODE_MERGE_MAX, extent)


def test_edits_made_elsewhere_are_seen(canvas: MrmlCanvas) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    before = {axis: canvas.fingerprint("tumour", axis, 3) for axis in "ijk"}
    untouched = canvas.fingerprint("tumour", "k", 4)
    overlap(canvas, "tumour", k=3, j=6, i=5)
    assert canvas.slice_mask("tumour", "k", 3)[6, 5]
    assert canvas.fingerprint("tumour", "k", 3) != before["k"]
    assert canvas.fingerprint("tumour", "i", 3) == before["i"]
    assert canvas.fingerprint("tumour", "k", 4) == untouched


def test_put_sets_only_where_it_is_told(canvas: MrmlCanvas) -> None:
    crop = canvas.write("tumour", "i", 1, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.write("tumour", "i", 1, (3, 3, 3, 3), ~block(1, 1), "replace")
    still = canvas.slice_mask("tumour", "i", 1)[2:5, 2:5] == crop.after
    canvas.put("tumour", "i", 1, crop.box, crop.before, still & (crop.before != crop.after))
    assert canvas.empty()
    canvas.put("tumour", "i", 1, crop.box, crop.after, np.eye(3, dtype=bool))
    np.testing.assert_array_equal(canvas.slice_mask("tumour", "i", 1)[2:5, 2:5], np.eye(3))


def test_put_does_not_take_what_another_segment_has_got_since(canvas: MrmlCanvas) -> None:
    crop = canvas.write("tumour", "k", 1, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.put("tumour", "k", 1, crop.box, crop.before, block(3, 3))
    canvas.write("bladder", "k", 1, (2, 2, 2, 4), block(3, 1), "replace")
    canvas.put("tumour", "k", 1, crop.box, crop.after, block(3, 3))
    assert canvas.slice_mask("bladder", "k", 1).sum() == 3
    assert canvas.slice_mask("tumour", "k", 1).sum() == 6


@st.composite
def strokes(draw: st.DrawFn) -> tuple[str, str, int, tuple[int, int, int, int], NDArray[np.bool_], str]:
    axis = draw(st.sampled_from("ijk"))
    columns, rows = {"i": (8, 7), "j": (9, 7), "k": (9, 8)}[axis]
    x0, x1 = sorted(draw(st.tuples(*[st.integers(0, columns - 1)] * 2)))
    y0, y1 = sorted(draw(st.tuples(*[st.integers(0, rows - 1)] * 2)))
    mask = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).random((y1 - y0 + 1, x1 - x0 + 1)) < 0.6
    index = draw(st.integers(0, SIZE["ijk".index(axis)] - 1))
    return (
        draw(st.sampled_from(["tumour", "bladder", "node"])),
        axis,
        index,
        (x0, y0, x1, y1),
        mask,
        draw(st.sampled_from(["replace", "add", "subtract"])),
    )


def view(array: NDArray[Any], axis: str, index: int) -> NDArray[Any]:
    """A slice of an array (k, j, i), by the table of the docs."""
    return array[{"k": np.s_[index], "j": np.s_[:, index], "i": np.s_[:, :, index]}[axis]]


@settings(max_examples=60, deadline=None)
@given(st.lists(strokes(), max_size=12), st.sampled_from([None, "tumour", "bladder"]), st.booleans())
def test_any_sequence_of_writes_gives_what_plain_arrays_give(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Any], locked: str | None, separate: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.nii.gz"
    if not path.exists():
        written(oblique(SIZE), path)
    canvas = MrmlCanvas(slicer.vtkMRMLScene())
    canvas.open_image(path, "case")
    expected = {name: np.zeros(SIZE[::-1], bool) for name in ("tumour", "bladder", "node")}
    for number, name in enumerate(expected):
        canvas.add_segment(name, number + 1)
        canvas.write(name, "k", 0, (number, 0, number, 1), block(2, 1), "replace")
        expected[name][0, 0:2, number] = True
    if separate:
        canvas.segmentation_node.GetSegmentation().SeparateSegmentLabelmap(canvas.segment_id("bladder"))
    if locked:
        canvas.set_locked(locked, True)
    for name, axis, index, (x0, y0, x1, y1), mask, mode in sequence:
        if name == locked:
            with pytest.raises(CanvasError):
                canvas.write(name, axis, index, (x0, y0, x1, y1), mask, mode)
            continue
        crop = canvas.write(name, axis, index, (x0, y0, x1, y1), mask, mode)
        own = view(expected[name], axis, index)[y0 : y1 + 1, x0 : x1 + 1]
        np.testing.assert_array_equal(crop.before, own)
        others = [view(array, axis, index)[y0 : y1 + 1, x0 : x1 + 1] for other, array in expected.items() if other != name]
        wanted = {"replace": mask, "add": own | mask, "subtract": own & ~mask}[mode]
        own[:] = wanted & ~np.any(others, axis=0)
        np.testing.assert_array_equal(crop.after, own)
    for name, array in expected.items():
        np.testing.assert_array_equal(segment_array(canvas, name), array)
    np.testing.assert_array_equal(canvas.label_array(), sum((n + 1) * array for n, array in enumerate(expected.values())))


@settings(max_examples=40, deadline=None)
@given(st.lists(strokes(), min_size=1, max_size=10))
def test_crops_put_back_in_reverse_order_undo_everything(tmp_path_factory: pytest.TempPathFactory, sequence: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "undo.nii.gz"
    if not path.exists():
        written(oblique(SIZE), path)
    canvas = MrmlCanvas(slicer.vtkMRMLScene())
    canvas.open_image(path, "case")
    for value, name in enumerate(("tumour", "bladder", "node"), start=1):
        canvas.add_segment(name, value)
    states, crops = [canvas.label_array()], []
    for stroke in sequence:
        crops.append(canvas.write(*stroke))
        states.append(canvas.label_array())
    for crop, before in zip(reversed(crops), reversed(states[:-1]), strict=True):
        canvas.put(crop.label, crop.axis, crop.index, crop.box, crop.before, crop.before != crop.after)
        np.testing.assert_array_equal(canvas.label_array(), before)
    for crop, after in zip(crops, states[1:], strict=True):
        canvas.put(crop.label, crop.axis, crop.index, crop.box, crop.after, crop.before != crop.after)
        np.testing.assert_array_equal(canvas.label_array(), after)


def test_views_are_told_once_and_only_when_something_changed(canvas: MrmlCanvas) -> None:
    told: list[str] = []
    segmentation = canvas.segmentation_node.GetSegmentation()
    segmentation.AddObserver(segmentation.SourceRepresentationModified, lambda *_: told.append("changed"))
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    first = len(told)
    assert first >= 1
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    assert len(told) == first
    canvas.write("tumour", "k", 3, (2, 2, 2, 2), ~block(1, 1), "replace")
    assert len(told) == first + 1


def test_surfaces_shown_in_3d_follow_and_stay(canvas: MrmlCanvas) -> None:
    node = canvas.segmentation_node
    for k in range(2, 5):
        canvas.write("tumour", "k", k, (1, 1, 3, 4), block(4, 3), "replace")
        canvas.write("bladder", "k", k, (5, 1, 7, 4), block(4, 3), "replace")
    node.CreateClosedSurfaceRepresentation()

    def extent(name: str) -> list[float]:
        surface = node.GetClosedSurfaceInternalRepresentation(canvas.segment_id(name))
        assert surface is not None, f"{name} is no longer shown in 3D"
        return list(surface.GetBounds())

    tumour, bladder = extent("tumour"), extent("bladder")
    canvas.write("tumour", "k", 5, (1, 1, 3, 4), block(4, 3), "replace")
    assert extent("tumour") != tumour
    assert extent("bladder") == bladder
    canvas.write("tumour", "k", 5, (1, 1, 3, 4), ~block(4, 3), "replace")
    assert extent("tumour") == tumour
    np.testing.assert_array_equal(np.unique(canvas.label_array(), return_counts=True), [[0, 3, 7], [504 - 72, 36, 36]])


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 9, 2), (3, 0, 2, 2), (0, 0, 2, 8)])
def test_a_box_outside_of_the_slice_is_refused(canvas: MrmlCanvas, box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="box"):
        canvas.write("tumour", "k", 3, box, block(3, 3), "replace")
    assert canvas.empty()


def test_wrong_calls_are_told(canvas: MrmlCanvas) -> None:
    with pytest.raises(ValueError, match="mode"):
        canvas.write("tumour", "k", 3, (0, 0, 1, 1), block(2, 2), "xor")
    with pytest.raises(ValueError, match="expected"):
        canvas.write("tumour", "k", 3, (0, 0, 1, 1), block(2, 3), "add")
    with pytest.raises(ValueError, match="slice 7 of axis k: expected 0 to 6"):
        canvas.slice_mask("tumour", "k", 7)
    with pytest.raises(ValueError, match="axis"):
        canvas.slice_mask("tumour", "z", 0)
    with pytest.raises(CanvasError, match='no segment "liver"'):
        canvas.slice_mask("liver", "k", 0)


# Segments


def test_segments_describe_themselves(canvas: MrmlCanvas) -> None:
    canvas.add_segment("node", 9, (0.25, 0.5, 1.0))
    canvas.set_visible("bladder", False)
    found = canvas.segments()
    assert [(segment.name, segment.value, segment.visible) for segment in found] == [
        ("tumour", 3, True),
        ("bladder", 7, False),
        ("node", 9, True),
    ]
    assert found[2].color == (0.25, 0.5, 1.0)
    assert len({segment.color for segment in found}) == 3
    canvas.add_segment("node", 12)
    assert canvas.segments() == found, "a segment that is there stays as it is"


def test_values_are_unique_and_in_range(canvas: MrmlCanvas) -> None:
    for value in (0, -1, 65_536):
        with pytest.raises(CanvasError, match="1 to 65535"):
            canvas.add_segment("node", value)
    with pytest.raises(CanvasError, match='Value 7 is already that of "bladder"'):
        canvas.add_segment("node", 7)
    with pytest.raises(CanvasError, match="name"):
        canvas.add_segment("  ", 8)


def test_segments_from_the_segment_editor_get_a_value_and_a_name_of_their_own(canvas: MrmlCanvas, tmp_path: Path) -> None:
    segmentation = canvas.segmentation_node.GetSegmentation()
    segmentation.AddEmptySegment("", "tumour")
    segmentation.AddEmptySegment("", "liver")
    copy = slicer.vtkSegment()
    copy.DeepCopy(segmentation.GetSegment(canvas.segment_id("bladder")))
    segmentation.AddSegment(copy, "copy")
    assert [(segment.name, segment.value) for segment in canvas.segments()] == [
        ("tumour", 3),
        ("bladder", 7),
        ("tumour 2", 1),
        ("liver", 2),
        ("bladder 2", 4),
    ]
    canvas.write("liver", "k", 0, (0, 0, 1, 1), block(2, 2), "add")
    assert {"name": "liver", "idx": 2} in canvas.export_labels(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(np.unique(values(tmp_path / "label.nii.gz")), [0, 2])
    segmentation.GetSegment("copy").SetTag(VALUE_TAG, "nonsense")
    assert canvas.segments()[4].value == 4


def test_large_values_are_kept(canvas: MrmlCanvas, tmp_path: Path) -> None:
    canvas.add_segment("node", 65_535)
    canvas.write("node", "k", 0, (0, 0, 1, 1), block(2, 2), "add")
    canvas.write("tumour", "k", 0, (3, 3, 3, 3), block(1, 1), "add")
    canvas.export_labels(tmp_path / "label.nii.gz")
    found, counts = np.unique(values(tmp_path / "label.nii.gz"), return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == {0: 9 * 8 * 7 - 5, 3: 1, 65_535: 4}


def test_removed_segments_leave_nothing_behind(canvas: MrmlCanvas, tmp_path: Path) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.segmentation_node.RemoveSegment(canvas.segment_id("tumour"))
    crop = canvas.write("bladder", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    assert crop.after.all()
    assert canvas.export_labels(tmp_path / "label.nii.gz") == [{"name": "bladder", "idx": 7}]
    np.testing.assert_array_equal(np.unique(values(tmp_path / "label.nii.gz")), [0, 7])


def test_labels_and_locks_survive_a_segmentation_file(canvas: MrmlCanvas, scene: Any, tmp_path: Path) -> None:
    """Slicer's own format moves a layer's origin to its first voxel; it is the same grid all the same."""
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.write("bladder", "k", 5, (6, 5, 7, 6), block(2, 2), "replace")
    canvas.set_locked("bladder", True)
    expected = canvas.label_array()
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "work.seg.nrrd"))
    assert storage.WriteData(canvas.segmentation_node)
    again = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    assert storage.ReadData(again)
    other = MrmlCanvas(scene)
    other.use_volume(canvas.volume_node, again)
    np.testing.assert_array_equal(other.label_array(), expected)
    assert [(segment.name, segment.value, segment.locked) for segment in other.segments()] == [("tumour", 3, False), ("bladder", 7, True)]
    other.write("tumour", "i", 0, (0, 0, 7, 6), block(7, 8), "replace")
    assert other.label_array()[:, :, 0].min() == 3


# Cases


def test_two_cases_are_open_at_once(canvas: MrmlCanvas, scene: Any, tmp_path: Path) -> None:
    written(oblique((6, 5, 4), reversed_axis=False), tmp_path / "second.nrrd")
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    first = canvas.volume_node, canvas.segmentation_node
    second = MrmlCanvas(scene)
    second.open_image(tmp_path / "second.nrrd", "case")
    second.add_segment("tumour", 5)
    second.write("tumour", "k", 3, (0, 0, 5, 4), block(5, 6), "replace")
    assert canvas.slice_mask("tumour", "k", 3).sum() == 9
    assert second.slice_mask("tumour", "k", 3).sum() == 30
    assert second.volume_node.GetName() != canvas.volume_node.GetName()
    canvas.open_image(tmp_path / "second.nrrd", "third")
    assert canvas.segments() == []
    assert canvas.geometry().size_ijk == (6, 5, 4)  # type: ignore[union-attr]
    assert all(scene.IsNodePresent(node) for node in first), "a case that was open before stays in the scene"


def test_closing_removes_what_was_made_for_the_case(canvas: MrmlCanvas, scene: Any, tmp_path: Path) -> None:
    nodes = scene.GetNumberOfNodes()
    other = MrmlCanvas(scene)
    other.open_image(tmp_path / "case.nii.gz", "other")
    other.close_image()
    other.close_image()
    assert other.geometry() is None
    assert other.segments() == []
    assert other.empty()
    assert scene.GetNumberOfNodes() == nodes
    with pytest.raises(CanvasError, match="No image is open"):
        other.slice_mask("tumour", "k", 0)


def test_a_persons_own_nodes_stay_when_the_case_is_closed(canvas: MrmlCanvas, scene: Any) -> None:
    volume = canvas.volume_node
    other = MrmlCanvas(scene)
    other.use_volume(volume)
    own = other.segmentation_node
    other.close_image()
    assert scene.IsNodePresent(volume)
    assert scene.IsNodePresent(own)


def test_a_node_that_was_removed_by_hand_is_a_closed_image(canvas: MrmlCanvas, scene: Any) -> None:
    scene.RemoveNode(canvas.segmentation_node)
    assert canvas.geometry() is None
    assert canvas.segments() == []
    with pytest.raises(CanvasError, match="No image is open"):
        canvas.write("tumour", "k", 0, (0, 0, 1, 1), block(2, 2), "add")
    scene.Clear(False)
    assert canvas.geometry() is None


def test_a_volume_without_an_image_is_refused(scene: Any) -> None:
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "nothing")
    with pytest.raises(CanvasError, match="nothing"):
        MrmlCanvas(scene).use_volume(empty)


def test_a_segmentation_on_another_grid_is_refused(canvas: MrmlCanvas, scene: Any, tmp_path: Path) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    image = oblique((6, 5, 4))
    image.SetOrigin((0.3, 0.2, 0.1))
    written(image, tmp_path / "second.nii.gz")
    other = MrmlCanvas(scene)
    other.open_image(tmp_path / "second.nii.gz", "second")
    with pytest.raises(GeometryMismatch, match="Segment Editor"):
        other.use_volume(other.volume_node, canvas.segmentation_node)


def test_labels_replace_what_their_segments_held_but_not_locked_ones(canvas: MrmlCanvas, tmp_path: Path) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.write("bladder", "k", 3, (6, 2, 7, 4), block(3, 2), "replace")
    canvas.export_labels(tmp_path / "label.nii.gz")
    canvas.write("tumour", "k", 0, (0, 0, 8, 7), block(8, 9), "replace")
    canvas.write("bladder", "k", 3, (6, 2, 7, 4), ~block(3, 2), "replace")
    canvas.set_locked("bladder", True)
    canvas.load_labels(tmp_path / "label.nii.gz", {3: "tumour", 7: "bladder"})
    assert segment_array(canvas, "tumour").sum() == 9
    assert segment_array(canvas, "bladder").sum() == 0
    assert len(canvas.segments()) == 2


def test_values_without_a_name_become_segments(canvas: MrmlCanvas, tmp_path: Path) -> None:
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.write("bladder", "k", 3, (6, 2, 7, 4), block(3, 2), "replace")
    canvas.export_labels(tmp_path / "label.nii.gz")
    canvas.open_image(tmp_path / "case.nii.gz", "again")
    canvas.load_labels(tmp_path / "label.nii.gz", {3: "tumour"})
    assert [(segment.name, segment.value) for segment in canvas.segments()] == [("tumour", 3), ("label 7", 7)]


def test_only_the_box_is_written(scene: Any) -> None:
    """In a volume of 512 x 512 x 300 a click's box takes about a millisecond; all of a segment takes over a second."""
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "large")
    image = vtk.vtkImageData()
    image.SetDimensions(512, 512, 300)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    volume.SetAndObserveImageData(image)
    canvas = MrmlCanvas(scene)
    canvas.use_volume(volume)
    canvas.add_segment("tumour", 1)
    canvas.add_segment("bladder", 2)
    for corner in ((0, 0, 0, 0), (511, 511, 511, 511)):  # the layer holds the whole volume then
        canvas.write("bladder", "k", 0, corner, block(1, 1), "add")
        canvas.write("bladder", "k", 299, corner, block(1, 1), "add")
    rng = np.random.default_rng(0)
    times = []
    for _ in range(20):
        mask = rng.random((101, 101)) < 0.5
        start = time.perf_counter()
        canvas.write("tumour", "k", 150, (100, 100, 200, 200), mask, "replace")
        times.append(time.perf_counter() - start)
    assert np.median(times) < 0.03, f"{1000 * np.median(times):.1f} ms for a box of 101 x 101: is the whole volume copied?"


def test_crops_are_copies(canvas: MrmlCanvas) -> None:
    crop: Crop = canvas.write("tumour", "k", 3, (2, 2, 4, 4), block(3, 3), "replace")
    canvas.write("tumour", "k", 3, (2, 2, 4, 4), ~block(3, 3), "replace")
    assert crop.after.all()
    assert not crop.before.any()
