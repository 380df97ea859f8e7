"""What the annotator's parts share: the state, the client, work in the background, and what happens when it fails.

Main thread only. A request that failed for want of a connection or a login is kept and sent again when that is there.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any, Callable, Dict, Optional

from FedSCALib.canvas import Canvas
from FedSCALib.client import Client
from FedSCALib.errors import Cancelled, ConnectionProblem, FedSCAError, LoginNeeded, ServerBusy
from FedSCALib.jobs import Jobs, Ticket
from FedSCALib.preferences import Preferences
from FedSCALib.state import Notice, Signal, State
from FedSCALib.translate import tr

BUSY_AFTER = 0.4
MOST_BUSY_TRIES = 6
CANCEL = "cancel"  # kind of the requests that end work on the server: they are worth sending also when the server is let go
Again = Callable[[], None]


class Desk:
    """Held by every part.

    Args:
        clock: seconds that only go forwards.
    """

    def __init__(self, jobs: Jobs, canvas: Canvas, preferences: Preferences, clock: Callable[[], float] = time.monotonic) -> None:
        self.jobs = jobs
        self.canvas = canvas
        self.preferences = preferences
        self.clock = clock
        self.client: Optional[Client] = None
        self.state = State()
        self.changed: Signal[State] = Signal()
        self.lost: Signal[str] = Signal()
        self._again: Dict[str, Again] = {}
        self._tries: Dict[str, int] = {}
        self._later: Dict[str, "tuple[float, Again]"] = {}
        self._waits: Dict[str, "tuple[float, str]"] = {}

    def update(self, **values: Any) -> None:
        """Replace parts of the state, and tell those who look."""
        changed = replace(self.state, **values)
        if changed != self.state:
            self.state = changed
            self.changed.emit(changed)

    def notify(self, kind: str, text: str, action: str = "") -> None:
        """Say something to the user."""
        self.update(notice=Notice(kind, text, action))

    def online(self) -> Client:
        """The client. Raises FedSCAError where there is none."""
        if self.client is None:
            raise FedSCAError(tr("Connect to your hospital's server first."))
        return self.client

    def call(
        self,
        kind: str,
        work: Callable[[Client, threading.Event, Callable[[Any], None]], Any],
        done: Optional[Callable[[Any], None]] = None,
        *,
        failed: Optional[Callable[[Exception], bool]] = None,
        progress: Optional[Callable[[Any], None]] = None,
        busy: str = "",
        again: Optional[Again] = None,
        latest_only: bool = False,
        lane: str = "",
        quiet: bool = False,
    ) -> Optional[Ticket]:
        """Ask the server in the background.

        Args:
            failed: sees an error first; True where it has dealt with it.
            again: called when the connection or the login is back, if it failed for want of one, and after a while where the server had
                too much to do (a few times; then the user is told).
            quiet: errors are not shown.
        """
        client = self.client
        if client is None:
            if not quiet:
                self.notify("warning", tr("Connect to your hospital's server first."))
            return None
        if busy:
            self._waits[kind] = (self.clock(), busy)

        def finished(value: Any) -> None:
            self._waits.pop(kind, None)
            self._tries.pop(kind, None)
            if done is not None:
                done(value)

        def broke(error: Exception) -> None:
            self._waits.pop(kind, None)
            if failed is not None and failed(error):
                return
            tries = self._tries.pop(kind, 0)
            if isinstance(error, ServerBusy) and again is not None and tries < MOST_BUSY_TRIES:
                self._tries[kind] = tries + 1
                self.later(f"again {kind}", error.retry_after, again)
                return
            self.failure(error, again=again, kind=kind, quiet=quiet)

        return self.jobs.submit(
            kind,
            lambda cancel, report: work(client, cancel, report),
            finished,
            broke,
            progress=progress,
            latest_only=latest_only,
            lane=lane,
        )

    def failure(self, error: Exception, *, again: Optional[Again] = None, kind: str = "", quiet: bool = False) -> None:
        """What follows from an error, and what the user is told."""
        if isinstance(error, Cancelled):
            return
        if isinstance(error, (ConnectionProblem, LoginNeeded)) and self.client is not None:
            if again is not None:
                self._again[kind] = again
            if self.state.connection in ("off", "connecting"):  # while connecting, that tells the user
                if self.state.connection == "off" and not quiet:
                    self.notify("error", error.message, "retry")
                return
            if isinstance(error, LoginNeeded):
                self.update(connection="login")
            elif self.state.connection == "on":
                self.update(connection="lost")
            self.lost.emit(error.message)
            return
        if quiet:
            return
        if isinstance(error, FedSCAError):
            self.notify("error", error.message)
        else:
            self.notify(
                "error",
                tr("Something went wrong here: {error}. Your drawing is still there.").format(error=f"{type(error).__name__}: {error}"),
            )

    def later(self, kind: str, seconds: float, function: Again) -> None:
        """Call a function after some seconds; a newer call of this kind replaces it."""
        self._later[kind] = (self.clock() + seconds, function)

    def by(self, kind: str, seconds: float, function: Again) -> None:
        """Call a function after some seconds, or earlier where an earlier call of this kind said so."""
        if kind not in self._later or self._later[kind][0] > self.clock() + seconds:
            self.later(kind, seconds, function)

    def not_later(self, kind: str) -> None:
        self._later.pop(kind, None)

    def regained(self) -> None:
        """The connection or the login is back: send what waited for it."""
        waiting, self._again = self._again, {}
        for function in waiting.values():
            function()

    def not_again(self, kind: str) -> None:
        """What failed of a kind for want of the server is not sent again."""
        self._again.pop(kind, None)
        self._tries.pop(kind, None)
        self.not_later(f"again {kind}")

    def let_go(self) -> None:
        """This server is not wanted any more: nothing is under way, and nothing waits for it."""
        for kind in self.jobs.kinds() - {CANCEL}:
            self.jobs.cancel(kind)
        self.not_busy()
        self._again.clear()
        self._tries.clear()
        for kind in [kind for kind in self._later if kind.startswith("again ")]:
            del self._later[kind]

    def not_busy(self, kind: Optional[str] = None) -> None:
        """Nothing of a kind (None: nothing at all) is waited for any more."""
        for key in [key for key in self._waits if kind is None or key == kind]:
            del self._waits[key]

    def tick(self) -> None:
        """Answers, functions whose time has come, and whether to say that something is being waited for."""
        self.jobs.deliver()
        now = self.clock()
        for kind, (due, function) in list(self._later.items()):
            if due <= now and self._later.get(kind) == (due, function):
                del self._later[kind]
                function()
        longest = min(self._waits.values(), default=None)
        if longest is None or now - longest[0] < BUSY_AFTER:
            if self.state.busy:
                self.update(busy="", progress=None)
        elif self.state.busy != longest[1]:
            self.update(busy=longest[1])
