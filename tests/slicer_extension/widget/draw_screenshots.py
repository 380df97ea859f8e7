"""Draws the README's pictures: `python -m tests.slicer_extension.widget.draw_screenshots FOLDER`.

A real server with virtual patients, the module in the stand-in's window, and beside it a plain drawing of what Slicer's views would show.
Nothing in them is a patient.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PySide6 import QtCore, QtWidgets

from tests.slicer_extension.widget import conftest  # noqa: F401  the stand-ins take their places
from tests.slicer_extension.widget.desk import Desk, desk
from tests.slicer_extension.widget.hospital import RunningHospital, box_around, largest_slice, make_hospital
from tests.slicer_extension.widget.slice_picture import SlicePicture

EXTENSION = Path(__file__).parents[3] / "slicer_extension" / "FedSCA"
WIDTH, HEIGHT = 1180, 1000


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        hospital = make_hospital(Path(place), size=(12, 160, 160), image_size="256", tune_steps="8")
        hospital.start()
        try:
            for case in hospital.drawn.split.val:
                hospital.save_truth(case)
            first_visit(hospital, Path(place, "light"), folder)
            second_visit(hospital, Path(place, "dark"), folder)
        finally:
            hospital.stop()


def first_visit(hospital: RunningHospital, settings: Path, folder: Path) -> None:
    """Light: before connecting, prompts and their mask, submit and tuning, the new version."""
    settings.mkdir()
    with desk(settings, EXTENSION) as bench:
        bench.spin(100)
        bench.area.grab().save(str(folder / "connect.png"))
        connect(bench, hospital)
        views = Views(bench)
        prompt(bench, hospital)
        bench.press("submitButton")
        bench.until(lambda: bench.state.status.tuning.running and bench.state.status.tuning.fraction, "the tuning")
        views.save(folder / "tuning.png")
        bench.until(lambda: bench.state.versions.active != "base", "the version", 300)
        bench.ui.versionsSection.setCollapsed(False)
        bench.ui.labelsCard.setVisible(False)  # the window is not high enough for everything
        bench.until(lambda: bench.ui.versionsTree.topLevelItemCount == 2, "the list")
        bench.area.ensureWidgetVisible(bench.ui.versionsSection)
        bench.widget.panel.versions.choose("base")
        views.save(folder / "versions.png")
        bench.ui.versionsSection.setCollapsed(True)
        bench.ui.labelsCard.setVisible(True)
        bench.annotator.dismiss_notice()
        first = bench.state.case
        bench.press("nextButton")
        bench.until(lambda: bench.state.case != first, "the next case")
        prompt(bench, hospital)
        bench.until(lambda: not bench.state.status.tuning.running, "the tuning's end")
        bench.area.verticalScrollBar().setValue(0)
        views.save(folder / "module.png")


def second_visit(hospital: RunningHospital, settings: Path, folder: Path) -> None:
    """Dark: two labels, one locked; and the server gone."""
    settings.mkdir()
    with desk(settings, EXTENSION, dark=True) as bench:
        connect(bench, hospital)
        views = Views(bench)
        prompt(bench, hospital)
        bench.ui.newLabelEdit.setText("cyst")
        bench.press("addLabelButton")
        bench.annotator.set_locked("lesion", True)
        bench.annotator.select_label("lesion")
        views.save(folder / "dark.png")
        hospital.kill()
        bench.annotator.refresh_cases()
        bench.until(lambda: bench.state.connection == "lost", "the loss")
        views.save(folder / "lost.png")
        hospital.start()


def connect(bench: Desk, hospital: RunningHospital) -> None:
    bench.ui.addressEdit.setText(hospital.address)
    bench.press("connectButton")
    bench.until(lambda: bench.state.connection == "on" and bench.state.cases and bench.state.versions, "the connection")
    bench.press("nextButton")
    bench.until(lambda: bench.canvas.volume_node is not None, "the case")


def prompt(bench: Desk, hospital: RunningHospital) -> None:
    """A box and a point."""
    truth = hospital.truth(bench.state.case)
    index = largest_slice(truth)
    bench.look_at("k", index)
    bench.key("B")
    bench.drag_box(*box_around(truth, index))
    bench.until(lambda: bench.canvas.slice_mask("lesion", "k", index).any(), "the mask")
    bench.key("P")
    row, column = np.argwhere(truth[index]).mean(axis=0).round().astype(int)
    bench.click_voxel(int(column), int(row), index)
    bench.until(lambda: bench.widget.logic.jobs.running(f"segment lesion k {index}") == 0, "the point's answer")


class Views:
    """The panel at the left, one large and two small slices at its right."""

    def __init__(self, bench: Desk) -> None:
        self._bench = bench
        whole = QtWidgets.QWidget()
        whole.setStyleSheet("background: #000000;")
        self._grid = QtWidgets.QGridLayout(whole)
        area = bench.window.takeCentralWidget()
        area.setFixedWidth(420)
        line = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(area)
        row.addWidget(whole, 1)
        bench.window.setCentralWidget(line)
        bench.window.resize(WIDTH, HEIGHT)

    def save(self, path: Path) -> None:
        """Draw the slices as they are now and save the window's picture."""
        bench = self._bench
        while self._grid.count():
            self._grid.takeAt(0).widget().deleteLater()
        axis, index = bench.state.axis, bench.state.index
        zooms = {"k": 2.1, "j": 1.15, "i": 1.15}
        size = bench.canvas.geometry().size_ijk
        for name, at in (("k", (0, 0, 1, 2)), ("j", (1, 0, 1, 1)), ("i", (1, 1, 1, 1))):
            shown = index if name == axis else size["ijk".index(name)] // 2
            self._grid.addWidget(self._picture(name, shown, zooms[name]), *at, QtCore.Qt.AlignCenter)
        for _ in range(10):
            bench.spin(30)
        bench.window.grab().save(str(path))

    def _picture(self, axis: str, index: int, zoom: float) -> SlicePicture:
        bench = self._bench
        picture = SlicePicture(bench.canvas.volume_node, axis, index, zoom)
        masks: dict[Any, Any] = {item.color: bench.canvas.slice_mask(item.name, axis, index) for item in bench.state.labels if item.visible}
        prompts = bench.annotator.prompts_on(axis, index)
        columns_rows = {"k": (0, 1), "j": (0, 2), "i": (1, 2)}[axis]
        points = [(point.ijk[columns_rows[0]], point.ijk[columns_rows[1]], point.positive) for point in prompts.points]
        picture.draw(masks, points, prompts.box)
        return picture


if __name__ == "__main__":
    main()
