"""What the schedule does at a moment: a pure function of the book, the timetable and the clock.

Its rules:

- one catch-up: however many due times have passed (the server was off, the clock jumped forward), they count as one;
- a due time older than the catch-up window is left out, and said so;
- wherever the clock is set back to, a due time for which a round was begun is never begun again;
- a pause stops the schedule, not a person: who asks for a round gets it, also within a blackout;
- a catch-up waits for the end of a blackout.
"""

import datetime
from dataclasses import dataclass

from fed_backend.schedule.book import Book, Cause
from fed_backend.schedule.timetable import Timetable

LATE = datetime.timedelta(minutes=2)
"""From here on a round is called a catch-up."""
JITTER = datetime.timedelta(seconds=5)
"""The clock goes back by so much without a word: time servers do that."""


@dataclass(frozen=True)
class Begin:
    """Begin a round."""

    cause: Cause
    due: datetime.datetime | None = None


@dataclass(frozen=True)
class Settle:
    """Deal with the due times up to `until` without a round, and say why, if there is something to say."""

    until: datetime.datetime
    what: str = ""


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done."""


Decision = Begin | Settle | Wait


def decide(book: Book, timetable: Timetable, now: datetime.datetime, catch_up: datetime.timedelta) -> Decision:
    """What to do at `now`.

    Args:
        catch_up: up to this age a missed due time is made up for.
    """
    if book.running is not None:
        return Wait()
    if book.settled is None:
        return Settle(now)  # nothing was due before the schedule existed
    if now < book.settled:
        back = book.settled - now
        return Settle(now, "" if back < JITTER else f"The clock was set back by {_span(back)}: no round is repeated.")
    if book.asked is not None:
        return Begin("asked")
    return Wait() if book.paused is not None else _by_timetable(book, book.settled, timetable, now, catch_up)


def planned(book: Book, timetable: Timetable, now: datetime.datetime) -> datetime.datetime | None:
    """The next due time after `now` for which no round was begun; None if nothing is planned."""
    moment = timetable.next_after(now)
    while moment is not None and moment in book.done:
        moment = timetable.next_after(moment)
    return moment


def _by_timetable(
    book: Book, settled: datetime.datetime, timetable: Timetable, now: datetime.datetime, catch_up: datetime.timedelta
) -> Decision:
    due = timetable.last_between(max(settled, now - catch_up), now)
    if due is None:
        missed = timetable.next_after(settled)
        if missed is not None and missed <= now:
            return Settle(now, f"Rounds due since {_minute(missed)} were missed by more than {_span(catch_up)}: they are left out.")
        return Wait()
    if due in book.done:
        return Settle(due)
    late = now - due >= LATE
    if late and timetable.blackout_until(now) is not None:
        return Wait()
    return Begin("catch-up" if late else "schedule", due)


def _span(span: datetime.timedelta) -> str:
    hours = span / datetime.timedelta(hours=1)
    return f"{hours:.1f} h" if hours >= 1 else f"{span.total_seconds():.0f} s"


def _minute(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
