"""A stand-in for the parts of desktop Slicer that the module's widget uses: application, main window, slice views.

MRML itself is real (the slicer-core wheel): scene, nodes, logics and `slicer.util`. The application around it is imitated here.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from .ctk_stand_in import ctk
from .pythonqt_stand_in import qt
from .scripted_module_stand_in import scripted_module
from .segment_editor_stand_in import qMRMLSegmentEditorWidget
from .ui_loader import load_ui

EXTENSION = Path(__file__).parents[3] / "slicer_extension"
MODULES = ("markups", "segmentations", "volumes")
VIEWS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}


def application() -> Any:
    """The one QApplication of this process."""
    found = QtWidgets.QApplication.instance()
    if found is None:
        found = QtWidgets.QApplication(["Slicer"])
        found.setStyle("Fusion")
    return found


class Palettes:
    """Slicer's light and dark styles, roughly."""

    @staticmethod
    def of(dark: bool) -> QtGui.QPalette:
        role = QtGui.QPalette
        palette = role(QtGui.QColor("#353535" if dark else "#f0f0f0"))
        ground, text, base = ("#2b2b2b", "#eeeeee", "#1e1e1e") if dark else ("#efefef", "#101010", "#ffffff")
        for which, colour in (
            (role.Window, ground),
            (role.Base, base),
            (role.Button, ground),
            (role.WindowText, text),
            (role.Text, text),
            (role.ButtonText, text),
        ):
            palette.setColor(which, QtGui.QColor(colour))
        return palette


class Application:
    """`slicer.app`."""

    def __init__(self, logic: Any, folder: Path) -> None:
        self._logic = logic
        self.temporaryPath = str(folder)
        self.slicerUserSettingsFilePath = str(folder / "Slicer.ini")

    def applicationLogic(self) -> Any:
        return self._logic

    def processEvents(self) -> None:
        QtWidgets.QApplication.processEvents()


def add_slice_views(scene: Any) -> None:
    """The nodes of a layout with three slice views."""
    scene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name, orientation in VIEWS.items():
        view = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        view.SetLayoutName(name)
        view.SetOrientation(orientation)
        scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", name).SetLayoutName(name)


@contextmanager
def slicer_application(folder: Path, *, dark: bool = False) -> Iterator[Any]:
    """Slicer with an empty scene and a main window; the folder is where its settings lie. Everything is taken back at the end."""
    app = application()
    app.setPalette(Palettes.of(dark))
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logics = [logic, slicer.vtkSlicerMarkupsLogic(), slicer.vtkSlicerSegmentationsModuleLogic(), slicer.vtkSlicerVolumesLogic()]
    for each in logics:
        each.SetMRMLScene(scene)
    window = qt.QMainWindow()
    add_slice_views(scene)
    modules = SimpleNamespace(**{name: SimpleNamespace(logic=lambda at=at: logics[at]) for at, name in enumerate(MODULES, 1)})
    kept = _replace(scene, Application(logic, folder), modules, window)
    try:
        yield window
    finally:
        window.close()
        window.deleteLater()
        QtWidgets.QApplication.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
        for each in reversed(logics):
            each.SetMRMLScene(None)
        scene.Clear(True)
        for owner, name, value in kept:
            if value is None:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _replace(scene: Any, app: Application, modules: Any, window: Any) -> list[tuple[Any, str, Any]]:
    new = {
        slicer: {"mrmlScene": scene, "app": app, "modules": modules, "qMRMLSegmentEditorWidget": qMRMLSegmentEditorWidget},
        slicer.util: {"loadUI": load_ui, "childWidgetVariables": child_widget_variables, "mainWindow": lambda: window},
    }
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk
    sys.modules["slicer.ScriptedLoadableModule"] = scripted_module
    kept = []
    for owner, values in new.items():
        for name, value in values.items():
            kept.append((owner, name, getattr(owner, name, None)))
            setattr(owner, name, value)
    return kept


def child_widget_variables(widget: Any) -> Any:
    """As `slicer.util.childWidgetVariables`: every named child as an attribute."""
    found = types.SimpleNamespace()
    for child in widget.findChildren(QtCore.QObject):
        name = QtCore.QObject.property(child, "objectName")
        if name and not name.startswith("qt_"):
            setattr(found, name, child)
    return found
