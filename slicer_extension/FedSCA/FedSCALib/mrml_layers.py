"""Voxels of segments in place: Slicer keeps several segments in one labelmap (a layer), each with its own value there.

Only the voxels of a region are touched, and of those only what was or becomes the segment's own. Slicer's own
`SetBinaryLabelmapToSegment` replaces the whole segment or merges; writing in place costs
less than a millisecond in a volume of 512 x 512 x 300. Main thread only: views follow the layer's ModifiedEvent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

from FedSCALib.errors import GeometryMismatch
from FedSCALib.mrml_geometry import SAME_GRID, Region, far_apart, grown, intersection, region_shape, slices_of
from FedSCALib.translate import tr


def matrix_array(matrix: Any) -> NDArray[np.float64]:
    """A vtkMatrix4x4 as an array (4, 4)."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrix_of(array: NDArray[np.float64]) -> Any:
    """An array (4, 4) as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


class Layers:
    """The labelmaps of one segmentation, on the grid of one image.

    Args:
        node: a vtkMRMLSegmentationNode whose source representation is the binary labelmap.
        ijk_to_ras: of the image, (4, 4).
        size_ijk: of the image.
    """

    def __init__(self, node: Any, ijk_to_ras: NDArray[np.float64], size_ijk: tuple[int, int, int]) -> None:
        self._node = node
        self._segmentation = node.GetSegmentation()
        self._ijk_to_ras = ijk_to_ras
        self._size = size_ijk

    @property
    def whole(self) -> Region:
        """The region of the whole image."""
        return 0, self._size[0] - 1, 0, self._size[1] - 1, 0, self._size[2] - 1

    def read(self, segment_id: str, region: Region) -> NDArray[np.bool_]:
        """A segment's voxels in a region, (k, j, i), a copy.

        Raises:
            GeometryMismatch: the segment lies on another grid than the image.
        """
        pixels = np.zeros(region_shape(region), bool)
        found = self.block(segment_id)
        shared = found and intersection(region, found[0])
        if found and shared:
            extent, values = found
            origin = (extent[0], extent[2], extent[4])
            pixels[slices_of(shared, (region[0], region[2], region[4]))] = values[slices_of(shared, origin)] == self._value(segment_id)
        return pixels

    def write(self, segment_id: str, region: Region, pixels: NDArray[np.bool_]) -> None:
        """Make these the segment's voxels in a region; other segments' voxels, which must not be among them, stay.

        Raises:
            GeometryMismatch: the segment lies on another grid than the image.
        """
        found = self.block(segment_id)
        if (found is None or intersection(region, found[0]) != region) and pixels.any():
            found = self._grow(segment_id, found, region)
        shared = found and intersection(region, found[0])
        if not found or not shared:
            return
        extent, values = found
        value = self._value(segment_id)
        target = values[slices_of(shared, (extent[0], extent[2], extent[4]))]
        wanted = pixels[slices_of(shared, (region[0], region[2], region[4]))]
        target[(target == value) & ~wanted] = 0
        target[wanted] = value
        self._tell(segment_id, extent)

    def clear(self, segment_id: str) -> None:
        """Remove all voxels of a segment."""
        found = self.block(segment_id)
        value = self._value(segment_id)
        changed = False
        for plane in found[1] if found else ():
            own = plane == value
            if own.any():
                plane[own] = 0
                changed = True
        if found and changed:
            self._tell(segment_id, found[0])

    def is_empty(self, segment_id: str) -> bool:
        """Whether a segment has no voxel."""
        found = self.block(segment_id)
        return found is None or not (found[1] == self._value(segment_id)).any()

    def block(self, segment_id: str) -> tuple[Region, NDArray[Any]] | None:
        """The region that a segment's layer holds and its values (k, j, i), not copied; None where it holds nothing.

        Raises:
            GeometryMismatch: the layer lies on another grid than the image.
        """
        layer = self._layer(segment_id)
        if layer is None or layer.GetNumberOfPoints() == 0 or layer.GetPointData().GetScalars() is None:
            return None
        i, j, k = self._offset(layer)
        extent = layer.GetExtent()
        region = (extent[0] + i, extent[1] + i, extent[2] + j, extent[3] + j, extent[4] + k, extent[5] + k)
        return region, vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(region_shape(region))

    def _layer(self, segment_id: str) -> Any:
        name = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
        return self._segmentation.GetSegment(segment_id).GetRepresentation(name)

    def _value(self, segment_id: str) -> int:
        return int(self._segmentation.GetSegment(segment_id).GetLabelValue())

    def _offset(self, layer: Any) -> tuple[int, int, int]:
        """IJK of the layer's voxel (0, 0, 0): Slicer may move a layer's origin by whole voxels, e.g. when it reads one from a file."""
        matrix = vtk.vtkMatrix4x4()
        layer.GetImageToWorldMatrix(matrix)
        found = matrix_array(matrix)
        exact = np.linalg.solve(self._ijk_to_ras, found[:, 3])[:3]
        i, j, k = (int(n) for n in np.rint(exact))
        moved = self._ijk_to_ras.copy()
        moved[:3, 3] = (self._ijk_to_ras @ [i, j, k, 1])[:3]
        if far_apart(moved, found, self._size) > SAME_GRID:
            raise GeometryMismatch(
                tr(
                    "A segment lies on another voxel grid than the image, so it cannot be changed or saved here. "
                    "In the Segment Editor set the segmentation's geometry to that of the image."
                )
            )
        return i, j, k

    def _tell(self, segment_id: str, extent: Region) -> None:
        """Let views follow, and the segment's surface where it is shown in 3D.

        A labelmap's own ModifiedEvent makes Slicer drop the surfaces of all segments. Where there are some, nothing (one voxel of 0,
        merged by maximum) is written by Slicer's logic, which makes this segment's surface anew and keeps the others.
        """
        layer = self._layer(segment_id)
        if not self._segmentation.ContainsRepresentation(slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()):
            layer.Modified()
            self._segmentation.InvokeEvent(slicer.vtkSegmentation.RepresentationModified)  # what slice views are drawn anew after
            return
        layer.GetPointData().GetScalars().Modified()
        i, j, k = self._offset(layer)
        corner = (extent[0] - i, extent[0] - i, extent[2] - j, extent[2] - j, extent[4] - k, extent[4] - k)
        nothing = slicer.vtkOrientedImageData()
        nothing.CopyDirections(layer)
        nothing.SetSpacing(layer.GetSpacing())
        nothing.SetOrigin(layer.GetOrigin())
        nothing.SetExtent(corner)
        nothing.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
        nothing.GetPointData().GetScalars().Fill(0)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        logic.SetBinaryLabelmapToSegment(nothing, self._node, segment_id, logic.MODE_MERGE_MAX, corner)

    def _grow(self, segment_id: str, found: tuple[Region, NDArray[Any]] | None, need: Region) -> tuple[Region, NDArray[Any]]:
        """Make room in a layer. All segments of the layer keep sharing it: the object stays, its voxels are replaced."""
        extent = grown(found[0] if found else None, need, self.whole)
        layer = self._layer(segment_id)
        larger = slicer.vtkOrientedImageData()
        larger.SetImageToWorldMatrix(matrix_of(self._ijk_to_ras))
        larger.SetExtent(extent)
        larger.AllocateScalars(layer.GetScalarType(), 1)
        values = vtk_to_numpy(larger.GetPointData().GetScalars()).reshape(region_shape(extent))
        values[:] = 0
        if found:
            values[slices_of(found[0], (extent[0], extent[2], extent[4]))] = found[1]
        layer.ShallowCopy(larger)
        return extent, vtk_to_numpy(layer.GetPointData().GetScalars()).reshape(region_shape(extent))

    def paint(self, labels: NDArray[Any], values: dict[str, int]) -> None:
        """Write segments into an array of label values over the whole image (k, j, i), layer by layer.

        Args:
            values: segment id -> label value.
        """
        by_layer: dict[int, list[str]] = {}
        for segment_id in values:
            by_layer.setdefault(self._segmentation.GetLayerIndex(segment_id), []).append(segment_id)
        for _, sharing in sorted(by_layer.items()):
            found = self.block(sharing[0])
            shared = found and intersection(self.whole, found[0])
            if not found or not shared:
                continue
            extent, stored = found
            part = stored[slices_of(shared, (extent[0], extent[2], extent[4]))]
            table = np.zeros(max(256, int(stored.max()) + 1), labels.dtype)
            for segment_id in sharing:
                table[self._value(segment_id)] = values[segment_id]
            # Slice by slice: moving a whole volume's intermediate results through memory takes longer than the work.
            for plane, target in zip(part, labels[slices_of(shared)]):
                translated = table[plane]
                np.copyto(target, translated, where=translated > 0)
