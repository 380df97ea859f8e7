"""Jobs of many slices: begun by a request, worked on in the background, asked about while they run.

All jobs share one thread and take turns after every slice (on a GPU, after every batch): the owner who waited longest comes first, and of
that owner's jobs the one that waited longest, so that nobody waits for another's whole volume. Clicks go before jobs in the network's own
queue. Slices can be used as soon as they are finished.

Threads: one daemon thread, started by the server process only, does the work. `_changed` guards the jobs and is held for dictionary work
only, never during work and never while another lock is taken. Requests that wait for news do not hold a thread: they wait on asyncio events
of their own loop, which the working thread sets.
Deadlines: a job ends `JOB_SECONDS` after it began; a request waits for news at most as long as it says.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from monailabel_app.app_errors import BusyError, NotFoundError
from sam_adapters.errors import FedscaError

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "cancelled", "failed"]
Step = list[dict[str, Any]]
"""What one step of work brings: slices as replies show them, without `number`."""

JOBS_PER_OWNER = 2
JOBS_IN_ALL = 8
FINISHED_KEPT = 32
"""Jobs that have ended and can still be asked about; one more forgets the one that ended first."""
JOB_SECONDS = 3600.0
SLICES_PER_REPLY = 64
RETRY_SECONDS = 5
LOOK_SECONDS = 60.0


@dataclass(eq=False)
class _Job:
    name: str
    owner: str
    kind: str
    about: Mapping[str, Any]
    work: Iterator[Step] | None
    total: int
    begun: float
    turn: int = 0
    state: State = "queued"
    detail: str | None = None
    slices: list[dict[str, Any]] = field(default_factory=list)
    listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = field(default_factory=set)

    @property
    def ended(self) -> bool:
        return self.state in ("done", "cancelled", "failed")


@dataclass(frozen=True)
class JobCounts:
    """Jobs that wait for their first slice, that have some, and that have ended and are still known."""

    queued: int
    running: int
    ended: int


class SliceJobs:
    """See the module.

    Args:
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        *,
        per_owner: int = JOBS_PER_OWNER,
        in_all: int = JOBS_IN_ALL,
        seconds: float = JOB_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_owner = per_owner
        self._in_all = in_all
        self._seconds = seconds
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._turns = 0
        self._served: dict[str, int] = {}
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="fedsca-jobs", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Cancel all jobs, ask the thread to end after the step in flight, and wait for it, at most `timeout` seconds."""
        with self._changed:
            self._stopping = True
            for job in [job for job in self._jobs.values() if not job.ended]:
                self._end(job, "cancelled", "The server is being stopped.")
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def begin(self, owner: str, kind: str, about: Mapping[str, Any], total: int, work: Iterator[Step]) -> str:
        """Queue a job; returns its id, which cannot be guessed.

        Args:
            about: what replies say of it.
            total: slices at most.
            work: gives a step's slices each time it is asked, from the working thread only; nobody asks it any more once the job has ended.

        Raises:
            BusyError: this owner, or all together, have too many jobs that have not ended.
        """
        with self._changed:
            active = [job for job in self._jobs.values() if not job.ended]
            if self._stopping or len(active) >= self._in_all:
                raise BusyError(f"{len(active)} jobs are being worked on, expected at most {self._in_all}: ask again later.", RETRY_SECONDS)
            own = sum(job.owner == owner for job in active)
            if own >= self._per_owner:
                raise BusyError(
                    f"You have {own} jobs that have not ended, expected at most {self._per_owner}: wait, or cancel one.", RETRY_SECONDS
                )
            name = secrets.token_hex(16)
            self._jobs[name] = _Job(name, owner, kind, dict(about), work, total, self._clock())
            self._forget_old()
            self._changed.notify_all()
        return name

    def cancel(self, name: str, owner: str) -> dict[str, Any]:
        """Stop a job; its finished slices stay. One that has ended stays as it is. Returns and raises as `state`."""
        with self._changed:
            job = self._find(name, owner)
            if not job.ended:
                self._end(job, "cancelled", None)
            return _shown(job, after=len(job.slices))

    def state(self, name: str, owner: str, *, after: int = 0) -> dict[str, Any]:
        """How far a job is, with its slices whose number is above `after`, at most `SLICES_PER_REPLY` of them.

        Raises:
            NotFoundError: this owner has no such job, or it ended long ago.
        """
        with self._changed:
            return _shown(self._find(name, owner), after)

    async def news(self, name: str, owner: str, *, after: int, seconds: float) -> dict[str, Any]:
        """As `state`, once there is a slice above `after` or the job has ended; at the latest after `seconds`."""
        event = asyncio.Event()
        listener = (asyncio.get_running_loop(), event)
        with self._changed:
            job = self._find(name, owner)
            if seconds <= 0 or job.ended or len(job.slices) > after:
                return _shown(job, after)
            job.listeners.add(listener)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass  # no news: the state says so
        finally:
            with self._changed:
                job.listeners.discard(listener)
        with self._changed:
            return _shown(job, after)

    def counts(self) -> JobCounts:
        """See `JobCounts`."""
        with self._changed:
            states = [job.state for job in self._jobs.values()]
        queued, running = states.count("queued"), states.count("running")
        return JobCounts(queued, running, len(states) - queued - running)

    @property
    def busy(self) -> bool:
        """Whether any job has not ended."""
        with self._changed:
            return any(not job.ended for job in self._jobs.values())

    # --- the thread -------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                while job is None and not self._stopping:
                    self._changed.wait(LOOK_SECONDS)
                    job = self._next()
                if self._stopping or job is None:
                    return
                self._turns += 1
                job.turn = self._served[job.owner] = self._turns
                job.state = "running"
                work = job.work
            self._step(job, work)

    def _next(self) -> _Job | None:
        active = [job for job in self._jobs.values() if not job.ended]
        return min(active, key=lambda job: (self._served.get(job.owner, 0), job.turn)) if active else None

    def _step(self, job: _Job, work: Iterator[Step] | None) -> None:
        """Work on one job for one step, without the lock, and note what came of it."""
        found: Step | None = None
        state: State | None = None
        detail: str | None = None
        try:
            found = next(work, None) if work is not None else None
            if found is None:
                state = "done"
        except (FedscaError, OSError) as error:
            state, detail = "failed", str(error)
        except Exception:
            logger.exception("A job of kind %s failed", job.kind)
            state, detail = "failed", "The job failed for a reason that the server's log tells."
        with self._changed:
            if job.ended:  # cancelled meanwhile: what the step found is not wanted any more
                return
            if found is not None:
                job.slices += [{"number": len(job.slices) + place, **item} for place, item in enumerate(found, 1)]
                if self._clock() - job.begun > self._seconds:
                    state, detail = "failed", f"The job was not finished after {self._seconds:.0f} s: ask for fewer slices."
            if state is not None:
                self._end(job, state, detail)
            else:
                _tell(job)

    # --- with the lock held -----------------------------------------------------------------------------------------------------------

    def _find(self, name: str, owner: str) -> _Job:
        job = self._jobs.get(name)
        if job is None or job.owner != owner:
            raise NotFoundError(f"There is no job {name[:40]!a} of yours here, or it ended long ago.")
        return job

    def _end(self, job: _Job, state: State, detail: str | None) -> None:
        job.state, job.detail, job.work = state, detail, None
        if state == "done":
            job.total = len(job.slices)
        self._jobs[job.name] = self._jobs.pop(job.name)  # in the order of ending
        self._forget_old()
        _tell(job)

    def _forget_old(self) -> None:
        ended = [name for name, job in self._jobs.items() if job.ended]
        for name in ended[: max(0, len(ended) - FINISHED_KEPT)]:
            del self._jobs[name]
        owners = {job.owner for job in self._jobs.values()}
        self._served = {owner: turn for owner, turn in self._served.items() if owner in owners}


def _tell(job: _Job) -> None:
    """Wake the requests that wait for news of this job."""
    for loop, event in job.listeners:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)


def _shown(job: _Job, after: int) -> dict[str, Any]:
    return {
        "job": job.name,
        "kind": job.kind,
        **job.about,
        "state": job.state,
        "done": len(job.slices),
        "total": job.total,
        "slices": job.slices[max(0, after) : max(0, after) + SLICES_PER_REPLY],
        "detail": job.detail,
    }
