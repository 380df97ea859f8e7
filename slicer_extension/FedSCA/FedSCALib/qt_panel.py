"""The module's panel as one object: every part drawn from the annotator's state, every click and key passed on to the annotator.

Main thread only. The timer delivers what worker threads have found (`Annotator.deliver`), so that nothing else ever waits for the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Optional

import qt

from FedSCALib.qt_case import CasePanel
from FedSCALib.qt_connection import ConnectionPanel
from FedSCALib.qt_header import Header
from FedSCALib.qt_keys import Keys, help_text
from FedSCALib.qt_labels import LabelList
from FedSCALib.qt_login import LoginDialog
from FedSCALib.qt_notice import NoticeBar
from FedSCALib.qt_style import Icons, is_dark, sheet
from FedSCALib.qt_submit import SubmitButton
from FedSCALib.qt_tools import TOOLS, ToolPanel
from FedSCALib.qt_versions import VersionList

TICK_MS = 30
BUTTON_ICONS = ("undo", "redo", "reset", "auto", "propagate", "volume", "include", "exclude", "submit")


class Panel:
    """Everything in the .ui file.

    Args:
        ui: its widgets as attributes.
        root: the widget that holds them.
        icons: the folder of the icons.
        window: the main window, which the keys belong to.
        hands: what the mouse does in the slice views.
        ask_login: asks for name and password; a dialog by default.
    """

    def __init__(
        self,
        ui: Any,
        root: Any,
        annotator: Any,
        icons: Path,
        window: Any,
        hands: Any,
        ask_login: Optional[Callable[[str, str, str], Any]] = None,
    ) -> None:
        self.ui, self.root, self.annotator = ui, root, annotator
        self._folder, self._window, self._hands = icons, window, hands
        self._dark: Optional[bool] = None
        self._ask_login = ask_login or (lambda address, user, problem: LoginDialog(window, address, user, problem).ask())
        self._asking = False
        self._shown = annotator.state
        self.header = Header(ui)
        self.notice = NoticeBar(ui, self._act, annotator.dismiss_notice)
        self.connection = ConnectionPanel(ui, annotator)
        self.case = CasePanel(ui, annotator)
        self.labels = LabelList(ui, annotator)
        self.tools = ToolPanel(ui, annotator, hands)
        self.submit = SubmitButton(ui, annotator)
        self.versions = VersionList(ui, annotator)
        self.keys = Keys(window, self._key_actions())
        ui.keysHelp.setText(help_text())
        ui.reviewCheck.connect("toggled(bool)", lambda on: annotator.set_review(on))
        self._timer = qt.QTimer(root)
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self.tick)
        annotator.changed.connect(self.show)
        self.show()

    def start(self) -> None:
        """Begin to deliver answers."""
        self._timer.start()

    def close(self) -> None:
        """Stop the timer and give the keys back."""
        self._timer.stop()
        self.annotator.changed.disconnect(self.show)
        self.keys.remove()

    def tick(self) -> None:
        """What happens every 30 ms."""
        self.annotator.deliver()
        if is_dark(self._window or self.root) != self._dark:
            self.show()

    def show(self, *_: Any) -> None:
        """Draw the annotator's state."""
        state = self.annotator.state
        self._follow_palette()
        self.header.show(state)
        self.notice.show(state, self.icons)
        self.connection.show(state)
        self.case.show(state)
        self.labels.show(state, self.icons, "dark" if self._dark else "light")
        self.tools.show(state)
        self.submit.show(state)
        self.versions.show(state)
        if self.ui.reviewCheck.checked != state.review:
            self.ui.reviewCheck.setChecked(state.review)
        before, self._shown = self._shown, state
        if state.connection == "login" and (before.connection != "login" or (_refused(state) and state.notice is not before.notice)):
            qt.QTimer.singleShot(0, self.login)
        if before.submitting and not state.submitting and not state.unsaved and state.case and self.ui.nextAfterSubmit.checked:
            qt.QTimer.singleShot(0, self.annotator.next_case)

    def _follow_palette(self) -> None:
        dark = is_dark(self._window or self.root)
        if dark == self._dark:
            return
        self._dark = dark
        self.icons = Icons(self._folder, dark)
        self.root.setStyleSheet(sheet(dark, self._folder))
        for tool in TOOLS:
            getattr(self.ui, f"{tool}Tool").setIcon(self.icons(tool))
        for name in BUTTON_ICONS:
            getattr(self.ui, f"{name}Button").setIcon(self.icons(name))
        self.ui.connectionToggle.setIcon(self.icons("server"))
        self.ui.closeCaseButton.setIcon(self.icons("close"))

    def login(self) -> None:
        """Ask who it is; the dialog is the only window that has to be answered."""
        state = self.annotator.state
        if self._asking or state.connection != "login":
            return
        self._asking = True
        answer = self._ask_login(state.address, state.user, state.notice.text if _refused(state) else "")
        self._asking = False
        if answer is not None:
            self.annotator.login(*answer)

    def _act(self, action: str) -> None:
        """A notice's button."""
        if action == "login":
            self.login()
        elif action == "versions":
            self.ui.versionsSection.setCollapsed(False)
        else:
            self.annotator.act(action)

    def _take_tool(self, name: str) -> Callable[[], None]:
        def take() -> None:
            if getattr(self.ui, f"{name}Tool").enabled:
                self.annotator.set_tool(name)
                self._hands.again()

        return take

    def _escape(self) -> None:
        """Esc: end what runs; where nothing runs, put the tool away."""
        if self.annotator.state.busy:
            self.annotator.cancel()
        else:
            self.annotator.set_tool("none")
            self.annotator.cancel()

    def _key_actions(self) -> "dict[str, Callable[[], None]]":
        annotator, ui = self.annotator, self.ui
        actions = {name: self._take_tool(name) for name in TOOLS}
        actions.update(
            polarity=annotator.toggle_polarity,
            next_label=annotator.next_label,
            reset=annotator.reset_prompts,
            visibility=annotator.toggle_visible,
            automatic=ui.autoButton.click,
            propagate=ui.propagateButton.click,
            undo=self._hands.undo,
            redo=self._hands.redo,
            cancel=self._escape,
            submit=ui.submitButton.click,
            next_case=ui.nextButton.click,
        )
        return actions


def _refused(state: Any) -> bool:
    """Whether the notice says that a login was refused."""
    return state.notice is not None and state.notice.action == "login"
