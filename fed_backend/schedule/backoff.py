"""How long to wait before something that ended is started again: 1, 2, 4 … seconds, at most a minute; 1 again after a steady minute."""

from dataclasses import dataclass

FIRST, MOST, STEADY = 1.0, 60.0, 60.0


@dataclass
class Backoff:
    """Times in seconds of any clock that only goes forward.

    Attributes:
        not_before: no start before this time.
    """

    not_before: float = 0.0
    _delay: float = FIRST

    def ended(self, now: float, lived: float) -> float:
        """Something that lived so long has ended; returns the wait until its next start."""
        if lived >= STEADY:
            self._delay = FIRST
        wait, self._delay = self._delay, min(2 * self._delay, MOST)
        self.not_before = now + wait
        return wait
