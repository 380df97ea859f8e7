"""A bounded number of requests at once, and a bounded line of others behind them, served in the order in which they came.

Used on the event loop only: no locks, no threads.
"""

import asyncio
from collections import deque

from monailabel_app.app_errors import BusyError

RETRY_SECONDS = 2


class WaitingLine:
    """Places for requests of one kind."""

    def __init__(self, name: str, places: int, waiting: int, wait_seconds: float) -> None:
        """
        Args:
            name: what the requests are, for messages.
            places: how many at once.
            waiting: how many may wait.
            wait_seconds: how long one waits at most.
        """
        self.name = name
        self._free = places
        self._places = places
        self._waiting = waiting
        self._seconds = wait_seconds
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def full(self) -> bool:
        """Whether one more would be refused now."""
        return self._free == 0 and len(self._line) >= self._waiting

    async def enter(self) -> None:
        """Take a place, waiting for it if need be; `leave` gives it back.

        Raises:
            BusyError: too many wait already, or the wait was too long.
        """
        if self._free > 0:
            self._free -= 1
            return
        if self.full:
            raise BusyError(f"The server is busy: {self._places} {self.name} run and {len(self._line)} wait. Try again.", RETRY_SECONDS)
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout(self._seconds):
                await turn
        except (TimeoutError, asyncio.CancelledError) as error:
            came = turn.done() and not turn.cancelled()  # the place, in the very instant
            if turn in self._line:
                self._line.remove(turn)
            if isinstance(error, asyncio.CancelledError):
                if came:
                    self.leave()
                raise
            if not came:
                sentence = f"The server is busy: no place for {self.name} in {self._seconds:g} s. Try again."
                raise BusyError(sentence, RETRY_SECONDS) from None

    def leave(self) -> None:
        """Give a place back: to the next in line, if there is one."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():  # else who waited has just given up
                turn.set_result(None)
                return
        self._free += 1
