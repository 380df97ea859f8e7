"""Network calls in worker threads, their answers on the main thread.

Threads: `submit`, `cancel`, `deliver`, `idle` and `close` are for the main thread alone; the functions given to `submit` run in worker
threads and may call nothing but their own `report`. Answers wait in a thread-safe queue until `deliver`. No locks but the queues' own.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Tuple

Report = Callable[[Any], None]
Work = Callable[[threading.Event, Report], Any]


@dataclass(eq=False)
class Ticket:
    """One piece of work. `cancelled` is set from the main thread; its callbacks then never run."""

    kind: str
    work: Work
    done: Optional[Callable[[Any], None]] = None
    failed: Optional[Callable[[Exception], None]] = None
    progress: Optional[Callable[[Any], None]] = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: bool = False


class Jobs:
    """A few worker threads and a queue of answers.

    Args:
        workers: threads of one kind of work do not exceed this either; long polls should be given a `lane` of their own.
    """

    def __init__(self, workers: int = 3) -> None:
        self._answers: queue.Queue[Tuple[Ticket, str, Any]] = queue.Queue()
        self._lanes: Dict[str, queue.Queue[Optional[Ticket]]] = {}
        self._threads: List[threading.Thread] = []
        self._workers = workers
        self._open: Dict[int, Ticket] = {}
        self._numbers = itertools.count()
        self._closed = False

    def submit(
        self,
        kind: str,
        work: Work,
        done: Optional[Callable[[Any], None]] = None,
        failed: Optional[Callable[[Exception], None]] = None,
        *,
        progress: Optional[Callable[[Any], None]] = None,
        latest_only: bool = False,
        lane: str = "",
    ) -> Ticket:
        """Run `work(cancelled, report)` in a worker thread.

        Args:
            kind: a name by which it can be cancelled.
            done: called with what `work` returned; `failed`: with its exception; `progress`: with every `report`ed value. All on the
                main thread.
            latest_only: earlier work of this kind is cancelled.
            lane: work of another lane never waits for this one's.
        """
        if self._closed:
            raise RuntimeError("These jobs are closed.")
        if latest_only:
            self.cancel(kind)
        ticket = Ticket(kind, work, done, failed, progress)
        self._open[next(self._numbers)] = ticket
        self._lane(lane).put(ticket)
        return ticket

    def cancel(self, kind: Optional[str] = None) -> int:
        """Cancel what is under way of a kind (None: everything): no callback of it runs any more. Returns how many."""
        found = [ticket for ticket in self._open.values() if kind is None or ticket.kind == kind]
        for ticket in found:
            ticket.cancelled.set()
        self._forget()
        return len(found)

    def drop(self, ticket: Ticket) -> None:
        """Cancel one piece of work."""
        ticket.cancelled.set()
        self._forget()

    def kinds(self) -> "set[str]":
        """Of what is under way or waiting."""
        return {ticket.kind for ticket in self._open.values()}

    def running(self, kind: Optional[str] = None) -> int:
        """Under way or waiting, not cancelled."""
        return sum(kind is None or ticket.kind == kind for ticket in self._open.values())

    def deliver(self) -> int:
        """Run the callbacks of what has been answered since the last call; returns how many."""
        count = 0
        for _ in range(self._answers.qsize()):  # what callbacks cause is delivered next time
            try:
                ticket, what, value = self._answers.get_nowait()
            except queue.Empty:
                break
            if ticket.cancelled.is_set():
                continue
            if what != "progress":
                ticket.finished = True
                self._forget()
            callback = {"done": ticket.done, "failed": ticket.failed, "progress": ticket.progress}[what]
            count += 1
            if callback is not None:
                callback(value)
        return count

    def idle(self) -> bool:
        """Whether nothing is under way, and nothing waits to be delivered."""
        return not self._open and self._answers.empty()

    def close(self, deadline: float = 5.0) -> bool:
        """Cancel everything and end the threads; whether all had ended after `deadline` seconds."""
        self._closed = True
        self.cancel()
        for lane in self._lanes.values():
            for _ in self._threads:
                lane.put(None)
        end = time.monotonic() + deadline
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _forget(self) -> None:
        self._open = {number: ticket for number, ticket in self._open.items() if not ticket.finished and not ticket.cancelled.is_set()}

    def _lane(self, name: str) -> queue.Queue[Optional[Ticket]]:
        if name not in self._lanes:
            self._lanes[name] = queue.Queue()
            for number in range(self._workers if not name else 1):
                thread = threading.Thread(
                    target=self._serve, args=(self._lanes[name],), name=f"fedsca-{name or 'work'}-{number}", daemon=True
                )
                thread.start()
                self._threads.append(thread)
        return self._lanes[name]

    def _serve(self, lane: queue.Queue[Optional[Ticket]]) -> None:
        while True:
            ticket = lane.get()
            if ticket is None:
                return
            if ticket.cancelled.is_set():
                continue
            try:
                value = ticket.work(ticket.cancelled, self._reporter(ticket))
            except Exception as error:  # every error is the caller's to show
                self._answers.put((ticket, "failed", error))
            else:
                self._answers.put((ticket, "done", value))

    def _reporter(self, ticket: Ticket) -> Report:
        def report(value: Any) -> None:
            self._answers.put((ticket, "progress", value))

        return report
