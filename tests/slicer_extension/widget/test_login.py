"""The login dialog, and work that goes on after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from FedSCALib.client import Client
from FedSCALib.errors import LoginNeeded
from PySide6 import QtCore, QtTest, QtWidgets

from tests.slicer_extension.lib.scripted_server import ScriptedServer

from .desk import Desk, desk

EXTENSION = Path(__file__).parents[3] / "slicer_extension" / "FedSCA"


@pytest.fixture
def server(tmp_path: Path) -> ScriptedServer:
    return ScriptedServer(tmp_path)


@pytest.fixture
def bench(tmp_path: Path, server: ScriptedServer) -> Iterator[Desk]:
    with desk(tmp_path, EXTENSION) as made:
        made.annotator._connection._make = lambda _address, _authority: Client(server)
        made.ui.addressEdit.setText("hospital")
        made.press("connectButton")
        made.until(lambda: made.state.connection == "on" and made.state.cases, "the connection")
        yield made


class Person:
    """Answers the login dialogs that come, one after the other.

    Attributes:
        seen: the sentences of each dialog.
    """

    def __init__(self, server: ScriptedServer, passwords: list[str]) -> None:
        self.seen: list[list[str]] = []
        self._server, self._passwords = server, passwords
        self._watch = QtCore.QTimer()
        self._watch.timeout.connect(self._look)
        self._watch.start(10)

    def _look(self) -> None:
        shown = QtWidgets.QApplication.activeModalWidget()
        if not isinstance(shown, QtWidgets.QDialog) or not self._passwords:
            return
        self._server.broken = None  # the address that checks passwords answers
        self.seen.append([label.text for label in shown.findChildren(QtWidgets.QLabel)])
        user, password = shown.findChildren(QtWidgets.QLineEdit)
        user.setText("ann")
        password.setText(self._passwords.pop(0))
        QtTest.QTest.mouseClick(shown.findChild(QtWidgets.QDialogButtonBox).button(QtWidgets.QDialogButtonBox.Ok), QtCore.Qt.LeftButton)


def test_a_server_that_asks_is_answered_and_work_goes_on(bench: Desk, server: ScriptedServer) -> None:
    bench.press("nextButton")
    bench.until(lambda: bench.state.case, "the case")
    person = Person(server, ["wrong", "right"])
    server.broken = LoginNeeded(401, "The token has expired: log in again.")
    bench.annotator.add_point((8, 7, 3), "k")
    bench.until(lambda: len(person.seen) == 2 and bench.state.connection == "on", "the login")
    first, second = (" ".join(texts) for texts in person.seen)
    assert "http://hospital" in first
    assert "not encrypted" in first
    assert "not right" in second
    assert (bench.state.user, bench.ui.addressLabel.text) == ("ann", "ann · http://hospital")
    bench.until(lambda: bench.canvas.slice_mask("tumour", "k", 3).any(), "the click that waited for the login")


def test_a_closed_dialog_leaves_a_button_to_log_in_later(bench: Desk, server: ScriptedServer) -> None:
    asked: list[int] = []
    bench.widget.panel._ask_login = lambda *_: asked.append(1)
    server.broken = LoginNeeded(401, "Log in first.")
    bench.annotator.refresh_cases()
    bench.until(lambda: asked, "the dialog")
    bench.spin(50)
    assert asked == [1], "it comes once"
    assert bench.state.connection == "login"
    assert bench.ui.noticeAction.text == "Log in"
    bench.press("noticeAction")
    assert asked == [1, 1]
