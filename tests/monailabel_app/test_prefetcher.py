"""Encoding ahead: order, turns, replacing, bounds, giving way and failing. The network is a recorder that can be held."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from monailabel_app.engine import Engine
from monailabel_app.prefetcher import MAX_VIEWERS, QUIET_SECONDS, STALE_SECONDS, Prefetcher, cache_slices
from monailabel_app.slice_order import outwards
from sam_adapters.embedding_cache import SliceKey
from sam_adapters.errors import ImageError
from sam_adapters.priority_lock import Priority
from tests.monailabel_app.server_process import wait_until

DEADLINE = 60.0
BYTES = 100


class FakeCache:
    def __init__(self, slices: int) -> None:
        self.max_bytes = slices * BYTES
        self.keys: set[SliceKey] = set()

    @property
    def nbytes(self) -> int:
        return BYTES * len(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


class FakeEngine:
    """Images of `count` slices whose content hash is their name; one segmenter that records what it encodes."""

    def __init__(self, count: int = 7, cache: int = 1000) -> None:
        self.version = "base"
        self.encoded: list[tuple[str, str, int]] = []
        self.priorities: set[Priority] = set()
        self.gate = threading.Semaphore(10**6)
        self.cache = FakeCache(cache)
        self.images = SimpleNamespace(read=self._read, max_bytes=10**9)
        self._count = count

    def _read(self, path: Path) -> Any:
        if path.name == "broken":
            raise ImageError("broken is damaged.")
        return SimpleNamespace(array=np.zeros((self._count, 3, 4)), content_hash=path.name)

    def active_version(self) -> str:
        return self.version

    def segmenter(self, version: str) -> Any:
        return SimpleNamespace(version=version, cache=self.cache, encode=self._encode, cached=lambda key: key in self.cache.keys)

    def _encode(self, pixels: object, *, key: SliceKey, priority: Priority) -> None:
        assert self.gate.acquire(timeout=DEADLINE)
        self.priorities.add(priority)
        self.encoded.append((self.version, key.content_hash, key.index))
        self.cache.keys.add(key)


@pytest.fixture
def made() -> Iterator[list[Prefetcher]]:
    """Prefetchers that a test has made; they are stopped after it."""
    found: list[Prefetcher] = []
    yield found
    for prefetcher in found:
        prefetcher.stop(DEADLINE)


def prefetcher(engine: FakeEngine, made: list[Prefetcher], **options: Any) -> Prefetcher:
    made.append(Prefetcher(cast(Engine, engine), **options))
    return made[-1]


def finish(worker: Prefetcher) -> None:
    wait_until(lambda: not worker.busy, DEADLINE, what="the prefetcher to finish")


def indices(engine: FakeEngine, name: str) -> list[int]:
    return [index for _, image, index in engine.encoded if image == name]


def test_outwards() -> None:
    assert outwards(2, 5) == [2, 3, 1, 4, 0]
    assert outwards(0, 3) == [0, 1, 2]
    assert outwards(0, 1) == [0]
    with pytest.raises(ValueError, match="expected 0 to 4"):
        outwards(5, 5)


def test_from_the_slice_in_view_outwards_giving_way_to_clicks(made: list[Prefetcher]) -> None:
    engine = FakeEngine()
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", 2)
    finish(worker)
    assert indices(engine, "a") == [2, 3, 1, 4, 0, 5, 6]
    assert engine.priorities == {Priority.PREFETCH}
    counts = worker.counts()
    assert (counts.viewers, counts.queued, counts.encoded) == (0, 0, 7)


def test_without_a_slice_it_begins_in_the_middle_and_a_limit_is_kept(made: list[Prefetcher]) -> None:
    engine = FakeEngine()
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", None, limit=3)
    finish(worker)
    assert indices(engine, "a") == [3, 4, 2]


def test_viewers_take_turns(made: list[Prefetcher]) -> None:
    engine = FakeEngine()
    worker = prefetcher(engine, made)
    worker.show("ann", Path("/a"), "k", 0)
    worker.show("bob", Path("/b"), "k", 0, limit=3)
    worker.start()
    finish(worker)
    assert [image for _, image, _ in engine.encoded] == ["a", "b"] * 3 + ["a"] * 4


def test_the_newest_slice_in_view_replaces_that_viewers_queue_only(made: list[Prefetcher]) -> None:
    engine = FakeEngine(count=100)
    engine.gate = threading.Semaphore(0)
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", 50)
    worker.show("bob", Path("/b"), "k", 3, limit=2)
    wait_until(lambda: worker.queued("ann") == 99, DEADLINE, what="the first slice to be in flight")
    worker.show("ann", Path("/c"), "k", 10, limit=3)
    engine.gate.release(10**6)
    finish(worker)
    assert indices(engine, "a") == [50]  # the one in flight
    assert indices(engine, "b") == [3, 4]
    assert indices(engine, "c") == [10, 11, 9]


def test_a_dropped_queue_ends(made: list[Prefetcher]) -> None:
    engine = FakeEngine(count=100)
    engine.gate = threading.Semaphore(0)
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", 50)
    wait_until(lambda: worker.queued("ann") == 99, DEADLINE, what="the first slice to be in flight")
    assert worker.drop("ann")
    assert not worker.drop("ann")
    engine.gate.release(10**6)
    finish(worker)
    worker.show("bob", Path("/b"), "k", 1, limit=1)
    finish(worker)
    assert indices(engine, "a") == [50]


def test_it_never_pushes_out_what_it_has_just_cached(made: list[Prefetcher]) -> None:
    engine = FakeEngine(count=100, cache=40)
    worker = prefetcher(engine, made)
    worker.start()
    for number, name in enumerate(("a", "b", "c")):
        worker.show(name, Path(f"/{name}"), "k", number)
        finish(worker)
    assert [len(indices(engine, name)) for name in "abc"] == [18, 9, 4]  # half of 36, of the 18 left, of the 9 left
    assert len(engine.cache) <= 40
    assert cache_slices(cast(Any, engine.cache)) == 40


def test_old_viewers_no_longer_take_room(made: list[Prefetcher]) -> None:
    now = [0.0]
    engine = FakeEngine(count=100, cache=40)
    worker = prefetcher(engine, made, clock=lambda: now[0])
    worker.start()
    worker.show("ann", Path("/a"), "k", 0)
    finish(worker)
    now[0] += STALE_SECONDS + 1
    worker.show("bob", Path("/b"), "k", 0)
    finish(worker)
    assert len(indices(engine, "b")) == 18


def test_too_many_viewers_drop_the_one_heard_of_longest_ago(made: list[Prefetcher]) -> None:
    now = [0.0]
    engine = FakeEngine(count=1)
    worker = prefetcher(engine, made, clock=lambda: now[0])
    for number in range(MAX_VIEWERS + 1):
        now[0] += 1
        worker.show(str(number), Path(f"/{number}"), "k", 0)
    worker.start()
    finish(worker)
    assert sorted(int(image) for _, image, _ in engine.encoded) == list(range(1, MAX_VIEWERS + 1))


def test_another_active_version_begins_anew(made: list[Prefetcher]) -> None:
    engine = FakeEngine()
    engine.gate = threading.Semaphore(0)
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", 2)
    engine.gate.release(2)
    wait_until(lambda: len(engine.encoded) == 2 and worker.queued("ann") == 4, DEADLINE, what="the third slice to be in flight")
    engine.version = "0123456789abcdef"
    engine.gate.release(10**6)
    finish(worker)
    assert [index for version, _, index in engine.encoded[3:]] == [2, 3, 1, 4, 0, 5, 6]
    assert {version for version, _, _ in engine.encoded[3:]} == {"0123456789abcdef"}


def test_it_leaves_the_network_to_clicks_that_follow_each_other(made: list[Prefetcher]) -> None:
    now, looks = [0.0], []

    def clock() -> float:
        looks.append(now[0])
        return now[0]

    engine = FakeEngine()
    worker = prefetcher(engine, made, clock=clock)
    worker.clicked()
    worker.show("ann", Path("/a"), "k", 2)
    looks.clear()
    worker.start()
    wait_until(lambda: len(looks) > 1, DEADLINE, what="the thread to look at the clock twice")  # which stands still
    assert not engine.encoded
    now[0] += QUIET_SECONDS
    finish(worker)
    assert len(engine.encoded) == 7


def test_a_broken_image_is_logged_once_and_others_go_on(made: list[Prefetcher], caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    worker = prefetcher(engine, made)
    worker.start()
    with caplog.at_level(logging.WARNING, "monailabel_app.prefetcher"):
        for _ in range(3):
            worker.show("ann", Path("/broken"), "k", 2)
            finish(worker)
        worker.show("ann", Path("/a"), "k", 2)
        finish(worker)
    assert [record.getMessage() for record in caplog.records] == ["Nothing is encoded ahead for broken: broken is damaged."]
    assert len(indices(engine, "a")) == 7


def test_an_image_that_would_be_read_for_every_slice_is_left_alone(made: list[Prefetcher]) -> None:
    engine = FakeEngine()
    engine.images.max_bytes = 10
    worker = prefetcher(engine, made)
    worker.start()
    worker.show("ann", Path("/a"), "k", 2)
    finish(worker)
    assert not engine.encoded


def test_stopping_waits_for_the_encode_in_flight_and_then_nothing_begins() -> None:
    engine = FakeEngine(count=1000)
    worker = Prefetcher(cast(Engine, engine))
    worker.start()
    worker.show("ann", Path("/a"), "k", 2)
    wait_until(lambda: engine.encoded, DEADLINE, what="the first slice")
    worker.stop(DEADLINE)
    count = len(engine.encoded)
    worker.show("ann", Path("/b"), "k", 2)
    assert not any(thread.name == "fedsca-prefetch" for thread in threading.enumerate())
    assert len(engine.encoded) == count


def test_switched_off_it_does_nothing(made: list[Prefetcher]) -> None:
    worker = prefetcher(FakeEngine(), made, enabled=False)
    worker.start()
    worker.show("ann", Path("/a"), "k", 2)
    assert not worker.busy
    assert worker.room(cast(Any, FakeCache(10))) == 0
