"""A bounded number of requests at once, and a bounded line of others behind them, served in the order in which they came.

Used on the event loop only: no locks, no threads.
"""

import asyncio
from collections import deque

from monailabel_app.app_errors import LineFullError


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
            LineFullError: too many wait already, or the wait was too long.
        """
        if self._free > 0:
            self._free -= 1
            return
        if self.full:
            raise LineFullError(f"The server is busy: {self._places} {self.name} run and {len(self._line)} wait. Try again.")
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._seconds)
        except TimeoutError:
            if not turn.done():  # else the place came in the same instant
                self._line.remove(turn)
                raise LineFullError(f"The server is busy: no place for {self.name} in {self._seconds:g} s. Try again.") from None
        except asyncio.CancelledError:
            if turn.done():
                self.leave()
            else:
                self._line.remove(turn)
            raise

    def leave(self) -> None:
        """Give a place back: to the next in line, if there is one."""
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1
