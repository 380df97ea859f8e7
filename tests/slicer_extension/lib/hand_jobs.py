"""Jobs without threads, whose answers come in the order that a test wants: the same test does the same thing every time."""

import threading
from collections.abc import Callable
from typing import Any

from FedSCALib.jobs import Jobs, Ticket


class HandJobs(Jobs):
    """Work runs, and is answered, in `answer`; `deliver` answers everything but clicks."""

    def submit(
        self,
        kind: str,
        work: Callable[[threading.Event, Any], Any],
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
        *,
        progress: Callable[[Any], None] | None = None,
        latest_only: bool = False,
        lane: str = "",
    ) -> Ticket:
        if latest_only:
            self.cancel(kind)
        ticket = Ticket(kind, work, done, failed, progress)
        self._open[next(self._numbers)] = ticket
        return ticket

    def clicks(self) -> list[Ticket]:
        """Those that wait for an answer, the oldest first."""
        return [ticket for ticket in self._open.values() if ticket.kind.startswith("segment")]

    def answer(self, ticket: Ticket) -> None:
        """Do one piece of work, and run its callback."""
        callback: Callable[[Any], None] | None = ticket.done
        try:
            value = ticket.work(ticket.cancelled, lambda _: None)
        except Exception as error:
            callback, value = ticket.failed, error
        ticket.finished = True
        self._forget()
        if callback is not None:
            callback(value)

    def deliver(self) -> int:
        others = [ticket for ticket in self._open.values() if not ticket.kind.startswith("segment")]
        for ticket in others:
            if not ticket.cancelled.is_set():
                self.answer(ticket)
        return len(others)

    def answer_all(self) -> None:
        """Until nothing is under way."""
        while self._open:
            self.answer(next(iter(self._open.values())))
