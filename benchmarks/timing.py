"""Times of one thing done many times: percentiles, and a table of them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of `n` repetitions."""

    name: str
    milliseconds: tuple[float, ...]

    def percentile(self, q: float) -> float:
        """The q-th percentile in ms; linear between neighbours."""
        return float(np.percentile(self.milliseconds, q))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "n": len(self.milliseconds),
            "p50_ms": round(self.percentile(50), 1),
            "p95_ms": round(self.percentile(95), 1),
            "max_ms": round(max(self.milliseconds), 1),
            "milliseconds": [round(value, 2) for value in self.milliseconds],
        }


def measure(name: str, items: Iterable[Item], action: Callable[[Item], object]) -> Timing:
    """Time `action` for each item, one after the other."""
    return Timing(name, tuple(elapsed(lambda item=item: action(item)) for item in items))


def elapsed(action: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    begun = time.perf_counter()
    action()
    return (time.perf_counter() - begun) * 1e3
