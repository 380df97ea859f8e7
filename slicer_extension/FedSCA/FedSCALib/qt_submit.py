"""The one button that sends work away, and what became of it."""

from __future__ import annotations

from typing import Any

from FedSCALib.translate import tr


class SubmitButton:
    """Says what it will do: which tag, of which case."""

    def __init__(self, ui: Any, annotator: Any) -> None:
        self._ui = ui
        ui.submitButton.connect("clicked(bool)", lambda *_: annotator.submit())

    def show(self, state: Any) -> None:
        """Draw it."""
        ui = self._ui
        ready = bool(state.case) and state.connection == "on" and not state.submitting
        ui.submitButton.setEnabled(ready)
        ui.submitButton.setText(tr("Submit as “{tag}”").format(tag=state.tag) if state.case else tr("Submit"))
        if not state.case:
            text = ""
        elif state.submitting:
            text = tr("sending…")
        elif state.connection != "on":
            text = tr("kept on this computer")
        else:
            text = tr("not submitted yet") if state.unsaved else ""
        ui.submitState.setText(text)
