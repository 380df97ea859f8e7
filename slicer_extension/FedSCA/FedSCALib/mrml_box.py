"""A box on a slice as Slicer's ROI, whose sides run along the image's grid: on oblique images too it is drawn from pixel to pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from FedSCALib.mrml_files import volume_size
from FedSCALib.mrml_geometry import AXES, COLUMN_AND_ROW, box_around, ijk_at, nearest_rotation, ras_at
from FedSCALib.mrml_layers import matrix_array, matrix_of
from FedSCALib.mrml_scene import ijk_to_world
from FedSCALib.wire import Box

THICKNESS = 0.5  # voxels across the slice, so that a box is seen in its slice and not in the next ones


def drawn(node: Any) -> bool:
    """Whether both corners of a vtkMRMLMarkupsROINode are placed."""
    return bool(node.GetControlPointPlacementComplete())


def empty_box(node: Any, volume: Any) -> None:
    """Make it ready to be drawn along the grid of a volume (None: as it is turned now)."""
    node.RemoveAllControlPoints()
    for kind in (node.ROITypeBoundingBox, node.ROITypeBox):
        node.SetROIType(kind)  # a box that was complete takes one point only; as a new one it takes its two corners again
    if volume is not None:
        node.SetAndObserveObjectToNodeMatrix(matrix_of(nearest_rotation(ijk_to_world(volume))))


def box_of(node: Any, volume: Any, axis: str) -> Box | None:
    """The pixels of a slice that a drawn box holds; None where it lies beside the image."""
    matrix = ijk_to_world(volume)
    return box_around([ijk_at(corner, matrix) for corner in corners(node)], volume_size(volume), axis)


def show_box(node: Any, volume: Any, axis: str, index: int, box: Box) -> None:
    """Draw it around pixels of a slice, through the centres of the outermost ones."""
    matrix = ijk_to_world(volume)
    across, (column, row) = AXES.index(axis), COLUMN_AND_ROW[axis]
    low, high = np.zeros(3), np.zeros(3)
    low[across] = high[across] = index
    low[column], low[row], high[column], high[row] = box
    sides = np.linalg.norm(matrix[:3, :3], axis=0)
    size = (high - low) * sides
    size[across] = THICKNESS * sides[across]
    empty_box(node, volume)
    node.SetCenterWorld(*ras_at((low + high) / 2, matrix))
    node.SetSizeWorld(*np.maximum(size, 1e-3))


def corners(node: Any) -> NDArray[np.float64]:
    """Its eight corners, (8, 3), world RAS in mm."""
    half = np.array(node.GetSize()) / 2
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    found: NDArray[np.float64] = (np.c_[signs * half, np.ones(8)] @ matrix_array(node.GetObjectToWorldMatrix()).T)[:, :3]
    return found
