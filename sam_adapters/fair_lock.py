"""A lock that is granted in the order in which it was asked for.

`threading.Lock` may be taken again by the thread that just released it while others wait: a loop that holds it most of the time can
keep everybody else out. Here a released lock is handed to the thread that has waited longest. Not re-entrant.
"""

import threading
from collections import deque


class FairLock:
    """Use it as a context manager.

    `_mutex` guards the fields and is held for a moment only. Each waiting thread sleeps on a lock of its own, which the thread before
    it releases; `_held` then stays true, so nobody can slip in between.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # an interrupt in the main thread: leave the queue, or pass on what was just handed over
            with self._mutex:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                else:
                    self._pass_on()
            raise

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """Number of threads that wait now."""
        with self._mutex:
            return len(self._waiting)

    def _pass_on(self) -> None:
        if self._waiting:
            self._waiting.popleft().release()
        else:
            self._held = False
