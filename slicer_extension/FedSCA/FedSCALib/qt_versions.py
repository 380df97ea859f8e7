"""The list of model versions: where each came from, what it was measured to do, and the way back to an earlier one."""

from __future__ import annotations

from typing import Any

import qt

from FedSCALib import facts
from FedSCALib.translate import tr


class VersionList:
    """Newest first; the active one is marked."""

    def __init__(self, ui: Any, annotator: Any) -> None:
        self._ui, self._annotator = ui, annotator
        self._rows: Any = None
        ui.versionsTree.connect("itemSelectionChanged()", self._chosen)
        ui.activateButton.connect("clicked(bool)", lambda *_: self._activate())
        ui.versionsSection.connect("contentsCollapsed(bool)", lambda closed: None if closed else annotator.refresh_versions())
        ui.activateButton.setEnabled(False)

    def show(self, state: Any) -> None:
        """Draw the state's versions."""
        rows = facts.version_rows(state.versions) if state.versions else []
        if rows == self._rows:
            return
        self._rows = rows
        tree = self._ui.versionsTree
        chosen = self._id()
        tree.clear()
        for row in rows:
            item = qt.QTreeWidgetItem()
            for column, text in enumerate(((f"● {row.name}" if row.active else f"   {row.name}"), row.origin, row.dice)):
                item.setText(column, text)
                item.setToolTip(column, row.detail)
            tree.addTopLevelItem(item)
            if row.id == chosen:
                tree.setCurrentItem(item)
        for column in range(3):
            tree.resizeColumnToContents(column)
        self._chosen()

    def choose(self, version: str) -> None:
        """Select a version, as a click on its row does."""
        number = [row.id for row in self._rows].index(version)
        self._ui.versionsTree.setCurrentItem(self._ui.versionsTree.topLevelItem(number))

    def _row(self) -> Any:
        tree = self._ui.versionsTree
        item = tree.currentItem()
        number = tree.indexOfTopLevelItem(item) if item is not None else -1
        return self._rows[number] if self._rows and 0 <= number < len(self._rows) else None

    def _id(self) -> str:
        row = self._row() if self._ui.versionsTree.topLevelItemCount else None
        return row.id if row else ""

    def _chosen(self) -> None:
        row = self._row()
        use = row.use if row is not None else ""
        self._ui.activateButton.setEnabled(bool(use))
        self._ui.activateButton.setText(use or tr("Use this version"))
        self._ui.versionDetail.setText(row.detail if row else "")

    def _activate(self) -> None:
        row = self._row()
        if row is not None:
            self._annotator.activate(row.id, self._ui.rollbackReason.text.strip())
            self._ui.rollbackReason.setText("")
