"""A stand-in for `slicer.qMRMLSegmentEditorWidget`: it keeps what it was told, and a test draws with `stroke`."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer.util
from PySide6 import QtWidgets

from .pythonqt_stand_in import stand_in


class Effect:
    """The active effect; `parameters` as the module set them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.parameters: dict[str, Any] = {}

    def setCommonParameter(self, name: str, value: Any) -> None:
        self.parameters[name] = value


class qMRMLSegmentEditorWidget(stand_in(QtWidgets.QWidget)):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self._scene = self._node = self._segmentation = self._volume = None
        self._segment_id = ""
        self._effect: Effect | None = None
        self.undone = False
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(QtWidgets.QLabel("(Slicer's Segment Editor is here.)"))

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._node = node

    def setSegmentationNode(self, node: Any) -> None:
        self._segmentation = node

    def segmentationNode(self) -> Any:
        return self._segmentation

    def setSourceVolumeNode(self, node: Any) -> None:
        self._volume = node

    def sourceVolumeNode(self) -> Any:
        return self._volume

    def setCurrentSegmentID(self, segment_id: str) -> None:
        self._segment_id = segment_id

    def setActiveEffectByName(self, name: str) -> None:
        self._effect = Effect(name) if name else None

    def activeEffect(self) -> Effect | None:
        return self._effect

    def undo(self) -> None:
        self.undone = True

    def redo(self) -> None:
        self.undone = False

    def stroke(self, axis: str, index: int, rows: slice, columns: slice) -> None:
        """Draw with the active effect on a block of a slice, as a person would with the brush."""
        assert self._effect is not None
        array = slicer.util.arrayFromSegmentBinaryLabelmap(self._segmentation, self._segment_id, self._volume)
        if array is None:
            array = np.zeros(slicer.util.arrayFromVolume(self._volume).shape, np.uint8)
        place = {"k": (index, rows, columns), "j": (rows, index, columns), "i": (rows, columns, index)}[axis]
        array[place] = 0 if self._effect.name == "Erase" else 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, self._segmentation, self._segment_id, self._volume)
