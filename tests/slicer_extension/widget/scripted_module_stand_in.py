"""A stand-in for `slicer.ScriptedLoadableModule`: the four base classes with what a scripted module relies on."""

from __future__ import annotations

import types
import unittest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6 import QtWidgets

from .pythonqt_stand_in import qt


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = parent.helpText = parent.acknowledgementText = ""
        parent.categories, parent.dependencies, parent.contributors = [], [], []

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)

    def getDefaultModuleDocumentationLink(self) -> str:
        return ""


class ScriptedLoadableModuleWidget:
    """With a `parent`: a widget with a layout, as the module panel gives it."""

    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = QtWidgets.QWidget.layout(parent)
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.path = ""

    def resourcePath(self, name: str) -> str:
        return str(Path(self.path).parent / "Resources" / name)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        import slicer

        for number in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")):
            node = slicer.mrmlScene.GetNthNodeByClass(number, "vtkMRMLScriptedModuleNode")
            if node.GetAttribute("ModuleName") == self.moduleName:
                return node
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    messageDelay = 0

    def runTest(self) -> None:
        pass

    def delayDisplay(self, message: str, *args: Any, **kwargs: Any) -> None:
        pass


scripted_module = types.ModuleType("slicer.ScriptedLoadableModule")
for _cls in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest):
    setattr(scripted_module, _cls.__name__, _cls)
scripted_module.__all__ = [  # type: ignore[attr-defined]
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


def module_parent(path: Path) -> SimpleNamespace:
    """What Slicer's module factory gives the module class: an object that takes any attribute."""
    return SimpleNamespace(path=str(path), icon=None)


def panel(window: Any) -> tuple[Any, Any]:
    """Slicer's module panel: a scroll area in a dock of the main window; returns it and the widget that the module fills."""
    area = qt.QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QtWidgets.QFrame.NoFrame)
    inner = qt.QWidget()
    layout = qt.QVBoxLayout(inner)
    layout.setContentsMargins(0, 0, 0, 0)
    area.setWidget(inner)
    return area, inner
