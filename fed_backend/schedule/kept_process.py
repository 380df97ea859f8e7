"""A process that is to run always: started again, later and later, whenever it has ended. Used from the main thread only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from logging import getLogger

from fed_backend.schedule.backoff import Backoff
from fed_backend.schedule.child import Child, Starter
from fed_backend.schedule.clock import Clock

log = getLogger(__name__)


@dataclass
class KeptProcess:
    """One command.

    Attributes:
        name: for the log.
        argv, environment: what is started.
        child: the process; None while there is none.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    start: Starter
    clock: Clock
    child: Child | None = None
    _backoff: Backoff = field(default_factory=Backoff)
    _started: float = 0.0

    def tick(self) -> bool:
        """Look after it once; True if it was found to have ended."""
        now = self.clock.monotonic()
        if self.child is None:
            if now >= self._backoff.not_before:
                self.child, self._started = self.start(self.argv, self.environment), now
            return False
        code = self.child.ended()
        if code is None:
            return False
        self.child.stop(0)  # what is left of its group
        self.child = None
        wait = self._backoff.ended(now, now - self._started)
        log.warning("%s ended %s: it is started again in %.0f s.", self.name, _how(code), wait)
        return True

    def stop(self, seconds: float) -> None:
        """End it; the next `tick` starts it anew."""
        if self.child is not None:
            self.child.stop(seconds)
            self.child = None


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with code {code}"
