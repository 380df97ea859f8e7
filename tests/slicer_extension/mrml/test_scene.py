"""What slice views show of an oblique case, in voxels of the image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vtk
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_geometry import ras_at
from FedSCALib.mrml_scene import ViewWatcher, ijk_to_world, show_case, show_slice, show_voxel, slice_in_view, slice_nodes, view_at

from tests.slicer_extension.mrml.images import oblique, written
from tests.slicer_extension.mrml.views import add_views


@pytest.fixture
def canvas(scene: Any, tmp_path: Path) -> MrmlCanvas:
    written(oblique(), tmp_path / "case.nii.gz")
    made = MrmlCanvas(scene)
    made.open_image(tmp_path / "case.nii.gz", "case")
    add_views(scene)
    return made


def test_views_are_turned_into_the_images_planes(canvas: MrmlCanvas, scene: Any) -> None:
    show_case(scene, canvas.volume_node)
    assert {node.GetName(): slice_in_view(node, canvas.volume_node) for node in slice_nodes(scene)} == {
        "Red": ("k", 3),
        "Yellow": ("i", 4),
        "Green": ("j", 3),
    }
    show_voxel(scene, canvas.volume_node, (8, 0, 6))
    assert [slice_in_view(node, canvas.volume_node) for node in slice_nodes(scene)] == [("k", 6), ("i", 8), ("j", 0)]


@pytest.mark.parametrize("index", range(7))
def test_a_view_goes_to_a_slice(canvas: MrmlCanvas, scene: Any, index: int) -> None:
    show_case(scene, canvas.volume_node)
    red = slice_nodes(scene)[0]
    show_slice(red, canvas.volume_node, index)
    assert slice_in_view(red, canvas.volume_node) == ("k", index)


def test_a_view_beside_the_image_shows_no_slice_and_finds_back(canvas: MrmlCanvas, scene: Any) -> None:
    show_case(scene, canvas.volume_node)
    red = slice_nodes(scene)[0]
    red.SetSliceOffset(red.GetSliceOffset() + 1000)
    assert slice_in_view(red, canvas.volume_node) is None
    show_slice(red, canvas.volume_node, 2)
    assert slice_in_view(red, canvas.volume_node) == ("k", 2)


def test_clicks_belong_to_the_view_whose_plane_they_lie_on(canvas: MrmlCanvas, scene: Any) -> None:
    volume = canvas.volume_node
    show_case(scene, volume)
    red, yellow, green = slice_nodes(scene)
    matrix = ijk_to_world(volume)
    assert view_at(scene, ras_at((1, 1, 3), matrix), volume) is red
    assert view_at(scene, ras_at((4, 1, 1), matrix), volume) is yellow
    assert view_at(scene, ras_at((1, 3, 1), matrix), volume) is green
    assert view_at(scene, ras_at((1, 1, 1), matrix), volume) is None


def test_where_planes_meet_the_view_under_the_mouse_counts(canvas: MrmlCanvas, scene: Any) -> None:
    volume = canvas.volume_node
    show_case(scene, volume)
    crosshair = scene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    for node in slice_nodes(scene):
        crosshair.SetCursorPositionXYZ([10.0, 10.0, 0.0], node)
        assert view_at(scene, ras_at((4, 3, 3), ijk_to_world(volume)), volume) is node
    assert view_at(scene, ras_at((1, 1, 3), ijk_to_world(volume)), volume) is slice_nodes(scene)[0]


def test_a_moved_volume_is_found_where_it_is_shown(canvas: MrmlCanvas, scene: Any) -> None:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 40.0)
    transform.SetMatrixTransformToParent(matrix)
    still = ijk_to_world(canvas.volume_node)
    canvas.volume_node.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_allclose(ijk_to_world(canvas.volume_node)[:3, 3] - still[:3, 3], (40, 0, 0))


def test_a_watcher_tells_each_new_slice_once(canvas: MrmlCanvas, scene: Any) -> None:
    show_case(scene, canvas.volume_node)
    seen: list[tuple[str, int]] = []
    watcher = ViewWatcher(scene, lambda: canvas.volume_node, lambda axis, index: seen.append((axis, index)))
    assert seen == [("k", 3), ("i", 4), ("j", 3)]
    seen.clear()
    red = slice_nodes(scene)[0]
    show_slice(red, canvas.volume_node, 5)
    red.SetFieldOfView(50, 50, 1)
    assert seen == [("k", 5)]
    extra = scene.AddNewNodeByClass("vtkMRMLSliceNode", "Slice4")
    scene.RemoveNode(red)
    watcher.refresh()
    extra.RotateToVolumePlane(canvas.volume_node)
    show_slice(extra, canvas.volume_node, 1)
    assert seen[-1] == ("k", 1)
    watcher.close()
    show_slice(extra, canvas.volume_node, 2)
    assert seen[-1] == ("k", 1)


def test_without_a_case_nothing_is_told(canvas: MrmlCanvas, scene: Any) -> None:
    canvas.close_image()
    seen: list[tuple[str, int]] = []
    ViewWatcher(scene, lambda: canvas.volume_node, lambda axis, index: seen.append((axis, index))).close()
    assert seen == []
