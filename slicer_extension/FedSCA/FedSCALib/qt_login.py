"""The login dialog: the only window of the module that has to be answered."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import qt

from FedSCALib.translate import tr


class LoginDialog:
    """Asks for name and password. Made in code, so that there is no second file an installation could lack.

    The password is kept nowhere: it leaves this object once, to the caller.
    """

    def __init__(self, parent: Any, address: str, user: str = "", problem: str = "") -> None:
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle(tr("Log in"))
        layout = qt.QFormLayout(self.dialog)
        layout.setContentsMargins(16, 16, 16, 16)
        where = qt.QLabel(tr("The server {address} asks who you are.").format(address=address))
        where.setWordWrap(True)
        layout.addRow(where)
        self.user = qt.QLineEdit(user)
        self.password = qt.QLineEdit()
        self.password.setEchoMode(qt.QLineEdit.Password)
        layout.addRow(tr("Name"), self.user)
        layout.addRow(tr("Password"), self.password)
        if problem:
            shown = qt.QLabel(problem)
            shown.setWordWrap(True)
            shown.setStyleSheet("color: #c02626;")
            layout.addRow(shown)
        if not address.startswith("https://"):
            plain = qt.QLabel(
                tr("The connection is not encrypted (http): the password can be read on the way, unless the server is this computer.")
            )
            plain.setWordWrap(True)
            layout.addRow(plain)
        self.buttons = qt.QDialogButtonBox(qt.QDialogButtonBox.Ok | qt.QDialogButtonBox.Cancel)
        self.buttons.button(qt.QDialogButtonBox.Ok).setText(tr("Log in"))
        self.buttons.connect("accepted()", self.dialog.accept)
        self.buttons.connect("rejected()", self.dialog.reject)
        layout.addRow(self.buttons)
        (self.password if user else self.user).setFocus()

    def ask(self) -> Optional[Tuple[str, str]]:
        """Name and password, or None when the dialog was closed."""
        accepted = self.dialog.exec_() == qt.QDialog.Accepted
        answer = (self.user.text.strip(), self.password.text) if accepted else None
        self.password.setText("")
        self.dialog.deleteLater()
        return answer if answer and answer[0] else None
