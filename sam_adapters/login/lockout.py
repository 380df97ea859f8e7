"""Locks a key (a user, an address) for a growing time after repeated failures. Pure bookkeeping with an injected clock.

Every attempt counts as a failure when it begins, so that many at once gain nothing; success takes it back. After `free` failures the key is
locked for `first` seconds, and twice as long after each further one, up to `longest`. A key without failures for `forget` seconds starts
afresh.

Threads: one lock over all methods. Memory is bounded: of too many keys the longest quiet one is forgotten.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_KEYS = 20_000


@dataclass
class _Record:
    failures: int = 0
    locked_until: float = 0.0
    last: float = 0.0


class Lockout:
    """Failures by key."""

    def __init__(
        self,
        *,
        free: int,
        first: float = 10.0,
        longest: float = 900.0,
        forget: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free, self._first, self._longest, self._forget = free, first, longest, forget
        self._clock = clock
        self._lock = threading.Lock()
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def wait(self, key: str) -> float:
        """Seconds for which the key is locked; 0 when it is not."""
        with self._lock:
            record = self._records.get(key)
            return max(0.0, record.locked_until - self._clock()) if record is not None else 0.0

    def begin(self, key: str) -> None:
        """An attempt begins: it counts as a failure until `succeeded` or `excused`."""
        with self._lock:
            now = self._clock()
            record = self._records.pop(key, None)
            if record is None or now - record.last > self._forget:
                record = _Record()
            record.failures, record.last = record.failures + 1, now
            if record.failures >= self._free:
                record.locked_until = now + min(self._longest, self._first * 2.0 ** min(record.failures - self._free, 30))
            self._records[key] = record
            while len(self._records) > MAX_KEYS:
                self._records.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """The attempt was right, and with it the key: all of its failures are forgotten."""
        with self._lock:
            self._records.pop(key, None)

    def excused(self, key: str) -> None:
        """The attempt did not fail, but says nothing about the key's other attempts: only this one is taken back."""
        with self._lock:
            record = self._records.get(key)
            if record is not None:
                record.failures -= 1
                if record.failures < self._free:
                    record.locked_until = 0.0
