"""The line that says what happened, or what to do next. Always in its place, so that little below it moves; never a window of its own."""

from __future__ import annotations

from typing import Any, Callable, Optional

from FedSCALib.qt_style import mark
from FedSCALib.translate import tr


class NoticeBar:
    """A notice with its action, or a quiet hint while there is none.

    Args:
        act: called with the notice's action when its button is pressed.
        dismiss: called when it is closed.
    """

    def __init__(self, ui: Any, act: Callable[[str], None], dismiss: Callable[[], None]) -> None:
        self._ui = ui
        self._action = ""
        ui.noticeAction.connect("clicked(bool)", lambda *_: act(self._action))
        ui.noticeClose.connect("clicked(bool)", lambda *_: dismiss())

    def show(self, state: Any, icons: Callable[[str], Any]) -> None:
        """Draw the state's notice or hint."""
        notice = state.notice
        kind = notice.kind if notice else "hint"
        ui = self._ui
        mark(ui.noticeBar, "kind", kind, ui.noticeText)
        ui.noticeIcon.setPixmap(icons("warning" if kind in ("warning", "error") else "info").pixmap(18, 18))
        ui.noticeText.setText(notice.text if notice else hint(state))
        self._action = notice.action if notice else "login" if state.connection == "login" else ""
        ui.noticeAction.setText(ACTIONS[self._action]() if self._action else "")
        ui.noticeAction.setVisible(bool(self._action))
        ui.noticeClose.setVisible(notice is not None)


ACTIONS: "dict[str, Callable[[], str]]" = {
    "retry": lambda: tr("Try again"),
    "accept": lambda: tr("Good"),
    "login": lambda: tr("Log in"),
    "draft": lambda: tr("Take it"),
    "next": lambda: tr("Next case"),
    "versions": lambda: tr("Versions"),
    "submit": lambda: tr("Submit again"),
    "submit_empty": lambda: tr("Submit empty"),
}


def hint(state: Any) -> str:
    """What a person would do next."""
    if state.connection in ("off", "connecting"):
        return tr("Type the address of your hospital's server and press Connect.")
    if state.connection == "lost":
        return tr("Your work stays here. It goes on when the server is back.")
    if state.connection == "login":
        return tr("The server asks who you are.")
    if not state.case:
        return tr("Press Next case, or open one from the work list.")
    return _tool_hint(state)


def _tool_hint(state: Any) -> str:
    label = state.label or tr("the label")
    beside = not state.polarity
    tool: Optional[str] = {
        "point": tr("Click in a slice on what is not {label}.") if beside else tr("Click in a slice on {label}."),
        "box": tr("Click two opposite corners around {label}."),
        "scribble": tr("Draw over what is not {label}.") if beside else tr("Draw roughly over {label}."),
        "paint": tr("Paint {label} by hand; other labels are protected."),
        "erase": tr("Erase {label} by hand."),
    }.get(state.tool)
    return (tool or tr("Choose a tool: P point, B box, S scribble.")).format(label=label)
