"""The canvas of Slicer: one case is a volume node and a segmentation node, and masks are written into the segments' labelmaps in place.

A voxel belongs to one segment at most as far as anything is written here: voxels of other segments are left out, whether those are
locked or not, and a locked segment stays as it is.
Where a person let segments overlap in the Segment Editor, the file that is exported gives such a voxel to a locked segment before
others, and to the later layer among equals.
Main thread only. Nodes are looked up by id, so a node that a person removes is a closed image here, not a crash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from numpy.typing import NDArray

from FedSCALib.canvas import MODES, Color, Crop, Geometry, Segment
from FedSCALib.errors import CanvasError
from FedSCALib.mrml_files import add_volume, check_same_grid, read_label, volume_matrix, volume_size, write_label, write_volume
from FedSCALib.mrml_geometry import Box, Region, as_plane, as_region, region_of, region_shape, slices_of
from FedSCALib.mrml_layers import Layers
from FedSCALib.mrml_segments import Segments
from FedSCALib.translate import tr


class MrmlCanvas:
    """What an Annotator draws on (`canvas.Canvas`), in a MRML scene.

    Args:
        scene: the vtkMRMLScene; by default the application's.
    """

    def __init__(self, scene: Any = None) -> None:
        self._scene = scene if scene is not None else slicer.mrmlScene
        self._volume_id: str | None = None
        self._segmentation_id: str | None = None
        self._owned = False

    # Images

    def open_image(self, path: Path, name: str) -> Geometry:
        """Read an image into a volume node and make a segmentation node on its grid. Other nodes of the scene stay, also those of a
        case opened before.

        Raises:
            CanvasError: the file cannot be read.
        """
        volume = add_volume(self._scene, path, name)
        return self._use(volume, None, owned=True)

    def use_volume(self, volume: Any, segmentation: Any = None) -> Geometry:
        """Draw on a volume node that is in the scene already, and on a segmentation node (by default a new one).

        Raises:
            CanvasError: the node holds no image.
            GeometryMismatch: the segmentation's voxels lie on another grid.
        """
        if 0 in volume_size(volume):
            raise CanvasError(tr('The volume "{name}" holds no image: choose another one.').format(name=volume.GetName()))
        return self._use(volume, segmentation, owned=False)

    def close_image(self) -> None:
        """Forget the case; the nodes that were made for it leave the scene, a person's own stay."""
        for node in (self.segmentation_node, self.volume_node) if self._owned else ():
            if node is not None:
                for number in reversed(range(node.GetNumberOfDisplayNodes())):
                    self._scene.RemoveNode(node.GetNthDisplayNode(number))
                self._scene.RemoveNode(node)
        self._volume_id = self._segmentation_id = None

    @property
    def volume_node(self) -> Any:
        """The case's volume node; None without a case."""
        return self._scene.GetNodeByID(self._volume_id) if self._volume_id else None

    @property
    def segmentation_node(self) -> Any:
        """The case's segmentation node; None without a case."""
        return self._scene.GetNodeByID(self._segmentation_id) if self._segmentation_id else None

    def geometry(self) -> Geometry | None:
        """The image's grid; None without a case."""
        volume = self.volume_node
        if volume is None or self.segmentation_node is None:
            return None
        size = volume_size(volume)
        return Geometry(size, volume_matrix(volume), size[2] == 1)

    def export_image(self, path: Path) -> None:
        """Write the volume as it is in Slicer (a person's own, before it is uploaded): IJK in the file is IJK here.

        Raises:
            CanvasError: there is no case, or the file cannot be written.
        """
        self._open()
        write_volume(path, self.volume_node)

    # Segments

    def segments(self) -> list[Segment]:
        """In the order of Slicer's list; none without a case."""
        return self._segments().all() if self.geometry() else []

    def add_segment(self, name: str, value: int, color: Color | None = None) -> None:
        """Add an empty segment with the value that it has in label files; one of that name that is there already stays as it is.

        Args:
            color: red, green, blue, 0 to 1.

        Raises:
            CanvasError: another segment has that value, or there is no case.
        """
        self._open()
        self._segments().add(name, value, color)

    def segment_id(self, name: str) -> str:
        """Slicer's id of a segment, for the Segment Editor."""
        self._open()
        return self._segments().id_of(name)

    def set_locked(self, name: str, on: bool) -> None:
        self._open()
        segments = self._segments()
        segments.set_locked(segments.id_of(name), on)

    def set_visible(self, name: str, on: bool) -> None:
        self._open()
        segments = self._segments()
        segments.set_visible(segments.id_of(name), on)

    # Masks

    def slice_mask(self, name: str, axis: str, index: int) -> NDArray[np.bool_]:
        """A segment on a slice as it is now, (rows, columns), with what was drawn elsewhere.

        Raises:
            CanvasError, GeometryMismatch, ValueError: no such segment, another grid, no such slice.
        """
        geometry = self._open()
        return as_plane(self._layers().read(self.segment_id(name), region_of(geometry.size_ijk, axis, index)), axis)

    def fingerprint(self, name: str, axis: str, index: int) -> bytes:
        """Equal for equal masks of a slice."""
        mask = self.slice_mask(name, axis, index)
        return hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()

    def write(self, name: str, axis: str, index: int, box: Box, mask: NDArray[np.bool_], mode: str) -> Crop:
        """Write a mask into a box of a slice.

        Args:
            box: x0, y0, x1, y1, inclusive.
            mask: the box's pixels (rows, columns).
            mode: "replace" the segment's pixels in the box, "add" to them, or "subtract" from them.

        Returns:
            What the box held before and holds now.

        Raises:
            CanvasError: the segment is locked, or there is none of that name.
        """
        if mode not in MODES:
            raise ValueError(f"mode is {mode!r}: expected one of {', '.join(MODES)}")
        segment_id, region, block = self._aimed(name, axis, index, box, mask)
        if self._segments().locked(segment_id):
            raise CanvasError(tr('"{name}" is locked. Unlock it to change it.').format(name=name))
        before = self._layers().read(segment_id, region)
        wanted = {"replace": block, "add": before | block, "subtract": before & ~block}[mode]
        after = self._write(segment_id, region, before, wanted)
        return Crop(name, axis, index, box, as_plane(before, axis).copy(), as_plane(after, axis).copy())

    def put(self, name: str, axis: str, index: int, box: Box, pixels: NDArray[np.bool_], where: NDArray[np.bool_]) -> None:
        """Set the pixels (rows, columns) of a box where `where` says so, as undo and redo do; locks and other segments count as in
        `write`."""
        segment_id, region, block = self._aimed(name, axis, index, box, pixels)
        before = self._layers().read(segment_id, region)
        self._write(segment_id, region, before, np.where(as_region(np.asarray(where, bool), axis), block, before))

    def empty(self) -> bool:
        """Whether no segment has a voxel."""
        return self.geometry() is None or all(self._layers().is_empty(segment_id) for segment_id, _ in self._segments().ids())

    # Label files

    def load_labels(self, path: Path, names: dict[int, str]) -> None:
        """Read a label file into segments: each value becomes what the segment of its name holds (a segment is added where there is
        none); locked segments stay.

        Args:
            names: of the values in the file; others are called "label <value>".

        Raises:
            CanvasError: the file cannot be read, or there is no case.
            GeometryMismatch: it lies on another grid than the image.
        """
        geometry = self._open()
        values, matrix = read_label(path)
        check_same_grid(geometry.ijk_to_ras, geometry.size_ijk, matrix, (values.shape[2], values.shape[1], values.shape[0]))
        segments, layers = self._segments(), self._layers()
        found = {value: self._segment_for(value, names) for value in values_of(values)}
        named = [segment_id for segment_id, name in segments.ids() if name in names.values()]
        for segment_id in dict.fromkeys([*found.values(), *named]):
            if not segments.locked(segment_id):
                layers.clear(segment_id)
        for value, segment_id in found.items():
            region = _bounds(values == value)
            before = layers.read(segment_id, region)
            self._write(segment_id, region, before, before | (values[slices_of(region)] == value))

    def export_labels(self, path: Path) -> list[dict[str, Any]]:
        """Write all segments into one label file on the image's grid.

        Returns:
            [{"name": text, "idx": value in the file}] of the segments that hold something.

        Raises:
            CanvasError: the file cannot be written, or there is no case.
            GeometryMismatch: a segment lies on another grid, or what was written does.
        """
        geometry = self._open()
        labels = self.label_array()
        write_label(path, labels, geometry.ijk_to_ras)
        held = set(values_of(labels))
        return [{"name": segment.name, "idx": segment.value} for segment in self.segments() if segment.value in held]

    def label_array(self) -> NDArray[np.unsignedinteger[Any]]:
        """All segments as one array of label values (k, j, i), 0 elsewhere."""
        self._open()
        segments, layers = self._segments(), self._layers()
        described = segments.all()
        largest = max((segment.value for segment in described), default=1)
        labels = np.zeros(region_shape(layers.whole), np.uint8 if largest < 256 else np.uint16)
        ids = [segment_id for segment_id, _ in segments.ids()]
        for locked in (False, True):
            values = {segment_id: segment.value for segment_id, segment in zip(ids, described) if segment.locked is locked}
            layers.paint(labels, values)
        return labels

    # Inside

    def _use(self, volume: Any, segmentation: Any, *, owned: bool) -> Geometry:
        if segmentation is None:
            segmentation = self._scene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"{volume.GetName()} labels")
            segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        segmentation.CreateBinaryLabelmapRepresentation()
        segmentation.SetSourceRepresentationToBinaryLabelmap()
        self._volume_id, self._segmentation_id, self._owned = volume.GetID(), segmentation.GetID(), owned
        layers = self._layers()
        for segment_id, _ in self._segments().ids():
            layers.block(segment_id)
        return self._open()

    def _open(self) -> Geometry:
        geometry = self.geometry()
        if geometry is None:
            raise CanvasError(tr("No image is open. Open a case first."))
        return geometry

    def _segments(self) -> Segments:
        return Segments(self.segmentation_node)

    def _layers(self) -> Layers:
        volume = self.volume_node
        return Layers(self.segmentation_node, volume_matrix(volume), volume_size(volume))

    def _segment_for(self, value: int, names: dict[int, str]) -> str:
        """The segment that a value of a label file belongs to."""
        segments = self._segments()
        name = names.get(value) or f"label {value}"
        taken = {segment.value for segment in segments.all()}
        return segments.add(name, segments.next_value() if value in taken else value, None)

    def _aimed(self, name: str, axis: str, index: int, box: Box, pixels: NDArray[np.bool_]) -> tuple[str, Region, NDArray[np.bool_]]:
        """Segment id, region and the pixels as an array over the region, checked."""
        region = region_of(self._open().size_ijk, axis, index, box)
        block = as_region(np.asarray(pixels, bool), axis)
        if block.shape != region_shape(region):
            raise ValueError(
                f"pixels of shape {np.shape(pixels)} for box {box} of axis {axis}: expected {region_shape(region)} as (k, j, i)"
            )
        return self.segment_id(name), region, block

    def _write(self, segment_id: str, region: Region, before: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Write what may be written of a segment's wanted voxels in a region; returns what it holds then."""
        segments, layers = self._segments(), self._layers()
        if segments.locked(segment_id):
            return before
        after = wanted.copy()
        new = wanted & ~before
        if new.any():
            for other, _ in segments.ids():
                if other != segment_id:
                    new &= ~layers.read(other, region)
            after = (wanted & before) | new
        if not np.array_equal(before, after):
            layers.write(segment_id, region, after)
        return after


def values_of(labels: NDArray[Any]) -> list[int]:
    """The values above 0 in an array (k, j, i) of whole numbers, in order."""
    found: set[int] = set()
    for plane in labels:  # slice by slice: np.unique sorts a copy
        found.update(int(value) for value in np.flatnonzero(np.bincount(plane[plane > 0].ravel())))
    return sorted(found)


def _bounds(mask: NDArray[np.bool_]) -> Region:
    """The smallest region that holds every voxel of a mask (k, j, i) that is not empty."""
    k = np.flatnonzero(mask.any(axis=(1, 2)))
    flat = np.asarray(mask[k[0] : k[-1] + 1].any(axis=0))
    j, i = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    return int(i[0]), int(i[-1]), int(j[0]), int(j[-1]), int(k[0]), int(k[-1])
