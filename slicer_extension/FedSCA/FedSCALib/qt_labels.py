"""The case's labels: which one is worked on, which are locked, which are shown."""

from __future__ import annotations

from typing import Any, Callable

import qt

from FedSCALib.translate import tr

NAME, VALUE, LOCK, SHOWN = range(4)
ROW_PIXELS, LEAST_ROWS, MOST_ROWS = 25, 3, 7


class LabelList:
    """A row for each label; a click on a row works on it, a click on the lock or the eye turns that over."""

    def __init__(self, ui: Any, annotator: Any) -> None:
        self._ui, self._annotator = ui, annotator
        self._drawn: Any = None
        tree = ui.labelTree
        header = tree.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(NAME, qt.QHeaderView.Stretch)
        for column, width in ((VALUE, 34), (LOCK, 30), (SHOWN, 30)):
            header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
            tree.setColumnWidth(column, width)
        tree.connect("itemClicked(QTreeWidgetItem*,int)", self._clicked)
        ui.addLabelButton.connect("clicked(bool)", lambda *_: self._add())
        ui.newLabelEdit.connect("returnPressed()", self._add)

    def show(self, state: Any, icons: Callable[[str], Any], palette: str) -> None:
        """Draw the labels and the chosen one. `palette` names the icons' kind, so that another one draws them anew."""
        drawn = (state.labels, state.label, palette)
        self._ui.newLabelEdit.setEnabled(bool(state.case))
        self._ui.addLabelButton.setEnabled(bool(state.case))
        if drawn == self._drawn:
            return
        self._drawn = drawn
        tree = self._ui.labelTree
        tree.clear()
        tree.setFixedHeight(ROW_PIXELS * min(max(len(state.labels), LEAST_ROWS), MOST_ROWS) + 6)
        for segment in state.labels:
            item = qt.QTreeWidgetItem()
            item.setText(NAME, segment.name)
            item.setIcon(NAME, _swatch(segment.color))
            item.setText(VALUE, str(segment.value))
            item.setIcon(LOCK, icons("locked" if segment.locked else "unlocked"))
            item.setToolTip(LOCK, tr("Locked: nothing changes it") if segment.locked else tr("Lock: nothing may change it"))
            item.setIcon(SHOWN, icons("visible" if segment.visible else "hidden"))
            item.setToolTip(SHOWN, tr("Show or hide (V)"))
            tree.addTopLevelItem(item)
            if segment.name == state.label:
                tree.setCurrentItem(item)

    def _clicked(self, item: Any, column: int) -> None:
        name = item.text(NAME)
        segment = next((found for found in self._annotator.state.labels if found.name == name), None)
        if segment is None:
            return
        if column == LOCK:
            self._annotator.set_locked(name, not segment.locked)
        elif column == SHOWN:
            self._annotator.set_visible(name, not segment.visible)
        else:
            self._annotator.select_label(name)

    def _add(self) -> None:
        name = self._ui.newLabelEdit.text.strip()
        if name:
            self._annotator.add_label(name)
            self._ui.newLabelEdit.setText("")


def _swatch(color: Any) -> Any:
    pixmap = qt.QPixmap(14, 14)
    red, green, blue = (round(255 * part) for part in color)
    pixmap.fill(qt.QColor(red, green, blue))
    return qt.QIcon(pixmap)
