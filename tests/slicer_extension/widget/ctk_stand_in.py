"""Stand-ins for the CTK and qMRML widgets that the module's .ui file names. They look plain, and behave as the module needs them to."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt_stand_in import stand_in

Button = stand_in(QtWidgets.QAbstractButton)
Widget = stand_in(QtWidgets.QWidget)
HEADER = 26


class ctkCollapsibleButton(Button):  # type: ignore[misc, valid-type]
    """A header that shows and hides what is below it."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self.setContentsMargins(0, HEADER, 0, 0)
        self.clicked.connect(lambda: self.setCollapsed(not self._collapsed))
        self.setCursor(QtCore.Qt.PointingHandCursor)

    def _get(self) -> bool:
        return self._collapsed

    def setCollapsed(self, on: bool) -> None:
        self._collapsed = bool(on)
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget):
                child.setVisible(not on)
        self.setMaximumHeight(HEADER if on else 16777215)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(self._collapsed)

    def childEvent(self, event: QtCore.QChildEvent) -> None:
        if event.added() and self._collapsed and isinstance(event.child(), QtWidgets.QWidget):
            event.child().hide()
        super().childEvent(event)

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        if self._collapsed:
            self.setCollapsed(True)
        super().showEvent(event)

    collapsed = QtCore.Property(bool, _get, setCollapsed)

    def sizeHint(self) -> QtCore.QSize:
        inner = self.layout().totalSizeHint() if self.layout() and not self._collapsed else QtCore.QSize(100, HEADER)
        return QtCore.QSize(inner.width(), max(inner.height(), HEADER))

    def minimumSizeHint(self) -> QtCore.QSize:
        return self.sizeHint() if self._collapsed else self.layout().totalMinimumSize() if self.layout() else QtCore.QSize(60, HEADER)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        header = QtCore.QRect(0, 0, QtCore.QObject.property(self, "width"), HEADER - 2)
        palette = QtWidgets.QWidget.palette
        colours = palette if isinstance(palette, QtGui.QPalette) else QtCore.QObject.property(self, "palette")
        painter.fillRect(header, colours.color(QtGui.QPalette.Button))
        painter.setPen(colours.color(QtGui.QPalette.ButtonText))
        text = ("▸  " if self._collapsed else "▾  ") + QtCore.QObject.property(self, "text")
        painter.drawText(header.adjusted(8, 0, 0, 0), QtCore.Qt.AlignVCenter, text)


class ctkPathLineEdit(Widget):  # type: ignore[misc, valid-type]
    """A path and a button to choose it."""

    currentPathChanged = QtCore.Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = QtWidgets.QLineEdit()
        layout.addWidget(self._edit)
        choose = QtWidgets.QToolButton()
        choose.setText("…")
        layout.addWidget(choose)
        self._edit.textChanged.connect(self.currentPathChanged.emit)

    def _get(self) -> str:
        return str(QtCore.QObject.property(self._edit, "text"))

    def setCurrentPath(self, path: str) -> None:
        self._edit.setText(str(Path(path)) if path else "")

    currentPath = QtCore.Property(str, _get, setCurrentPath)


class qMRMLWidget(Widget):  # type: ignore[misc, valid-type]
    """A widget that is told the scene."""

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene


ctk = types.ModuleType("ctk")
for _cls in (ctkCollapsibleButton, ctkPathLineEdit):
    setattr(ctk, _cls.__name__, _cls)
CUSTOM = {cls.__name__: cls for cls in (ctkCollapsibleButton, ctkPathLineEdit, qMRMLWidget)}
