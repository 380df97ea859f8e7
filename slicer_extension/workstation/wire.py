"""What travels between page and workstation beside trame's own state: pictures of the views out, gestures in views and actions in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wslink import register
from wslink.websocket import LinkProtocol

from workstation.once import Once

FRAMES = "fedsca.frames"


class Wire(LinkProtocol):  # type: ignore[misc]
    """The page's calls.

    Args:
        gesture: view's name, kind, and its values; see `gestures.py`.
        act: name of an action and its values; see `actions.py`.
        shown: view's name and number of a picture that is on the screen now.

    Gestures and actions come with a ticket, the page's name and the call's number: after a cut the page sends again what was not answered.
    """

    def __init__(
        self, gesture: Callable[[str, str, list[Any]], None], act: Callable[[str, list[Any]], None], shown: Callable[[str, int], None]
    ) -> None:
        super().__init__()
        self._gesture, self._act, self._shown = gesture, act, shown
        self._once = Once()

    @register("fedsca.gesture")  # type: ignore[untyped-decorator]
    def gesture(self, view: str, kind: str, values: list[Any], ticket: list[Any]) -> None:
        """Something was done in a view."""
        if self._once.is_new(str(ticket[0]), int(ticket[1])):
            self._gesture(str(view), str(kind), list(values))

    @register("fedsca.act")  # type: ignore[untyped-decorator]
    def act(self, name: str, values: list[Any], ticket: list[Any]) -> None:
        """A button or key."""
        if self._once.is_new(str(ticket[0]), int(ticket[1])):
            self._act(str(name), list(values))

    @register("fedsca.alive")  # type: ignore[untyped-decorator]
    def alive(self) -> None:
        """Nothing: the answer itself says that the connection is whole."""

    @register("fedsca.shown")  # type: ignore[untyped-decorator]
    def shown(self, view: str, number: int) -> None:
        """A picture is on the screen: the next may come."""
        self._shown(str(view), int(number))

    def send(self, meta: dict[str, Any], content: bytes) -> None:
        """Publish a view's picture."""
        self.publish(FRAMES, {"meta": meta, "content": self.addAttachment(content)})
