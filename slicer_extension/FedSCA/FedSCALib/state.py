"""What a front end shows: one immutable snapshot, replaced as a whole whenever something changed. Main thread only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Generic, List, Optional, Tuple, TypeVar

from FedSCALib.canvas import Segment
from FedSCALib.drafts import Draft
from FedSCALib.packets import Case, Info, Status, Versions

CONNECTIONS = ("off", "connecting", "login", "on", "lost")
TOOLS = ("none", "point", "box", "scribble", "paint", "erase")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Notice:
    """One sentence for the user. `kind`: info, warning or error. `action`: what a button beside it does (`Annotator.act`), "" for none."""

    kind: str
    text: str
    action: str = ""


@dataclass(frozen=True)
class State:
    """See `annotator.Annotator`.

    Attributes:
        connection: off, connecting, login (the server asks who one is), on, or lost (it will be tried again by itself).
        case: the open case, or None; `case_tag` the tag of the label that it was opened with.
        polarity: True for + points and strokes.
        tool: what the mouse does; mode: how an answer meets what is drawn (replace, add, subtract).
        axis, index: the slice in view.
        busy: what is being waited for, once it takes more than 0.4 s; progress 0..1 where it is known.
        review: looking at labels without the model.
        unsaved: something was changed since the last submit.
        draft_offer: unsubmitted work of an earlier time for this case.
        round_trip: seconds from the last prompt to its mask.
        revision: another number whenever prompts may be others, so that views draw them again (two undos in a row differ in nothing else).
    """

    connection: str = "off"
    address: str = ""
    user: str = ""
    info: Optional[Info] = None
    status: Optional[Status] = None
    versions: Optional[Versions] = None
    case: Optional[str] = None
    case_tag: str = ""
    cases: Tuple[Case, ...] = ()
    strategies: Tuple[str, ...] = ()
    strategy: str = ""
    tags: Tuple[str, ...] = ("final",)
    tag: str = "final"
    labels: Tuple[Segment, ...] = ()
    label: str = ""
    polarity: bool = True
    tool: str = "none"
    mode: str = "replace"
    axis: str = "k"
    index: int = 0
    busy: str = ""
    progress: Optional[float] = None
    can_undo: bool = False
    can_redo: bool = False
    can_propagate: bool = False
    notice: Optional[Notice] = None
    review: bool = False
    unsaved: bool = False
    submitting: bool = False
    draft_offer: Optional[Draft] = None
    round_trip: Optional[float] = None
    revision: int = 0

    @property
    def segment(self) -> Optional[Segment]:
        """The chosen label's segment."""
        return next((segment for segment in self.labels if segment.name == self.label), None)


class Signal(Generic[Value]):
    """Functions that are called, one after the other, on the main thread."""

    def __init__(self) -> None:
        self._functions: List[Callable[[Value], object]] = []

    def connect(self, function: Callable[[Value], object]) -> None:
        self._functions.append(function)

    def disconnect(self, function: Callable[[Value], object]) -> None:
        self._functions = [item for item in self._functions if item != function]

    def emit(self, value: Value) -> None:
        for function in list(self._functions):
            function(value)
