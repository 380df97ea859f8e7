"""Encodes the slices that somebody is likely to click on next, while nobody waits for the network.

Each viewer has one queue of slices, from the one in view outwards; showing it another slice or case replaces the queue. Viewers take turns,
one slice each. Every encode gives way to clicks (`Priority.PREFETCH`): a click waits for at most the one that is in flight, and for none
while clicks come in quick succession (`QUIET_SECONDS`).

Never more is encoded ahead than the cache keeps: a viewer's queue ends when it holds half of what the other viewers' queues have left of
`SHARE` of the cache, so that no queue pushes out what it, or another that is still looked at, has just put there.

Threads: one daemon thread, started by the server process only. `_changed` guards the queues and is held for dictionary work only, never
while an image is read or a slice is encoded, and no other lock is taken inside it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monailabel_app.engine import Engine
from monailabel_app.slice_order import outwards
from sam_adapters.embedding_cache import EmbeddingCache, SliceKey
from sam_adapters.errors import FedscaError
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import Axis, slice_count, take_slice

logger = logging.getLogger(__name__)

MAX_VIEWERS = 16
"""Viewers with a queue; one more drops the queue of the viewer that was heard of longest ago."""
SHARE = 0.9
"""Part of the embedding cache that prefetching may fill; the rest is for clicks elsewhere."""
STALE_SECONDS = 600.0
"""What was encoded for a viewer that was not heard of for so long is no longer protected."""
QUIET_SECONDS = 0.3
"""No encode is begun so soon after a click: the next one would wait for it, and a person who corrects a slice clicks on it again."""
LOOK_SECONDS = 60.0
MAX_REMEMBERED_ERRORS = 1000


@dataclass(eq=False)
class _Queue:
    """One viewer's slices. `pending` is None until the image is read."""

    path: Path
    axis: Axis
    index: int | None
    limit: int | None
    heard: float
    turn: int = 0
    version: str | None = None
    pending: deque[int] | None = None
    done: int = 0
    ended: bool = False


@dataclass(frozen=True)
class PrefetchCounts:
    """Viewers that have slices to be encoded, those slices, and slices encoded since the start."""

    viewers: int
    queued: int
    encoded: int


class Prefetcher:
    """See the module.

    Args:
        enabled: False makes every call do nothing.
        clock: seconds that only ever grow.
    """

    def __init__(self, engine: Engine, *, enabled: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._enabled = enabled
        self._clock = clock
        self._queues: dict[str, _Queue] = {}
        self._turns = 0
        self._encoded = 0
        self._logged: set[str] = set()
        self._quiet_until = clock()
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="fedsca-prefetch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ask the thread to end after the encode in flight and wait for it, at most `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._queues.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def show(self, viewer: str, path: Path, axis: Axis, index: int | None, *, limit: int | None = None) -> None:
        """A viewer shows a slice: encode from there outwards; what it had queued is dropped. Returns at once.

        Args:
            viewer: any text; one queue each.
            path: the image.
            index: the slice in view; None for the middle one.
            limit: most slices; None for as many as the cache keeps.
        """
        if not self._enabled:
            return
        with self._changed:
            if self._stopping:
                return
            old = self._queues.pop(viewer, None)
            turn = self._turns if old is None else old.turn
            self._queues[viewer] = _Queue(path, axis, index, limit, self._clock(), turn)
            while len(self._queues) > MAX_VIEWERS:
                del self._queues[min(self._queues, key=lambda name: self._queues[name].heard)]
            self._changed.notify_all()

    def clicked(self) -> None:
        """Somebody has just clicked: begin nothing for a moment."""
        with self._changed:
            self._quiet_until = self._clock() + QUIET_SECONDS

    def drop(self, viewer: str) -> bool:
        """Forget a viewer's queue; whether it had one."""
        with self._changed:
            return self._queues.pop(viewer, None) is not None

    def queued(self, viewer: str) -> int:
        """Slices that wait for this viewer; 0 also while its image is being read."""
        with self._changed:
            queue = self._queues.get(viewer)
            return len(queue.pending) if queue is not None and queue.pending is not None and not queue.ended else 0

    def room(self, cache: EmbeddingCache | None) -> int:
        """Slices that a queue may have encoded while there is no other; 0 when nothing is encoded ahead."""
        return max(1, int(SHARE * cache_slices(cache)) // 2) if self._enabled and cache is not None else 0

    def counts(self) -> PrefetchCounts:
        """See `PrefetchCounts`."""
        with self._changed:
            waiting = [queue for queue in self._queues.values() if not queue.ended]
            return PrefetchCounts(len(waiting), sum(len(queue.pending or ()) for queue in waiting), self._encoded)

    @property
    def busy(self) -> bool:
        """Whether any slice waits or is being encoded."""
        with self._changed:
            return any(not queue.ended for queue in self._queues.values())

    # --- the thread -------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                found = self._wait_for_turn()
                if found is None:
                    return
                self._turns += 1
                found.turn = self._turns
            try:
                self._advance(found)
            except Exception as error:
                self._give_up(found, error)

    def _wait_for_turn(self) -> _Queue | None:
        """The next queue to work on, once there is one and nobody has just clicked; None when it is time to stop."""
        while not self._stopping:
            found, quiet = self._next(), self._quiet_until - self._clock()
            if found is not None and quiet <= 0:
                return found
            self._changed.wait(LOOK_SECONDS if found is None else quiet)
        return None

    def _next(self) -> _Queue | None:
        """The queue whose turn was longest ago, of those that have not ended."""
        waiting = [queue for queue in self._queues.values() if not queue.ended]
        return min(waiting, key=lambda queue: queue.turn) if waiting else None

    def _advance(self, queue: _Queue) -> None:
        """One step of one queue: encode one slice, or find that it has ended."""
        image = self._engine.images.read(queue.path)
        segmenter = self._engine.segmenter(self._engine.active_version())
        cache = segmenter.cache
        if cache is None or image.array.nbytes > self._engine.images.max_bytes:  # nothing would be kept, or the image read for every slice
            queue.ended = True
            return
        if queue.version != segmenter.version:  # at the start, and when another version became active meanwhile
            queue.version, queue.done = segmenter.version, 0
            count = slice_count(image.array.shape, queue.axis)
            order = outwards(count // 2 if queue.index is None else min(queue.index, count - 1), count)
            queue.pending = deque(order[: queue.limit])
        kept = int(SHARE * cache_slices(cache))
        with self._changed:
            index = queue.pending.popleft() if queue.pending and queue.done < self._room(queue, kept) else None
            queue.ended = index is None
        if index is None:
            return
        key = SliceKey(image.content_hash, queue.axis, index)
        known = segmenter.cached(key)
        segmenter.encode(take_slice(image.array, queue.axis, index), key=key, priority=Priority.PREFETCH)
        with self._changed:
            queue.done += 1
            queue.ended = not queue.pending
            self._encoded += not known

    def _room(self, queue: _Queue, kept: int) -> int:
        """Slices that a queue may have encoded, where all may have `kept`; see the module. At least 1: the slice in view."""
        stale = self._clock() - STALE_SECONDS
        others = sum(other.done for other in self._queues.values() if other is not queue and other.heard > stale)
        return max(1, (kept - others) // 2)

    def _give_up(self, queue: _Queue, error: Exception) -> None:
        """An image that cannot be read, or a version that cannot be loaded, ends the queue; it is logged once."""
        queue.ended = True
        text = f"{queue.path.name}: {error}"
        if text not in self._logged and len(self._logged) < MAX_REMEMBERED_ERRORS:
            self._logged.add(text)
            logger.warning("Nothing is encoded ahead for %s", text, exc_info=None if isinstance(error, FedscaError | OSError) else error)


def cache_slices(cache: EmbeddingCache) -> int:
    """How many embeddings of the kind that it holds now a cache can keep; many while it is empty."""
    held, used = len(cache), cache.nbytes
    return cache.max_bytes * held // used if held and used else 2**31
