"""Address, certificate, Test and Connect. Open until there is a connection, then behind the button at the top."""

from __future__ import annotations

from typing import Any

from FedSCALib.translate import tr


class ConnectionPanel:
    """Tells the annotator where the server is."""

    def __init__(self, ui: Any, annotator: Any) -> None:
        self._ui, self._annotator = ui, annotator
        self._opened = True
        self._was = ""
        ui.connectButton.connect("clicked(bool)", lambda *_: self._connect())
        ui.testButton.connect("clicked(bool)", lambda *_: self._test())
        ui.addressEdit.connect("returnPressed()", self._connect)
        ui.connectionToggle.connect("clicked(bool)", lambda *_: self._toggle())

    def show(self, state: Any) -> None:
        """Draw it; it closes by itself when a connection stands, and opens when there is none."""
        ui = self._ui
        if state.connection != self._was:
            if state.connection in ("on", "off"):
                self._opened = state.connection == "off"
            self._was = state.connection
            if not ui.addressEdit.text and state.address:
                ui.addressEdit.setText(state.address)
        ui.connectionCard.setVisible(self._opened)
        joined = state.connection in ("on", "lost", "login")
        ui.connectButton.setText(tr("Disconnect") if joined else tr("Connect"))
        ui.connectButton.setEnabled(state.connection != "connecting")

    def _toggle(self) -> None:
        self._opened = not self._opened
        self._ui.connectionCard.setVisible(self._opened)

    def _connect(self) -> None:
        if self._annotator.state.connection in ("on", "lost", "login"):
            self._annotator.disconnect()
            return
        self._annotator.connect(self._ui.addressEdit.text, self._ui.caPath.currentPath or None)

    def _test(self) -> None:
        self._annotator.test_connection(self._ui.addressEdit.text, self._ui.caPath.currentPath or None)
