"""The open case, how the next one is chosen, under which tag its label is stored, and the work list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt

from FedSCALib.qt_style import mark
from FedSCALib.translate import tr


class CasePanel:
    """Buttons, combos and list that lead from case to case."""

    def __init__(self, ui: Any, annotator: Any) -> None:
        self._ui, self._annotator = ui, annotator
        self._listed: Any = None
        ui.nextButton.connect("clicked(bool)", lambda *_: annotator.next_case())
        ui.skipButton.connect("clicked(bool)", lambda *_: annotator.skip_case())
        ui.closeCaseButton.connect("clicked(bool)", lambda *_: annotator.close_case())
        ui.uploadButton.connect("clicked(bool)", lambda *_: self._choose_file())
        ui.strategyCombo.connect("activated(int)", lambda number: annotator.set_strategy(ui.strategyCombo.itemText(number)))
        ui.tagCombo.connect("editTextChanged(QString)", lambda text: annotator.set_tag(text.strip() or "final"))
        ui.worklistFilter.connect("textChanged(QString)", lambda *_: self._filter())
        ui.worklistTree.connect("itemDoubleClicked(QTreeWidgetItem*,int)", lambda item, _column: annotator.open_case(item.text(0)))
        ui.worklistOpen.connect("clicked(bool)", lambda *_: self._open_chosen())

    def show(self, state: Any) -> None:
        """Draw case, combos and list."""
        ui = self._ui
        on, there = state.connection == "on", bool(state.case)
        ui.caseName.setText(state.case or tr("No case open"))
        ui.caseDetail.setText(_detail(state))
        ui.closeCaseButton.setVisible(there)
        ui.nextButton.setEnabled(on)
        mark(ui.nextButton, "primary", "false" if there else "true")
        ui.skipButton.setEnabled(on and there)
        ui.uploadButton.setEnabled(on)
        _fill(ui.strategyCombo, state.strategies, state.strategy)
        _fill(ui.tagCombo, state.tags, state.tag)
        self._show_list(state.cases)

    def _show_list(self, cases: Any) -> None:
        if cases is self._listed or cases == self._listed:
            return
        self._listed = cases
        tree = self._ui.worklistTree
        tree.clear()
        for case in cases:
            item = qt.QTreeWidgetItem()
            item.setText(0, case.id)
            item.setText(1, ", ".join(case.tags) or "–")
            tree.addTopLevelItem(item)
        tree.resizeColumnToContents(0)
        labelled = sum(case.labelled for case in cases)
        title = tr("Work list · {labelled} of {total} labelled").format(labelled=labelled, total=len(cases)) if cases else tr("Work list")
        self._ui.worklistSection.setText(title)
        self._filter()

    def _filter(self) -> None:
        wanted = self._ui.worklistFilter.text.strip().casefold()
        tree = self._ui.worklistTree
        for number in range(tree.topLevelItemCount):
            item = tree.topLevelItem(number)
            item.setHidden(wanted not in f"{item.text(0)} {item.text(1)}".casefold())

    def _open_chosen(self) -> None:
        item = self._ui.worklistTree.currentItem()
        if item is not None:
            self._annotator.open_case(item.text(0))

    def _choose_file(self) -> None:
        chosen = qt.QFileDialog.getOpenFileName(
            self._ui.uploadButton, tr("Open a volume of my own"), "", tr("Images (*.nii.gz *.nii *.nrrd *.mha *.png *.jpg);;All files (*)")
        )
        path = chosen[0] if isinstance(chosen, tuple) else chosen  # PythonQt returns the path alone
        if path:
            self._annotator.upload(Path(path))


def _detail(state: Any) -> str:
    if not state.case:
        return tr("{count} cases on the server").format(count=len(state.cases)) if state.cases else ""
    case = next((item for item in state.cases if item.id == state.case), None)
    parts = [tr("review, without the model")] if state.review else []
    parts.append(tr("labels: {tags}").format(tags=", ".join(case.tags)) if case and case.tags else tr("not labelled yet"))
    if state.unsaved:
        parts.append(tr("not submitted"))
    return " · ".join(parts)


def _fill(combo: Any, texts: Any, chosen: str) -> None:
    """Give a combo its entries and choice, without telling anybody, and only where something differs."""
    if [combo.itemText(number) for number in range(combo.count)] != list(texts):
        blocked = combo.blockSignals(True)
        combo.clear()
        combo.addItems(list(texts))
        combo.blockSignals(blocked)
    if combo.currentText != chosen and not (combo.editable and combo.hasFocus()):
        blocked = combo.blockSignals(True)
        number = combo.findText(chosen)
        combo.setCurrentIndex(number)
        if number < 0 and combo.editable:
            combo.setEditText(chosen)
        combo.blockSignals(blocked)
