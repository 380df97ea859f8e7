"""A radiologist at Slicer, as a test: the staged module in the stand-in's main window, clicks on its buttons and in its slice views."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtTest, QtWidgets

from .scripted_module_stand_in import module_parent, panel
from .slice_picture import end_placing, place
from .slicer_stand_in import slicer_application

SECONDS = 90.0


class Desk:
    """The module in its panel.

    Attributes:
        module: the loaded FedSCA.py; widget: its widget after `setup()`.
        errors: what was raised inside of Qt's callbacks, which Qt itself would only print.
    """

    def __init__(self, window: Any, module: ModuleType, path: Path, errors: list[BaseException]) -> None:
        self.window, self.module, self.errors = window, module, errors
        self.area, inner = panel(window)
        window.setCentralWidget(self.area)
        self.parent = module_parent(path)
        module.FedSCA(self.parent)
        self.widget = module.FedSCAWidget(inner)
        self.widget.path = str(path)
        self.widget.setup()
        self.widget.enter()
        window.resize(430, 1000)
        window.show()
        self.spin()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def annotator(self) -> Any:
        return self.widget.logic.annotator

    @property
    def state(self) -> Any:
        return self.annotator.state

    @property
    def canvas(self) -> Any:
        return self.widget.logic.canvas

    def spin(self, milliseconds: int = 5) -> None:
        """Let Qt work off what has come in."""
        QtWidgets.QApplication.processEvents(QtCore.QEventLoop.AllEvents, milliseconds)
        if self.errors:
            raise self.errors[0]

    def until(self, condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
        """Spin until something is so; Qt waits for its own events in between."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"Waited {seconds:g} s for {what}; the notice is {self.ui.noticeText.text!r}, the state {self.state}")
            QtWidgets.QApplication.processEvents(QtCore.QEventLoop.AllEvents | QtCore.QEventLoop.WaitForMoreEvents, 50)
            self.spin()
        return found

    def press(self, button: str) -> None:
        """A click on a button of the panel, which must be enabled."""
        found = getattr(self.ui, button)
        assert found.enabled, f"{button} is off"
        QtTest.QTest.mouseClick(found, QtCore.Qt.LeftButton)
        self.spin()

    def key(self, keys: str) -> None:
        """A key in the main window."""
        QtTest.QTest.keySequence(self.window, QtGui.QKeySequence(keys))
        self.spin()

    def click_voxel(self, i: int, j: int, k: int) -> None:
        """A click in the slice view that shows this voxel."""
        self._click((i, j, k))

    def drag_box(self, first: tuple[int, int, int], second: tuple[int, int, int]) -> None:
        """Two clicks on opposite corners."""
        for voxel in (first, second):
            self._click(voxel)

    def stroke(self, voxels: list[tuple[int, int, int]]) -> None:
        """A freehand line through these voxels, the button let go at the end."""
        for voxel in voxels:
            self._click(voxel)
        end_placing(slicer.mrmlScene)
        self.spin()

    def click_label(self, name: str, column: int) -> None:
        """A click on a label's row: 0 name, 2 lock, 3 eye."""
        tree = self.ui.labelTree
        item = next(tree.topLevelItem(row) for row in range(tree.topLevelItemCount) if tree.topLevelItem(row).text(0) == name)
        where = tree.visualItemRect(item)
        x = tree.columnViewportPosition(column) + tree.columnWidth(column) // 2
        QtTest.QTest.mouseClick(tree.viewport(), QtCore.Qt.LeftButton, pos=QtCore.QPoint(x, where.center().y()))
        self.spin()

    def look_at(self, axis: str, index: int) -> None:
        """Scroll the view of this axis to a slice."""
        from FedSCALib.mrml_scene import show_slice

        show_slice(self._view(axis), self.canvas.volume_node, index)
        self.spin()

    def _view(self, axis: str) -> Any:
        """The slice node that shows slices of this axis."""
        from FedSCALib.mrml_scene import slice_in_view, slice_nodes

        return next(node for node in slice_nodes(slicer.mrmlScene) if slice_in_view(node, self.canvas.volume_node)[0] == axis)

    def _click(self, voxel: tuple[int, int, int]) -> None:
        ras = self.canvas.geometry().ijk_to_ras @ [*voxel, 1.0]
        place(slicer.mrmlScene, tuple(float(part) for part in ras[:3]), self._view("k"))
        self.spin()


@contextmanager
def desk(folder: Path, extension: Path, *, dark: bool = False) -> Iterator[Desk]:
    """Slicer with the module of an extension folder (the source tree's, or a staged one); `folder` holds settings and drafts."""
    path = extension / "FedSCA.py"
    errors: list[BaseException] = []
    hook = sys.excepthook
    sys.excepthook = lambda _kind, error, _trace: errors.append(error)
    made: Desk | None = None
    try:
        with slicer_application(folder, dark=dark) as window:
            module = load(path)
            made = Desk(window, module, path, errors)
            try:
                yield made
            finally:
                made.widget.exit()
                made.widget.cleanup()
                made.spin()
    finally:
        sys.excepthook = hook
    if errors:
        raise errors[0]


def load(path: Path) -> ModuleType:
    """FedSCA.py as Slicer loads it: by path, its own folder on the import path."""
    spec = importlib.util.spec_from_file_location("FedSCA", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module
