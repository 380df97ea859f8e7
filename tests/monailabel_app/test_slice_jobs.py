"""Jobs of many slices: turns, news, cancelling, limits and failures. Their work is a plain iterator, gated where order matters."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from monailabel_app.app_errors import BusyError, NotFoundError
from monailabel_app.slice_jobs import FINISHED_KEPT, SLICES_PER_REPLY, SliceJobs, Step
from sam_adapters.errors import ImageError
from tests.monailabel_app.server_process import wait_until

DEADLINE = 60.0
ABOUT = {"image": "case", "axis": "k", "label": "target", "version": "base"}


def counting(count: int) -> Iterator[Step]:
    for index in range(count):
        yield [{"index": index}]


@pytest.fixture
def jobs() -> Iterator[SliceJobs]:
    made = SliceJobs()
    made.start()
    yield made
    made.stop(DEADLINE)


def ended(jobs: SliceJobs, name: str, owner: str = "ann") -> dict[str, Any]:
    wait_until(lambda: jobs.state(name, owner)["state"] in ("done", "failed", "cancelled"), DEADLINE, what="the job to end")
    return jobs.state(name, owner)


def test_a_job_runs_to_its_end_and_numbers_its_slices(jobs: SliceJobs) -> None:
    name = jobs.begin("ann", "volume", ABOUT, 5, counting(3))
    found = ended(jobs, name)
    assert (found["job"], found["kind"], found["state"], found["done"], found["total"]) == (name, "volume", "done", 3, 3)
    assert [(item["number"], item["index"]) for item in found["slices"]] == [(1, 0), (2, 1), (3, 2)]
    assert [item["number"] for item in jobs.state(name, "ann", after=2)["slices"]] == [3]
    assert found["axis"] == "k"


def test_owners_take_turns_slice_by_slice() -> None:
    jobs, order = SliceJobs(), []

    def work(owner: str, count: int) -> Iterator[Step]:
        for index in range(count):
            order.append(owner)
            yield [{"index": index}]

    names = [jobs.begin("ann", "volume", ABOUT, 6, work("ann", 6)), jobs.begin("ann", "volume", ABOUT, 6, work("ann's second", 6))]
    names.append(jobs.begin("bob", "volume", ABOUT, 3, work("bob", 3)))
    jobs.start()
    ended(jobs, names[2], "bob")
    ended(jobs, names[0])
    ended(jobs, names[1])
    jobs.stop(DEADLINE)
    assert order[:6] == ["ann", "bob", "ann's second", "bob", "ann", "bob"]
    assert sorted(order) == ["ann"] * 6 + ["ann's second"] * 6 + ["bob"] * 3


def test_a_waiting_request_is_told_as_soon_as_there_is_a_slice(jobs: SliceJobs) -> None:
    go = threading.Event()

    def gated() -> Iterator[Step]:
        yield [{"index": 7}]
        go.wait(DEADLINE)
        yield [{"index": 8}]

    name = jobs.begin("ann", "volume", ABOUT, 2, gated())

    async def ask() -> list[dict[str, Any]]:
        first = await jobs.news(name, "ann", after=0, seconds=DEADLINE)
        waiting = asyncio.create_task(jobs.news(name, "ann", after=1, seconds=DEADLINE))
        nothing = await jobs.news(name, "ann", after=1, seconds=0.05)
        go.set()
        return [first, nothing, await waiting]

    started = time.monotonic()
    first, nothing, second = asyncio.run(ask())
    assert time.monotonic() - started < DEADLINE / 2
    assert [item["index"] for item in first["slices"]] == [7]
    assert (nothing["slices"], nothing["state"]) == ([], "running")
    assert [item["index"] for item in second["slices"]] == [8]


def test_cancelling_keeps_what_is_done_and_stops_the_rest(jobs: SliceJobs) -> None:
    reached, go, made = threading.Event(), threading.Event(), []

    def gated() -> Iterator[Step]:
        for index in range(100):
            made.append(index)
            if index == 1:
                reached.set()
                go.wait(DEADLINE)
            yield [{"index": index}]

    name = jobs.begin("ann", "volume", ABOUT, 100, gated())
    assert reached.wait(DEADLINE)
    found = jobs.cancel(name, "ann")
    assert (found["state"], found["done"]) == ("cancelled", 1)
    go.set()
    assert ended(jobs, jobs.begin("ann", "volume", ABOUT, 1, counting(1)))["state"] == "done"
    assert made == [0, 1]
    assert [item["index"] for item in jobs.state(name, "ann")["slices"]] == [0]
    assert jobs.cancel(name, "ann")["state"] == "cancelled"


def test_too_many_jobs_are_refused() -> None:
    jobs = SliceJobs(per_owner=2, in_all=3)  # never started: nothing ends
    first = [jobs.begin("ann", "volume", ABOUT, 1, counting(1)) for _ in range(2)]
    with pytest.raises(BusyError, match="You have 2 jobs") as refused:
        jobs.begin("ann", "volume", ABOUT, 1, counting(1))
    assert refused.value.retry_after > 0
    jobs.begin("bob", "volume", ABOUT, 1, counting(1))
    with pytest.raises(BusyError, match="3 jobs are being worked on"):
        jobs.begin("eve", "volume", ABOUT, 1, counting(1))
    jobs.cancel(first[0], "ann")
    jobs.begin("ann", "volume", ABOUT, 1, counting(1))
    counts = jobs.counts()
    assert (counts.queued, counts.running, counts.ended) == (3, 0, 1)


def test_anothers_job_is_unknown(jobs: SliceJobs) -> None:
    name = jobs.begin("ann", "volume", ABOUT, 1, counting(1))
    for ask in (lambda: jobs.state(name, "bob"), lambda: jobs.cancel(name, "bob"), lambda: jobs.state("0" * 32, "ann")):
        with pytest.raises(NotFoundError, match="no job"):
            ask()
    with pytest.raises(NotFoundError):
        asyncio.run(jobs.news(name, "bob", after=0, seconds=1))


def test_a_failure_is_a_sentence_and_other_jobs_go_on(jobs: SliceJobs) -> None:
    def failing(error: Exception) -> Iterator[Step]:
        yield [{"index": 0}]
        raise error

    known = ended(jobs, jobs.begin("ann", "volume", ABOUT, 9, failing(ImageError("The image is gone."))))
    assert (known["state"], known["detail"], known["done"]) == ("failed", "The image is gone.", 1)
    unknown = ended(jobs, jobs.begin("ann", "volume", ABOUT, 9, failing(ZeroDivisionError("secret detail"))))
    assert unknown["state"] == "failed"
    assert "secret" not in unknown["detail"]
    assert ended(jobs, jobs.begin("ann", "volume", ABOUT, 1, counting(1)))["state"] == "done"


def test_a_job_that_takes_too_long_fails() -> None:
    ticks = iter(range(0, 10**6, 40))
    jobs = SliceJobs(seconds=100, clock=lambda: float(next(ticks)))
    jobs.start()
    found = ended(jobs, jobs.begin("ann", "volume", ABOUT, 50, counting(50)))
    jobs.stop(DEADLINE)
    assert (found["state"], found["done"]) == ("failed", 3)
    assert "100 s" in found["detail"]


def test_long_jobs_are_told_in_parts(jobs: SliceJobs) -> None:
    name = jobs.begin("ann", "volume", ABOUT, 100, counting(100))
    ended(jobs, name)
    first = jobs.state(name, "ann")["slices"]
    assert len(first) == SLICES_PER_REPLY
    assert len(jobs.state(name, "ann", after=first[-1]["number"])["slices"]) == 100 - SLICES_PER_REPLY


def test_only_the_last_finished_jobs_are_remembered(jobs: SliceJobs) -> None:
    names = []
    for _ in range(FINISHED_KEPT + 3):
        names.append(jobs.begin("ann", "volume", ABOUT, 0, counting(0)))
        ended(jobs, names[-1])
    for name in names[:3]:
        with pytest.raises(NotFoundError):
            jobs.state(name, "ann")
    assert jobs.state(names[3], "ann")["state"] == "done"


def test_stopping_cancels_and_ends_the_thread() -> None:
    jobs = SliceJobs()
    jobs.start()
    name = jobs.begin("ann", "volume", ABOUT, 10**9, ([{"index": index}] for index in range(10**9)))
    jobs.stop(DEADLINE)
    assert jobs.state(name, "ann")["state"] == "cancelled"
    assert not any(thread.name == "fedsca-jobs" and thread is jobs._thread for thread in threading.enumerate())
    with pytest.raises(BusyError):
        jobs.begin("ann", "volume", ABOUT, 1, counting(1))
