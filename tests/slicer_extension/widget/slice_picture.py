"""A slice view for tests and pictures: it draws an image's slice, masks and prompts, and passes clicks to MRML as a slice view does.

Drawing is plain: grey values, coloured masks with an outline, dots. Only what happens in MRML is the real thing:
a click adds a control point to the markups node that is being placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer.util
from numpy.typing import NDArray
from PySide6 import QtCore, QtGui, QtWidgets

Colour = tuple[float, float, float]
GREEN, RED = (70, 220, 120), (255, 90, 90)


class SlicePicture(QtWidgets.QLabel):
    """One slice of a volume node, perpendicular to an axis.

    Args:
        zoom: screen pixels per mm.
    """

    def __init__(self, volume: Any, axis: str, index: int, zoom: float, height: int | None = None) -> None:
        super().__init__()
        self._volume, self.axis, self.index = volume, axis, index
        self._array = slicer.util.arrayFromVolume(volume)
        i, j, k = volume.GetSpacing()
        self._pixel = {"k": (i, j), "j": (i, k), "i": (j, k)}[axis]
        self._zoom = zoom
        self.setAlignment(QtCore.Qt.AlignCenter)
        self.setStyleSheet("background: #000000;")

    def draw(self, masks: Mapping[Colour, NDArray[np.bool_]], points: list[tuple[int, int, bool]] = (), box: Any = None) -> None:
        """Masks (rows, columns) by colour (0..1), points (x, y, positive) and a box (x0, y0, x1, y1)."""
        grey = self._grey()
        rows, columns = grey.shape
        width, height = (round(n * size * self._zoom) for n, size in zip((columns, rows), self._pixel, strict=True))
        y = np.minimum((np.arange(height) / height * rows).astype(int), rows - 1)
        x = np.minimum((np.arange(width) / width * columns).astype(int), columns - 1)
        picture = np.repeat(_smooth(grey, width, height)[..., None], 3, axis=2)
        for colour, mask in masks.items():
            _lay_over(picture, mask[np.ix_(y, x)], np.array(colour) * 255)
        image = QtGui.QImage(
            np.ascontiguousarray(picture.astype(np.uint8)).data, width, height, 3 * width, QtGui.QImage.Format_RGB888
        ).copy()
        self._mark(image, width / columns, height / rows, points, box)
        self.setPixmap(QtGui.QPixmap.fromImage(image))
        self.setFixedSize(width, height)

    def ras_of(self, x: float, y: float) -> tuple[float, float, float]:
        """The place in mm of column x and row y."""
        import vtk

        voxel = {"k": (x, y, self.index), "j": (x, self.index, y), "i": (self.index, x, y)}[self.axis]
        matrix = vtk.vtkMatrix4x4()
        self._volume.GetIJKToRASMatrix(matrix)
        return matrix.MultiplyPoint((*voxel, 1.0))[:3]

    def _grey(self) -> NDArray[Any]:
        if self._array.ndim == 4:
            self._array = self._array.mean(axis=3)
        low, high = np.percentile(self._array, (1, 99.5))
        plane = {"k": self._array[self.index] if self.axis == "k" else None}.get(self.axis)
        if plane is None:
            plane = self._array[:, self.index] if self.axis == "j" else self._array[:, :, self.index]
        return np.clip((plane - low) / max(high - low, 1) * 255, 0, 255)

    def _mark(self, image: QtGui.QImage, sx: float, sy: float, points: Any, box: Any) -> None:
        painter = QtGui.QPainter(image)
        painter.setRenderHint(QtGui.QPainter.Antialiasing)
        if box is not None:
            painter.setPen(QtGui.QPen(QtGui.QColor(255, 220, 90), 2))
            painter.drawRect(QtCore.QRectF(box[0] * sx, box[1] * sy, (box[2] - box[0] + 1) * sx, (box[3] - box[1] + 1) * sy))
        for x, y, positive in points:
            painter.setPen(QtGui.QPen(QtGui.QColor(255, 255, 255), 2))
            painter.setBrush(QtGui.QColor(*(GREEN if positive else RED)))
            painter.drawEllipse(QtCore.QPointF((x + 0.5) * sx, (y + 0.5) * sy), 6, 6)
        painter.end()


def _smooth(grey: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Bilinear enlargement."""
    source = np.ascontiguousarray(grey.astype(np.uint8))
    rows, columns = source.shape
    image = QtGui.QImage(source.data, columns, rows, columns, QtGui.QImage.Format_Grayscale8)
    large = image.scaled(width, height, QtCore.Qt.IgnoreAspectRatio, QtCore.Qt.SmoothTransformation).convertToFormat(
        QtGui.QImage.Format_Grayscale8
    )
    return np.frombuffer(large.constBits(), np.uint8).reshape(height, large.bytesPerLine())[:, :width].astype(float)


def _lay_over(picture: NDArray[Any], mask: NDArray[np.bool_], colour: NDArray[Any]) -> None:
    inner = mask.copy()
    for axis in (0, 1):
        for step in (1, -1, 2, -2):
            inner &= np.roll(mask, step, axis)
    picture[mask] = 0.72 * picture[mask] + 0.28 * colour
    picture[mask & ~inner] = colour


def place(scene: Any, ras: tuple[float, float, float], view: Any) -> None:
    """What a left click in a slice view (its node) does while a markups node is being placed.

    A box is complete, and placing over, after its second corner.

    Raises:
        AssertionError: nothing is being placed.
    """
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    selection = scene.GetNodeByID("vtkMRMLSelectionNodeSingleton")
    assert interaction.GetCurrentInteractionMode() == interaction.Place, "nothing is being placed"
    node = scene.GetNodeByID(selection.GetActivePlaceNodeID())
    assert node is not None, "no markups node is active"
    scene.GetFirstNodeByClass("vtkMRMLCrosshairNode").SetCursorPositionXYZ([0.0, 0.0, 0.0], view)
    node.AddControlPointWorld(*ras)
    if node.IsA("vtkMRMLMarkupsROINode") and node.GetControlPointPlacementComplete():
        end_placing(scene)


def end_placing(scene: Any) -> None:
    """What Slicer does at the end of a box or a stroke."""
    interaction = scene.GetNodeByID("vtkMRMLInteractionNodeSingleton")
    if not interaction.GetPlaceModePersistence():
        interaction.SetCurrentInteractionMode(interaction.ViewTransform)
        interaction.InvokeEvent(interaction.EndPlacementEvent)
