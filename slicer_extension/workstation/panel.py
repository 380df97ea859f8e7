"""The controller's state as plain values for the page. Pure functions; the page shows them and decides nothing."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import numpy as np
from FedSCALib import facts
from FedSCALib.prompts import PromptSet, pixel_of
from FedSCALib.state import State
from FedSCALib.translate import tr
from FedSCALib.wire import bounds

ACTIONS = {
    "retry": tr("Try again"),
    "accept": tr("Accept"),
    "draft": tr("Take it"),
    "next": tr("Next case"),
    "submit": tr("Try again"),
    "submit_empty": tr("Submit as empty"),
    "login": tr("Log in"),
    "versions": tr("Versions"),
}


def panel(state: State) -> dict[str, Any]:
    """Everything but the list of cases and the prompts."""
    return {
        "connection": state.connection,
        "address": state.address,
        "user": state.user,
        "server": server_card(state),
        "case": state.case,
        "caseTag": state.case_tag,
        "strategies": list(state.strategies),
        "strategy": state.strategy,
        "tags": list(state.tags),
        "tag": state.tag,
        "labels": [
            {"name": item.name, "value": item.value, "color": css_color(item.color), "locked": item.locked, "visible": item.visible}
            for item in state.labels
        ],
        "label": state.label,
        "tool": state.tool,
        "polarity": state.polarity,
        "mode": state.mode,
        "busy": state.busy,
        "progress": state.progress,
        "canUndo": state.can_undo,
        "canRedo": state.can_redo,
        "canPropagate": state.can_propagate,
        "review": state.review,
        "unsaved": state.unsaved,
        "submitting": state.submitting,
        "draft": state.draft_offer is not None,
        "notice": notice(state),
        "roundTrip": None if state.round_trip is None else round(1000 * state.round_trip),
        "labelled": sum(case.labelled for case in state.cases),
        "total": len(state.cases),
    }


def cases(state: State) -> list[dict[str, Any]]:
    """The work list."""
    return [{"id": case.id, "tags": list(case.tags)} for case in state.cases]


def server_card(state: State) -> dict[str, Any] | None:
    """What the server told of itself; None before it did."""
    status = state.status
    if status is None:
        return None
    rows = {
        "base": facts.base_fact(status),
        "version": facts.version_fact(status, state.versions),
        "tuning": facts.tuning_fact(status.tuning),
        "round": facts.round_fact(status.last_round, status.next_round),
    }
    return {
        "site": status.site,
        "facts": {name: {"text": fact.text, "detail": fact.detail} for name, fact in rows.items()},
        "fraction": status.tuning.fraction if status.tuning.running else None,
        "tuned": status.active != "base",
        "active": status.active,
    }


def versions(state: State) -> list[dict[str, Any]]:
    """The list of versions, newest first."""
    rows = facts.version_rows(state.versions) if state.versions is not None else []
    return [dataclasses.asdict(row) for row in rows]


def notice(state: State) -> dict[str, str] | None:
    """The sentence to show, with the text of its button."""
    found = state.notice
    if found is None:
        return None
    return {"kind": found.kind, "text": found.text, "action": found.action, "button": ACTIONS.get(found.action, "")}


def prompts(axis: str, index: int, found: PromptSet) -> dict[str, Any]:
    """The prompts of a slice in pixels of it: x the column, y the row."""
    drawn: dict[str, Any] = {"axis": axis, "index": index, "points": [], "box": list(found.box) if found.box else None, "scribble": None}
    for point in found.points:
        _, x, y = pixel_of(axis, point.ijk)
        drawn["points"].append({"x": x, "y": y, "positive": point.positive, "ijk": list(point.ijk)})
    if found.scribble is not None:
        foreground, background = found.scribble.foreground, found.scribble.background
        box = bounds(foreground | background)
        if box is not None:
            x0, y0, x1, y1 = box
            crop = np.s_[y0 : y1 + 1, x0 : x1 + 1]
            codes = foreground[crop].astype(np.uint8) + 2 * background[crop].astype(np.uint8)
            drawn["scribble"] = {"box": list(box), "codes": base64.b64encode(codes.tobytes()).decode()}
    return drawn


def css_color(color: tuple[float, float, float]) -> str:
    """`rgb(r, g, b)` of a colour whose parts are 0 to 1."""
    return "rgb({}, {}, {})".format(*(round(255 * min(max(part, 0.0), 1.0)) for part in color))
