"""A lock that is granted to the most urgent waiting thread, and among equally urgent ones in the order in which they asked.

`threading.Lock` may be taken again by the thread that just released it while others wait: a loop that holds it most of the time can
keep everybody else out. Here a released lock is handed to a waiting thread before anybody else can take it, and a radiologist's click
comes before everything that was begun ahead of need. Not re-entrant.
"""

import heapq
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum


class Priority(IntEnum):
    """How urgent work on the network is, most urgent first."""

    CLICK = 0
    """Somebody waits for this very answer."""
    PREFETCH = 1
    """A slice that somebody is likely to click on soon."""
    VOLUME = 2
    """A job of many slices, whose progress somebody watches."""
    BACKGROUND = 3
    """Nobody waits."""


class PriorityLock:
    """Use `with lock.turn(priority):`.

    `_mutex` guards the fields and is held for a moment only. Each waiting thread sleeps on a lock of its own, which the thread before
    it releases; `_held` then stays true, so nobody can slip in between.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._clicks = 0
        self._asked = 0
        self._waiting: list[tuple[int, int, threading.Lock]] = []

    @contextmanager
    def turn(self, priority: Priority = Priority.CLICK) -> Iterator[None]:
        """Wait for the lock, and hold it inside the `with` block."""
        self._acquire(priority)
        try:
            yield
        finally:
            with self._mutex:
                self._pass_on()

    @contextmanager
    def only_clicks(self) -> Iterator[None]:
        """While any thread is inside, nothing less urgent than a click is begun: a click's decoder has the processor to itself."""
        with self._mutex:
            self._clicks += 1
        try:
            yield
        finally:
            with self._mutex:
                self._clicks -= 1
                if not self._held:
                    self._grant()

    @property
    def clicks_only(self) -> bool:
        """Whether a thread is inside `only_clicks` now."""
        with self._mutex:
            return self._clicks > 0

    @property
    def waiting(self) -> int:
        """Number of threads that wait now."""
        with self._mutex:
            return len(self._waiting)

    def _acquire(self, priority: Priority) -> None:
        with self._mutex:
            if not self._held and self._allowed(priority):
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._asked += 1
            entry = (int(priority), self._asked, turn)
            heapq.heappush(self._waiting, entry)
        try:
            turn.acquire()
        except BaseException:  # an interrupt in the main thread: leave the queue, or pass on what was just handed over
            with self._mutex:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                    heapq.heapify(self._waiting)
                else:
                    self._pass_on()
            raise

    def _allowed(self, priority: int) -> bool:
        return self._clicks == 0 or priority <= Priority.CLICK

    def _pass_on(self) -> None:
        self._held = False
        self._grant()

    def _grant(self) -> None:
        """Hand the free lock to whom it belongs, if there is one who may have it now."""
        if self._waiting and self._allowed(self._waiting[0][0]):
            self._held = True
            heapq.heappop(self._waiting)[2].release()
