"""What the schedule knows of itself: `<state>/schedule.json`, and how it changes. The changes are pure; `load` and `edit` touch the disk.

    format        1
    next_round    UTC, ISO 8601; null when nothing is planned
    paused        {at, by, reason}, or false
    asked         {at, by}: a person asked for a round now; or null
    settled       due times up to here have been dealt with
    done          the last due times for which a round was begun: none of them is ever begun again, wherever the clock is set
    running       {target, cause, due, started, attempt}, or null: written before the round begins, taken out when its end is written down
    last          {round, outcome, reason, cause, due, started, finished, attempts}, or null
    said          the last sentences about the schedule: [{at, what}]

The supervisor and the commands `now`, `pause` and `resume` change it under <state>/schedule.lock (`edit`); readers need no lock, as the
file is replaced atomically. A process killed at any instant leaves the file before the change or after it.
"""

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from fed_backend.errors import ScheduleError
from sam_adapters import atomic
from sam_adapters.file_lock import locked

SCHEDULE_FILE, LOCK_FILE = "schedule.json", "schedule.lock"
FORMAT = 1
UTC = datetime.UTC
MOST_DONE, MOST_SAID = 200, 50
_LOCK_SECONDS = 30.0

Cause = Literal["schedule", "catch-up", "asked"]
Outcome = Literal["finished", "skipped", "given up"]
T = TypeVar("T")


@dataclass(frozen=True)
class Note:
    """Something that happened at `at` (UTC), in a sentence or by somebody."""

    at: datetime.datetime
    what: str = ""
    by: str = ""


@dataclass(frozen=True)
class RunningRound:
    """A round that was begun and whose end is not written down yet.

    Attributes:
        target: the round's number; a run for it does nothing once the federation has that round behind it.
        cause: why it was begun.
        due: the due time that it is for; None when a person asked.
        started: when it was first begun, UTC.
        attempt: 1 for the first try.
    """

    target: int
    cause: Cause
    due: datetime.datetime | None
    started: datetime.datetime
    attempt: int = 1


@dataclass(frozen=True)
class LastRound:
    """How the last round that the schedule began ended."""

    round: int
    outcome: Outcome
    reason: str
    cause: Cause
    due: datetime.datetime | None
    started: datetime.datetime
    finished: datetime.datetime
    attempts: int


@dataclass(frozen=True)
class Book:
    """See the module."""

    next_round: datetime.datetime | None = None
    paused: Note | None = None
    asked: Note | None = None
    settled: datetime.datetime | None = None
    done: tuple[datetime.datetime, ...] = ()
    running: RunningRound | None = None
    last: LastRound | None = None
    said: tuple[Note, ...] = ()

    def say(self, now: datetime.datetime, what: str) -> "Book":
        """Note a sentence; an empty one is none, and one that was just said is not repeated."""
        if not what or (self.said and self.said[-1].what == what):
            return self
        return dataclasses.replace(self, said=(*self.said, Note(now, what))[-MOST_SAID:])

    def settle(self, until: datetime.datetime, now: datetime.datetime, what: str = "") -> "Book":
        """Deal with the due times up to `until` without a round."""
        return dataclasses.replace(self, settled=until).say(now, what)

    def begin(self, target: int, cause: Cause, due: datetime.datetime | None, now: datetime.datetime) -> "Book":
        """A round begins; this is written before anything of it happens."""
        return dataclasses.replace(
            self,
            asked=None if cause == "asked" else self.asked,
            settled=max(filter(None, (self.settled, due)), default=None),
            done=(*self.done, due)[-MOST_DONE:] if due else self.done,
            running=RunningRound(target, cause, due, now),
        )

    def try_again(self) -> "Book":
        """The running round was interrupted and is begun once more."""
        if self.running is None:
            return self
        return dataclasses.replace(self, running=dataclasses.replace(self.running, attempt=self.running.attempt + 1))

    def end(self, outcome: Outcome, reason: str, now: datetime.datetime) -> "Book":
        """The running round has ended; what was due meanwhile is dealt with by it."""
        run = self.running
        if run is None:
            return self
        last = LastRound(run.target, outcome, reason, run.cause, run.due, run.started, now, run.attempt)
        return dataclasses.replace(self, running=None, last=last, settled=max(filter(None, (self.settled, now))))

    def plan(self, next_round: datetime.datetime | None) -> "Book":
        """Note when the next round is due."""
        return dataclasses.replace(self, next_round=next_round)

    def pause(self, now: datetime.datetime, by: str, reason: str) -> "Book":
        """Begin no round by itself from now on; a second pause changes nothing."""
        return (
            self if self.paused else dataclasses.replace(self, paused=Note(now, reason, by)).say(now, f"Paused by {by}. {reason}".rstrip())
        )

    def resume(self, now: datetime.datetime, by: str) -> "Book":
        """Begin rounds again; those that were due meanwhile are not made up for."""
        if not self.paused:
            return self
        return dataclasses.replace(self, paused=None, settled=max(filter(None, (self.settled, now)))).say(now, f"Resumed by {by}.")

    def ask(self, now: datetime.datetime, by: str) -> "Book":
        """A person wants a round now; asking again before it has begun is the same wish."""
        return self if self.asked else dataclasses.replace(self, asked=Note(now, "", by)).say(now, f"A round was asked for by {by}.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        value = {"format": FORMAT, **_plain(dataclasses.asdict(self))}
        return {**value, "paused": value["paused"] or False}


def load(state: Path) -> Book:
    """Read the book; an empty one where there is no file.

    Raises:
        ScheduleError: it cannot be read.
    """
    path = state / SCHEDULE_FILE
    try:
        return _from_dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Book()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ScheduleError(f"{path} cannot be read ({error}): `fedsca server start` puts it aside and begins anew, paused.") from error


def edit(state: Path, change: Callable[[Book], Book]) -> Book:
    """Change the book on the disk; returns what it is now. A change that changes nothing writes nothing.

    Raises:
        ScheduleError: it cannot be read.
        RegistryError: another process kept it locked for longer than half a minute.
    """
    with locked(state / LOCK_FILE, timeout=_LOCK_SECONDS):
        before = load(state)
        after = change(before)
        if after != before:
            atomic.write_json(state / SCHEDULE_FILE, after.to_dict())
        return after


def told_next_round(state: Path) -> str:
    """What sites are told of the next round: ISO 8601, UTC; "" when nothing is planned or the book cannot be read."""
    try:
        planned = load(state).next_round
    except ScheduleError:
        return ""
    return planned.isoformat() if planned else ""


def put_damaged_aside(state: Path, now: datetime.datetime) -> str:
    """Give a book that cannot be read another name and begin a new, paused one; returns the sentence about it, "" if the book is whole.

    Whether the federation was paused is not known any more, and a pause may have been an order for good reason: so a person resumes.
    """
    with locked(state / LOCK_FILE, timeout=_LOCK_SECONDS):
        try:
            load(state)
            return ""
        except ScheduleError as error:
            aside = state / f"{SCHEDULE_FILE}.damaged"
            if (state / SCHEDULE_FILE).exists():
                (state / SCHEDULE_FILE).replace(aside)
            reason = f"The schedule's file was damaged and lies in {aside.name} now: look at it, then `fedsca server resume`."
            atomic.write_json(state / SCHEDULE_FILE, Book(settled=now).pause(now, "the server", reason).to_dict())
            return f"{error} {reason}"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _from_dict(value: Mapping[str, Any]) -> Book:
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']}, this software knows {FORMAT}")
    running, last = value["running"], value["last"]
    return Book(
        next_round=_time(value["next_round"]),
        paused=_note(value["paused"] or None),
        asked=_note(value["asked"]),
        settled=_time(value["settled"]),
        done=tuple(_require(_time(one)) for one in value["done"]),
        running=None if running is None else RunningRound(**{**running, **_times(running, "due", "started")}),
        last=None if last is None else LastRound(**{**last, **_times(last, "due", "started", "finished")}),
        said=tuple(_require(_note(one)) for one in value["said"]),
    )


def _note(value: Any) -> Note | None:
    return None if value is None else Note(_require(_time(value["at"])), str(value["what"]), str(value["by"]))


def _times(value: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: _time(value[key]) for key in keys}


def _time(value: Any) -> datetime.datetime | None:
    if value is None:
        return None
    moment = datetime.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return moment.astimezone(UTC)


def _require(value: T | None) -> T:
    if value is None:
        raise ValueError("a time or a note is missing")
    return value
