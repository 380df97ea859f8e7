"""When what happened: stretches of work by phase, recorded from several threads, and the phases' names.

Threads: `PhaseClock` guards its list with one lock.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fed_backend.demo.result import PhaseEntry

START, BASE, FINAL = "start", "base", "validation"


def phase_title(phase: str) -> str:
    """The name of a phase for tables and charts."""
    stem, _, number = phase.partition("-")
    return {
        "start": "Starting servers",
        "base": "Base",
        "work": f"Labelling and tuning {number}",
        "tuning": f"Local tuning {number}",
        "exchange": f"Exchange {number}",
        "round": f"Round {number}",
        "validation": "Validation",
    }[stem]


def is_scored(phase: str) -> bool:
    """Whether test Dice is measured in the phase."""
    return phase.partition("-")[0] in ("base", "tuning", "round")


class PhaseClock:
    """Collects the stretches; a phase lasts from its first beginning to its last end over all hospitals."""

    def __init__(self) -> None:
        self._zero = time.monotonic()
        self._lock = threading.Lock()
        self._spans: dict[str, tuple[float, float]] = {}

    @property
    def now(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._zero

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Record the block as part of `phase`; a block that fails is not recorded."""
        begun = self.now
        yield
        with self._lock:
            first, last = self._spans.get(phase, (begun, begun))
            self._spans[phase] = (min(first, begun), max(last, self.now))

    def entries(self) -> list[PhaseEntry]:
        """The phases in the order in which they began."""
        with self._lock:
            spans = sorted(self._spans.items(), key=lambda item: item[1])
        return [
            {"id": phase, "title": phase_title(phase), "scored": is_scored(phase), "started": begun, "seconds": end - begun}
            for phase, (begun, end) in spans
        ]
