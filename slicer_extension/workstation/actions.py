"""What buttons and keys of the page may do: names, and checked values. Main thread only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FedSCALib.annotator import Annotator
from FedSCALib.canvas import MODES
from FedSCALib.state import TOOLS
from FedSCALib.translate import tr

LONGEST = 2000  # letters of a text from the page
Action = Callable[[list[Any]], None]


class BadRequestError(ValueError):
    """The page sent something that is no action, or with values it cannot have."""


def text(values: list[Any], place: int, default: str | None = None) -> str:
    """A text among an action's values."""
    value = values[place] if place < len(values) else default
    if not isinstance(value, str) or len(value) > LONGEST:
        raise BadRequestError(f"value {place} is {str(value)[:40]!r}: expected a text")
    return value


def flag(values: list[Any], place: int) -> bool:
    """True or false among an action's values."""
    value = values[place] if place < len(values) else None
    if not isinstance(value, bool):
        raise BadRequestError(f"value {place} is {str(value)[:40]!r}: expected true or false")
    return value


def one_of(values: list[Any], place: int, allowed: tuple[str, ...]) -> str:
    """A text that must be one of some."""
    value = text(values, place)
    if value not in allowed:
        raise BadRequestError(f"value {place} is {value[:40]!r}: expected one of {', '.join(allowed)}")
    return value


def actions(annotator: Annotator) -> dict[str, Action]:
    """By name; each takes the values that the page sent."""
    a = annotator
    plain: dict[str, Callable[[], None]] = {
        "disconnect": a.disconnect,
        "next_case": a.next_case,
        "skip_case": a.skip_case,
        "close_case": a.close_case,
        "refresh_cases": a.refresh_cases,
        "next_label": a.next_label,
        "toggle_visible": a.toggle_visible,
        "toggle_polarity": a.toggle_polarity,
        "reset_prompts": a.reset_prompts,
        "undo": a.undo,
        "redo": a.redo,
        "cancel": a.cancel,
        "propagate": a.propagate,
        "segment_volume": a.segment_volume,
        "submit": a.submit,
        "retry": a.retry,
        "dismiss_notice": a.dismiss_notice,
        "accept_version": a.accept_version,
        "refresh_versions": a.refresh_versions,
        "take_draft": a.take_draft,
        "drop_draft": a.drop_draft,
        "automatic": lambda: a.automatic(a.state.axis, a.state.index) if a.state.case is not None else None,
    }
    found: dict[str, Action] = {name: _without_values(function) for name, function in plain.items()}
    found.update(
        {
            "connect": lambda v: a.connect(text(v, 0)),
            "test_connection": lambda v: a.test_connection(text(v, 0)),
            "login": lambda v: a.login(text(v, 0), text(v, 1)),
            "open_case": lambda v: a.open_case(text(v, 0), text(v, 1) if len(v) > 1 else None),
            "set_strategy": lambda v: a.set_strategy(one_of(v, 0, a.state.strategies)),
            "set_tag": lambda v: a.set_tag(text(v, 0)),
            "select_label": lambda v: a.select_label(text(v, 0)),
            "add_label": lambda v: a.add_label(text(v, 0)),
            "set_locked": lambda v: a.set_locked(_label(a, v), flag(v, 1)),
            "set_visible": lambda v: a.set_visible(_label(a, v), flag(v, 1)),
            "set_tool": lambda v: a.set_tool(one_of(v, 0, TOOLS)),
            "set_polarity": lambda v: a.set_polarity(flag(v, 0)),
            "set_mode": lambda v: a.set_mode(one_of(v, 0, MODES)),
            "set_review": lambda v: a.set_review(flag(v, 0)),
            "activate": lambda v: a.activate(text(v, 0), text(v, 1, tr("Chosen in the workstation."))),
            "act": lambda v: a.act(text(v, 0)),
        }
    )
    return found


def _without_values(function: Callable[[], None]) -> Action:
    return lambda _values: function()


def _label(annotator: Annotator, values: list[Any]) -> str:
    return one_of(values, 0, tuple(item.name for item in annotator.state.labels))
