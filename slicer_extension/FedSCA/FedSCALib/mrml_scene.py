"""Slice views and the case: what a view shows in voxels of the image, showing a case, following the views.

Main thread only.
"""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import vtk
from numpy.typing import NDArray

from FedSCALib.canvas import Voxel
from FedSCALib.mrml_files import volume_matrix, volume_size
from FedSCALib.mrml_geometry import AXES, axis_across, ijk_at, ras_at
from FedSCALib.mrml_layers import matrix_array

ON_PLANE = 0.75  # a place belongs to a view when it is no further from the view's plane than this, in voxels across it


def ijk_to_world(volume: Any) -> NDArray[np.float64]:
    """IJK to the world's RAS (4, 4): of the image, and of the linear transform that it is under, if any."""
    matrix = volume_matrix(volume)
    parent = volume.GetParentTransformNode()
    if parent is not None:
        above = vtk.vtkMatrix4x4()
        parent.GetMatrixTransformToWorld(above)
        matrix = matrix_array(above) @ matrix
    return matrix


def slice_nodes(scene: Any) -> list[Any]:
    """The nodes of all slice views, in order."""
    return [scene.GetNthNodeByClass(number, "vtkMRMLSliceNode") for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceNode"))]


def slice_in_view(slice_node: Any, volume: Any) -> tuple[str, int] | None:
    """The axis and index of the image's slice that a view shows, the nearest one where the view is tilted; None where it is outside of
    the image."""
    matrix = ijk_to_world(volume)
    pose = matrix_array(slice_node.GetSliceToRAS())
    axis = axis_across(pose[:3, 2], matrix)
    across = AXES.index(axis)
    # A tilted view meets the image's middle elsewhere than its own centre: take the plane where it is nearest to the middle.
    middle = ras_at([(n - 1) / 2 for n in volume_size(volume)], matrix)
    foot = middle - pose[:3, 2] * float(pose[:3, 2] @ (middle - pose[:3, 3])) / float(pose[:3, 2] @ pose[:3, 2])
    index = int(np.floor(ijk_at(foot, matrix)[across] + 0.5))
    return (axis, index) if 0 <= index < volume_size(volume)[across] else None


def view_at(scene: Any, world: Any, volume: Any) -> Any:
    """The slice view that a place (3,), mm, was clicked in; None where no view shows it.

    The view under the mouse counts if its plane holds the place, else the view whose plane is nearest.
    """
    crosshair = scene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    under_mouse = crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0]) if crosshair is not None else None
    gaps = [(_gap(node, world, volume), node) for node in slice_nodes(scene)]
    near = [(gap, node) for gap, node in gaps if gap <= ON_PLANE]
    if under_mouse is not None and any(node is under_mouse for _, node in near):
        return under_mouse
    return min(near, key=lambda pair: pair[0])[1] if near else None


def align_views(scene: Any, volume: Any) -> None:
    """Turn every view into the nearest plane of the image's grid: on oblique images a view then shows one slice, not a cut through many."""
    for node in slice_nodes(scene):
        node.RotateToVolumePlane(volume)


def show_case(scene: Any, volume: Any, application_logic: Any = None) -> None:
    """Show an image in all slice views, aligned with its grid and fitted where there is an application logic."""
    for number in range(scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode")):
        scene.GetNthNodeByClass(number, "vtkMRMLSliceCompositeNode").SetBackgroundVolumeID(volume.GetID())
    align_views(scene, volume)
    if application_logic is not None:
        application_logic.GetSelectionNode().SetActiveVolumeID(volume.GetID())
        application_logic.FitSliceToBackground()
    i, j, k = volume_size(volume)
    show_voxel(scene, volume, ((i - 1) // 2, (j - 1) // 2, (k - 1) // 2))


def show_voxel(scene: Any, volume: Any, voxel: Voxel) -> None:
    """Move every view along its normal until it shows a voxel."""
    place = ras_at(voxel, ijk_to_world(volume))
    for node in slice_nodes(scene):
        node.JumpSliceByOffsetting(*place)


def show_slice(slice_node: Any, volume: Any, index: int) -> None:
    """Move one view along its axis to a slice."""
    shown = slice_in_view(slice_node, volume)
    matrix = ijk_to_world(volume)
    axis = shown[0] if shown else axis_across(matrix_array(slice_node.GetSliceToRAS())[:3, 2], matrix)
    voxel = [(n - 1) / 2 for n in volume_size(volume)]
    voxel[AXES.index(axis)] = index
    slice_node.JumpSliceByOffsetting(*ras_at(voxel, matrix))


class ViewWatcher:
    """Tells which slice of the case a view shows, whenever that changes.

    Args:
        scene: whose views are followed; views that are added later are found by `refresh`.
        volume: gives the case's volume node, or None.
        seen: called with axis and index, on the main thread.
    """

    def __init__(self, scene: Any, volume: Callable[[], Any], seen: Callable[[str, int], None]) -> None:
        self._scene = scene
        self._volume = volume
        self._seen = seen
        self._observed: dict[Any, int] = {}
        self._shown: dict[Any, tuple[str, int] | None] = {}
        self.refresh()

    def refresh(self) -> None:
        """Follow views that are new, forget the ones that are gone, and tell what all of them show (after a case was opened)."""
        nodes = slice_nodes(self._scene)
        for node in [node for node in self._observed if node not in nodes]:
            node.RemoveObserver(self._observed.pop(node))
        self._shown.clear()
        for node in nodes:
            if node not in self._observed:
                self._observed[node] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._changed)
            self._changed(node, "")

    def close(self) -> None:
        """Follow nothing any more."""
        for node, tag in self._observed.items():
            node.RemoveObserver(tag)
        self._observed.clear()

    def _changed(self, node: Any, _event: str) -> None:
        volume = self._volume()
        shown = slice_in_view(node, volume) if volume is not None else None
        if shown != self._shown.get(node):
            self._shown[node] = shown
            if shown is not None:
                self._seen(*shown)


def _gap(slice_node: Any, world: Any, volume: Any) -> float:
    """Distance of a place from a view's plane, in voxels of the axis across it."""
    pose = matrix_array(slice_node.GetSliceToRAS())
    normal = pose[:3, 2] / np.linalg.norm(pose[:3, 2])
    matrix = ijk_to_world(volume)
    row = np.linalg.inv(matrix[:3, :3])[AXES.index(axis_across(normal, matrix))]
    return float(abs(normal @ (np.asarray(world, float) - pose[:3, 3])) * np.linalg.norm(row))
