"""The two clocks: the one on the wall, which people and time servers set, and the one that only goes forward."""

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """What of time is used."""

    def now(self) -> datetime.datetime:
        """The wall clock, UTC; may jump."""

    def monotonic(self) -> float:
        """Seconds from some start; never goes back."""


class SystemClock:
    """This machine's."""

    def now(self) -> datetime.datetime:
        """The wall clock."""
        return datetime.datetime.now(datetime.UTC)

    def monotonic(self) -> float:
        """For spans."""
        return time.monotonic()
