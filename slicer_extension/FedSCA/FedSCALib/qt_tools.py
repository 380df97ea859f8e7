"""The tools, their polarity and mode, what can be done with a slice, and the line that says what runs."""

from __future__ import annotations

from typing import Any

from FedSCALib.qt_style import mark
from FedSCALib.translate import tr

TOOLS = ("point", "box", "scribble", "paint", "erase")
BY_HAND = ("paint", "erase")
MODES = ("replace", "add", "subtract")


class ToolPanel:
    """Big buttons; each shows its key.

    Args:
        hands: what the mouse does; where it has no brush (no Segment Editor), paint and erase are off.
    """

    def __init__(self, ui: Any, annotator: Any, hands: Any) -> None:
        self._ui, self._annotator, self._hands = ui, annotator, hands
        for tool in TOOLS:
            getattr(ui, f"{tool}Tool").connect("clicked(bool)", lambda on, tool=tool: self._tool(tool, on))
        ui.includeButton.connect("clicked(bool)", lambda *_: annotator.set_polarity(True))
        ui.excludeButton.connect("clicked(bool)", lambda *_: annotator.set_polarity(False))
        for mode in MODES:
            getattr(ui, f"{mode}Button").connect("clicked(bool)", lambda _on, mode=mode: self._mode(mode))
        for button, action in (
            (ui.undoButton, hands.undo),
            (ui.redoButton, hands.redo),
            (ui.resetButton, annotator.reset_prompts),
            (ui.autoButton, lambda: annotator.automatic(annotator.state.axis, annotator.state.index)),
            (ui.propagateButton, annotator.propagate),
            (ui.volumeButton, annotator.segment_volume),
            (ui.cancelButton, annotator.cancel),
        ):
            button.connect("clicked(bool)", lambda _on, action=action: action())

    def show(self, state: Any) -> None:
        """Draw what is chosen, what is possible and what runs."""
        ui = self._ui
        there = bool(state.case)
        asks = there and not state.review and state.connection in ("on", "lost", "login")
        for tool in TOOLS:
            button = getattr(ui, f"{tool}Tool")
            possible = there if tool in BY_HAND else asks
            button.setEnabled(possible and (self._hands.by_hand or tool not in BY_HAND))
            button.setChecked(state.tool == tool)
        signed = asks and state.tool in ("point", "scribble")
        for button, chosen in ((ui.includeButton, state.polarity), (ui.excludeButton, not state.polarity)):
            button.setEnabled(signed)
            button.setChecked(chosen)
        for mode in MODES:
            getattr(ui, f"{mode}Button").setChecked(state.mode == mode)
            getattr(ui, f"{mode}Button").setEnabled(asks)
        painting = state.tool in BY_HAND
        ui.undoButton.setEnabled(state.can_undo or painting)
        ui.redoButton.setEnabled(state.can_redo or painting)
        for button in (ui.resetButton, ui.autoButton, ui.volumeButton):
            button.setEnabled(asks)
        ui.propagateButton.setEnabled(asks and state.can_propagate)
        self._show_activity(state)

    def _show_activity(self, state: Any) -> None:
        ui = self._ui
        busy = bool(state.busy)
        mark(ui.activityStrip, "busy", "true" if busy else "false", ui.activityText)
        ui.activityText.setText(state.busy if busy else tr("Ready") if state.connection == "on" else "")
        ui.cancelButton.setVisible(busy)
        ui.activityBar.setVisible(busy)
        ui.activityBar.setMaximum(0 if state.progress is None else 1000)
        if state.progress is not None:
            ui.activityBar.setValue(round(1000 * state.progress))

    def _tool(self, tool: str, on: bool) -> None:
        """A click on the tool in the hand puts it away."""
        self._annotator.set_tool(tool if on else "none")
        self._hands.again()

    def _mode(self, mode: str) -> None:
        self._annotator.set_mode(mode)
        self.show(self._annotator.state)  # a click on the chosen mode would leave its button up
