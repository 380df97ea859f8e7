"""Begins rounds when they are due or asked for, one at a time, and writes down how each ended. Used from the main thread only.

What makes a round count once: its number is fixed and written into the book before anything happens, a run for that number does nothing
when the federation has it behind it, and whether it is over is read from the federation's state alone. So a round may be interrupted at
any instant, by the end of the SuperLink, of the round's process or of this one, and is then run again until it is over, or given up after
`MOST_ATTEMPTS` with the reason written down; the next due round goes on with the same number. While a run that lost its process is still
at work in the SuperLink (it holds <state>/server.lock), it is waited for.
"""

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

from fed_backend.errors import ScheduleError, ServerStateError
from fed_backend.schedule import book as books
from fed_backend.schedule.book import Book, RunningRound
from fed_backend.schedule.child import Child, Starter
from fed_backend.schedule.clock import Clock
from fed_backend.schedule.decision import Begin, Settle, decide, planned
from fed_backend.schedule.round_outcome import Ended, outcome_of, read_problem, rounds_behind, run_at_work
from fed_backend.schedule.server_plan import plain_environment, round_argv
from fed_backend.schedule.timetable import Timetable

log = getLogger(__name__)

MOST_ATTEMPTS = 5
FIRST_RETRY_SECONDS, STOP_SECONDS = 5.0, 5.0
STALE = datetime.timedelta(hours=1)
"""An interrupted round is finished up to this age at least, however short the catch-up window is."""


@dataclass
class RoundKeeper:
    """See the module.

    Attributes:
        state: the server's state folder.
        timetable: when rounds are due.
        catch_up: how old a missed due time may be to be made up for.
        longest: seconds after which a round's process is ended, because every wait in it has.
        start: starts its process.
        at_work: whether a run is at work in the SuperLink.
    """

    state: Path
    timetable: Timetable
    catch_up: datetime.timedelta
    longest: float
    start: Starter
    clock: Clock
    at_work: Callable[[Path], bool] = run_at_work
    _child: Child | None = None
    _begun: float = 0.0
    _first_begun: tuple[datetime.datetime, float] | None = None
    """The round that was begun here, by its `started`, and when by the clock that never jumps."""
    _retry_at: float = 0.0

    @property
    def child(self) -> Child | None:
        """The round's process, if one runs."""
        return self._child

    def tick(self, *, ready: bool) -> None:
        """Look after the rounds once.

        Args:
            ready: the SuperLink is up and nothing is about to stop: a round may begin.

        Raises:
            OSError: the book or a report cannot be written; nothing was begun.
        """
        book = self._book()
        if self._child is not None:
            self._watch(book, self._child)
        elif book.running is not None:
            if ready and self.clock.monotonic() >= self._retry_at:
                self._take_up(book, book.running)
        elif ready:
            self._by_schedule(book)
        self._tell_next()

    def interrupt(self) -> None:
        """The SuperLink is gone: end the round's process; the round is taken up again when the SuperLink is back."""
        if self._child is not None:
            log.warning("The round is interrupted; it is taken up again.")
            self._child.stop(STOP_SECONDS)

    # --- inside -----------------------------------------------------------------------------------------------------------------------

    def _book(self) -> Book:
        try:
            return books.load(self.state)
        except ScheduleError:
            log.error("%s", books.put_damaged_aside(self.state, self.clock.now()))
            return books.load(self.state)

    def _by_schedule(self, book: Book) -> None:
        now = self.clock.now()
        decision = decide(book, self.timetable, now, self.catch_up)
        if isinstance(decision, Settle):
            if decision.what:
                log.warning("%s", decision.what)
            self._edit(lambda found: found.settle(decision.until, now, decision.what))
        elif isinstance(decision, Begin):
            self._begin(decision, now)

    def _begin(self, decision: Begin, now: datetime.datetime) -> None:
        try:
            target = rounds_behind(self.state) + 1
        except ServerStateError as error:
            reason = str(error)
            log.error("A round is due but cannot begin. %s", reason)
            self._edit(lambda found: found.begin(0, decision.cause, decision.due, now).end("given up", reason, now))
            return
        book = self._edit(lambda found: found.begin(target, decision.cause, decision.due, now))
        log.info("Round %d begins (%s).", target, decision.cause)
        if book.running is not None:
            self._first_begun = (book.running.started, self.clock.monotonic())
            self._run(book.running)

    def _age(self, running: RunningRound) -> datetime.timedelta:
        """Since the round was begun: by the clock on the wall only if another process began it."""
        if self._first_begun is not None and self._first_begun[0] == running.started:
            return datetime.timedelta(seconds=self.clock.monotonic() - self._first_begun[1])
        return self.clock.now() - running.started

    def _run(self, running: RunningRound) -> None:
        self._begun = self.clock.monotonic()
        self._child = self.start(round_argv(self.state, running.target), plain_environment())

    def _watch(self, book: Book, child: Child) -> None:
        if child.ended() is None:
            if self.clock.monotonic() - self._begun < self.longest:
                return
            log.error("The round's process has not ended after %.0f s, longer than all its waits together: it is ended.", self.longest)
        child.stop(STOP_SECONDS)
        self._child = None
        if book.running is not None and not self._ended(book.running):
            wait = FIRST_RETRY_SECONDS * 2 ** (book.running.attempt - 1)
            self._retry_at = self.clock.monotonic() + wait
            reason = read_problem(self.state, book.running.target)
            log.warning("Round %d was interrupted, and is taken up in %.0f s. %s", book.running.target, wait, reason)

    def _take_up(self, book: Book, running: RunningRound) -> None:
        """Go on with a round that was begun and has no end."""
        if self._ended(running):
            return
        if self.at_work(self.state) and self._age(running) < datetime.timedelta(seconds=self.longest):
            self._retry_at = self.clock.monotonic() + FIRST_RETRY_SECONDS
            return
        why = read_problem(self.state, running.target)
        if running.attempt >= MOST_ATTEMPTS:
            self._end(Ended("given up", f"It was begun {running.attempt} times and never ended. {why}".rstrip()))
        elif self._age(running) > max(self.catch_up, STALE):
            self._end(Ended("given up", f"It was interrupted too long ago to be taken up. {why}".rstrip()))
        else:
            again = self._edit(lambda found: found.try_again())
            log.info("Round %d is taken up, attempt %d.", running.target, running.attempt + 1)
            if again.running is not None:
                self._run(again.running)

    def _ended(self, running: RunningRound) -> bool:
        """Whether it is over; then its end is written down."""
        try:
            ended = outcome_of(self.state, running.target)
        except ServerStateError as error:
            ended = Ended("given up", str(error))
        if ended is not None:
            self._end(ended)
        return ended is not None

    def _end(self, ended: Ended) -> None:
        book = self._edit(lambda found: found.end(ended.outcome, ended.reason, self.clock.now()))
        if book.last is not None:
            log.info("Round %d: %s. %s", book.last.round, ended.outcome, ended.reason)

    def _tell_next(self) -> None:
        """Keep `next_round` true, for the page and the sites."""
        now = self.clock.now()
        self._edit(lambda found: found.plan(None if found.paused else planned(found, self.timetable, now)))

    def _edit(self, change: Callable[[Book], Book]) -> Book:
        return books.edit(self.state, change)
