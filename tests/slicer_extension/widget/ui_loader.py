"""Loads a .ui file into the stand-ins of PythonQt and CTK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from .ctk_stand_in import CUSTOM
from .pythonqt_stand_in import stand_in


class Loader(QtUiTools.QUiLoader):
    """Every widget of the file becomes one of the stand-in's classes; a class that nobody knows is an error."""

    def createWidget(self, name: str, parent: Any = None, object_name: str = "") -> Any:
        cls = CUSTOM.get(name)
        if cls is None:
            cls = stand_in(getattr(QtWidgets, name))
        widget = cls(parent)
        widget.setObjectName(object_name)
        return widget


_loaders: list[Loader] = []  # widgets that Python made belong to their loader, so it must live as long as they do


def load_ui(path: str | Path) -> Any:
    loader = Loader()
    _loaders.append(loader)
    file = QtCore.QFile(str(path))
    if not file.open(QtCore.QIODevice.ReadOnly):
        raise FileNotFoundError(path)
    widget = loader.load(file)
    file.close()
    if widget is None:
        raise ValueError(f"{path}: {loader.errorString()}")
    return widget
