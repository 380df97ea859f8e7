"""A canvas on arrays: the behaviour of Slicer's segments that the annotator counts on, without Slicer."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from FedSCALib.canvas import Color, Crop, Geometry, Segment
from FedSCALib.errors import CanvasError, GeometryMismatch
from FedSCALib.prompts import voxel_on_slice
from FedSCALib.wire import Box
from numpy.typing import NDArray


class ArrayCanvas:
    """Arrays are (k, j, i)."""

    def __init__(self) -> None:
        self.image: sitk.Image | None = None
        self.name = ""
        self.kept: dict[str, Segment] = {}
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.writes = 0

    def open_image(self, path: Path, name: str) -> Geometry:
        try:
            self.image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            raise CanvasError(f"{path.name} cannot be read.") from error
        self.name, self.kept, self.masks = name, {}, {}
        geometry = self.geometry()
        assert geometry is not None
        return geometry

    def close_image(self) -> None:
        self.image, self.kept, self.masks = None, {}, {}

    def geometry(self) -> Geometry | None:
        if self.image is None:
            return None
        size = self.image.GetSize()
        return Geometry((size[0], size[1], size[2]), np.eye(4))

    def segments(self) -> list[Segment]:
        return list(self.kept.values())

    def add_segment(self, name: str, value: int, color: Color | None = None) -> None:
        if name in self.kept:
            return
        if any(segment.value == value for segment in self.kept.values()):
            raise CanvasError(f"The value {value} is taken.")
        self.kept[name] = Segment(name, value, color or (1.0, 0.5, 0.0))
        self.masks[name] = np.zeros(self._shape(), bool)

    def set_locked(self, name: str, on: bool) -> None:
        self.kept[name] = replace(self.kept[name], locked=on)

    def set_visible(self, name: str, on: bool) -> None:
        self.kept[name] = replace(self.kept[name], visible=on)

    def slice_mask(self, name: str, axis: str, index: int) -> NDArray[np.bool_]:
        if name not in self.masks:
            raise CanvasError(f"There is no segment {name}.")
        return np.array(np.take(self.masks[name], index, axis="kji".index(axis)))

    def fingerprint(self, name: str, axis: str, index: int) -> bytes:
        return hashlib.sha256(self.slice_mask(name, axis, index).tobytes()).digest()

    def write(self, name: str, axis: str, index: int, box: Box, mask: NDArray[np.bool_], mode: str) -> Crop:
        if self.kept[name].locked:
            raise CanvasError(f"{name} is locked.")
        before = self._crop(name, axis, index, box)
        wanted = {"replace": mask, "add": before | mask, "subtract": before & ~mask}[mode]
        self.put(name, axis, index, box, wanted, np.ones_like(wanted))
        self.writes += 1
        return Crop(name, axis, index, box, before, self._crop(name, axis, index, box))

    def put(self, name: str, axis: str, index: int, box: Box, pixels: NDArray[np.bool_], where: NDArray[np.bool_]) -> None:
        if self.kept[name].locked:
            return
        x0, y0, x1, y1 = box
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                if where[y - y0, x - x0]:
                    i, j, k = voxel_on_slice(axis, index, x, y)
                    taken = any(mask[k, j, i] for other, mask in self.masks.items() if other != name)
                    self.masks[name][k, j, i] = pixels[y - y0, x - x0] and not taken

    def load_labels(self, path: Path, names: dict[int, str]) -> None:
        label = sitk.ReadImage(str(path))
        if self.image is None or label.GetSize() != self.image.GetSize():
            raise GeometryMismatch("The label lies on another grid.")
        values = sitk.GetArrayFromImage(label)
        for value in np.unique(values[values > 0]).tolist():
            self.add_segment(names.get(value, f"label {value}"), value)
        for name, segment in self.kept.items():
            self.masks[name] = values == segment.value

    def export_labels(self, path: Path) -> list[dict[str, Any]]:
        if self.image is None:
            raise CanvasError("No image is open.")
        values = np.zeros(self._shape(), np.uint8)
        for name, segment in self.kept.items():
            values[self.masks[name]] = segment.value
        label = sitk.GetImageFromArray(values)
        label.CopyInformation(self.image)
        sitk.WriteImage(label, str(path))
        return [{"name": name, "idx": segment.value} for name, segment in self.kept.items() if self.masks[name].any()]

    def empty(self) -> bool:
        return not any(mask.any() for mask in self.masks.values())

    def _shape(self) -> tuple[int, ...]:
        assert self.image is not None
        return tuple(reversed(self.image.GetSize()))

    def _crop(self, name: str, axis: str, index: int, box: Box) -> NDArray[np.bool_]:
        x0, y0, x1, y1 = box
        return self.slice_mask(name, axis, index)[y0 : y1 + 1, x0 : x1 + 1]
