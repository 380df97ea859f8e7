"""What the server makes of the labels: status, tuning, new versions, going back to an earlier one. Main thread only."""

from __future__ import annotations

from typing import Any, Optional

from FedSCALib.desk import Desk
from FedSCALib.errors import NotAllowed
from FedSCALib.packets import BASE, Decision, Status, Versions
from FedSCALib.translate import tr

SLOW, FAST = 10.0, 2.0
WATCHED_AFTER_SUBMIT = 30.0
KIND = "status"


class Learning:
    """Keeps `state.status` and `state.versions` true, and tells of new versions."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._watch_until = 0.0
        self._announced: Optional[str] = None
        self._told_tuning = 0
        self._ours: Optional[str] = None

    def welcome(self) -> None:
        """The server is there."""
        status = self._desk.state.status
        if status is not None and self._announced is None:
            self._announced = status.active
            self._told_tuning = status.tuning.last if not status.tuning.running else status.tuning.last - 1
        self.refresh_versions()
        self._next()

    def watch(self) -> None:
        """A label was saved: look often for a while."""
        self._watch_until = self._desk.clock() + WATCHED_AFTER_SUBMIT
        self._ask()

    def forget(self) -> None:
        """Another server."""
        self._announced = None

    def refresh_versions(self) -> None:
        """Ask for the list of versions."""
        self._desk.call(
            "versions",
            lambda client, cancelled, _: client.versions(cancelled),
            self._take_versions,
            again=self.refresh_versions,
            latest_only=True,
            quiet=True,
        )

    def activate(self, version: str, reason: str) -> None:
        """Make a version the one that serves and that is learned from."""
        desk = self._desk
        name = version_name(version)

        def done(active: str) -> None:
            self._ours = active
            self._announced = active
            said = tr("{name} serves now, and tunings and rounds go on from it.").format(name=name)
            desk.notify("info", said[:1].upper() + said[1:])
            self._ask()
            self.refresh_versions()

        def failed(error: Exception) -> bool:
            if isinstance(error, NotAllowed):
                desk.notify(
                    "error",
                    tr("Your account may not change what serves: ask whoever runs the server. ({reason})").format(reason=error.detail),
                )
                return True
            return False

        desk.call(
            "activate",
            lambda client, _c, _r: client.activate(version, reason or tr("Chosen by hand.")),
            done,
            failed=failed,
            busy=tr("Activating {name}").format(name=name),
        )

    def _next(self) -> None:
        status = self._desk.state.status
        busy = status is not None and (status.tuning.running or status.tuning.waiting > 0)
        self._desk.later("status", FAST if busy or self._desk.clock() < self._watch_until else SLOW, self._ask)

    def _ask(self) -> None:
        if self._desk.state.connection != "on":
            return

        def failed(_error: Exception) -> bool:
            self._next()
            return False

        self._desk.call(
            KIND,
            lambda client, cancelled, _: client.status(cancelled),
            self._take_status,
            failed=failed,
            quiet=True,
            latest_only=True,
            lane=KIND,
        )

    def _take_status(self, status: Status) -> None:
        before = self._desk.state.status
        self._desk.update(status=status)
        if (
            before is None
            or before.active != status.active
            or before.tuning.last != status.tuning.last
            or (before.tuning.running and not status.tuning.running)
        ):
            self.refresh_versions()
        self._next()

    def _take_versions(self, versions: Versions) -> None:
        desk = self._desk
        desk.update(versions=versions)
        known, self._announced = self._announced, versions.active
        if known is not None and versions.active not in (known, self._ours):
            desk.notify("info", announcement(versions), "accept")
            return
        self._ours = None
        last = desk.state.status.tuning if desk.state.status is not None else None
        if last is not None and not last.running and last.last > self._told_tuning:
            self._told_tuning = last.last
            refused = versions.decision_about(last.version) if last.version is not None else None
            if last.status == "failed":
                desk.notify("warning", tr("The tuning failed: {reason} The earlier version goes on serving.").format(reason=last.failure))
            elif refused is not None and refused.action in ("rejected", "held"):
                desk.notify("info", tr("A version was tuned, but does not serve: {reason}").format(reason=refused.reason), "versions")


def version_name(version: str) -> str:
    """As people read it."""
    return tr("the untuned base") if version == BASE else tr("Version {id}").format(id=version[:8])


def announcement(versions: Versions) -> str:
    """One sentence about the version that serves now, with its Dice on the hospital's own validation cases before and after."""
    decision = versions.decision_about(versions.active)
    made = next((version for version in versions.versions if version.id == versions.active), None)
    origin = (
        tr("from the federation's round {round}").format(round=made.round)
        if made is not None and made.round is not None
        else tr("tuned here")
    )
    text = tr("A new version serves ({origin}).").format(origin=origin)
    dice = before_and_after(decision)
    if dice is None:
        return text
    return text + " " + tr("Dice on your validation cases: {before:.2f} before, {after:.2f} now.").format(before=dice[0], after=dice[1])


def before_and_after(decision: Optional[Decision]) -> "Optional[tuple[float, float]]":
    """Mean Dice of what served before and of the new version, where the gate measured them."""
    overall: Any = decision.figures.get("overall") if decision is not None else None
    if not isinstance(overall, dict):
        return None
    before, after = overall.get("active"), overall.get("candidate")
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return None
    return float(before), float(after)
