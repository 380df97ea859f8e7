"""The top of the panel: which server, base and version, what tuning does, which round came last. One glance, no clicks."""

from __future__ import annotations

from typing import Any

from FedSCALib import facts
from FedSCALib.qt_style import mark
from FedSCALib.translate import tr


class Header:
    """Shows a state's connection and the server's status."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui

    def show(self, state: Any) -> None:
        """Draw it as the state says."""
        mark(self._ui.connectionDot, "state", state.connection)
        self._ui.siteLabel.setText(_title(state))
        who = f"{state.user} · " if state.user else ""
        self._ui.addressLabel.setText(who + state.address if state.address else "")
        status = state.status
        for name, fact in (
            ("base", facts.base_fact(status) if status else None),
            ("version", facts.version_fact(status, state.versions) if status else None),
            ("tuning", facts.tuning_fact(status.tuning) if status else None),
            ("round", facts.round_fact(status.last_round, status.next_round) if status else None),
        ):
            value = getattr(self._ui, f"{name}Value")
            value.setText(fact.text if fact else "–")
            getattr(self._ui, f"{name}Fact").setToolTip(fact.detail if fact else "")
        running = status.tuning.fraction if status else None
        self._ui.tuningBar.setValue(round(1000 * running) if running is not None else 0)


def _title(state: Any) -> str:
    site = state.status.site if state.status else ""
    return {
        "off": tr("Not connected"),
        "connecting": tr("Connecting…"),
        "login": tr("Login needed"),
        "on": site,
        "lost": tr("{site}: reconnecting…").format(site=site or tr("Server")),
    }[state.connection]
