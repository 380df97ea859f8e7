"""Times at which no round may begin, in the wall-clock time of the schedule's zone. Pure functions; datetimes are local and without zone.

Two kinds: once (`from` and `until` are dates, with or without a time) and weekly (`from` and `until` are times of the day, `days` says on
which). A weekly one whose end is not after its begin goes on past midnight and belongs to the day on which it begins.
"""

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class OnceBlackout:
    """From `begin` (included) to `end` (excluded)."""

    begin: datetime.datetime
    end: datetime.datetime

    def end_of(self, local: datetime.datetime) -> datetime.datetime | None:
        """When the blackout that covers `local` ends; None if it does not cover it."""
        return self.end if self.begin <= local < self.end else None


@dataclass(frozen=True)
class WeeklyBlackout:
    """On each of `days` (0 Monday to 6 Sunday) from `begin` (included) to `end` (excluded)."""

    days: frozenset[int]
    begin: datetime.time
    end: datetime.time

    def end_of(self, local: datetime.datetime) -> datetime.datetime | None:
        """When the blackout that covers `local` ends; None if it does not cover it."""
        for date in (local.date(), local.date() - DAY):
            if date.weekday() in self.days:
                begin = datetime.datetime.combine(date, self.begin)
                end = datetime.datetime.combine(date if self.end > self.begin else date + DAY, self.end)
                if begin <= local < end:
                    return end
        return None


Blackout = OnceBlackout | WeeklyBlackout


def blackout_end(blackouts: Sequence[Blackout], local: datetime.datetime) -> datetime.datetime | None:
    """When the last of those that cover `local` ends; None if none does."""
    return max((end for one in blackouts if (end := one.end_of(local)) is not None), default=None)


def parse_blackout(begin: object, end: object, days: object = None) -> Blackout:
    """A blackout from what stands in the configuration file.

    Args:
        begin, end: both times of the day ("19:00", weekly) or both dates ("2026-12-24" or "2026-12-24 18:00", once); TOML's own times and
            dates are good too. A date without time is its midnight.
        days: names of days ("mon" to "sun") for a weekly one; None means every day.

    Raises:
        ValueError: a sentence that says what was expected.
    """
    first, last = _moment("from", begin), _moment("until", end)
    if isinstance(first, datetime.time) and isinstance(last, datetime.time):
        return WeeklyBlackout(_days(days), first, last)
    if isinstance(first, datetime.datetime) and isinstance(last, datetime.datetime):
        if days is not None:
            raise ValueError("days go with times of the day, not with dates")
        if last <= first:
            raise ValueError(f"it ends ({last}) before it begins ({first})")
        return OnceBlackout(first, last)
    raise ValueError('from and until are of different kinds: expected two times of the day ("19:00") or two dates ("2026-12-24 18:00")')


def _moment(key: str, value: object) -> datetime.time | datetime.datetime:
    """A time of the day, or a date with a time."""
    if isinstance(value, datetime.datetime) and value.tzinfo is None:
        return value
    if isinstance(value, datetime.time):
        return value
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return datetime.datetime.combine(value, datetime.time())
    if isinstance(value, str):
        text = value.strip()
        try:
            if re.fullmatch(r"\d{1,2}:\d{2}(:\d{2})?", text):
                return datetime.time.fromisoformat(text.rjust(5 if text.count(":") == 1 else 8, "0"))
            moment = datetime.datetime.fromisoformat(text)
            if moment.tzinfo is None:
                return moment
        except ValueError:
            pass
    raise ValueError(
        f'{key} is {value!r}, expected a time of the day ("19:00") or a date ("2026-12-24" or "2026-12-24 18:00"), '
        "in the schedule's time zone and so without one"
    )


def _days(value: object) -> frozenset[int]:
    if value is None:
        return frozenset(range(7))
    if not isinstance(value, list) or not value or any(not isinstance(day, str) or day.lower()[:3] not in DAYS for day in value):
        raise ValueError(f'days is {value!r}, expected names, for example ["sat", "sun"]')
    return frozenset(DAYS.index(day.lower()[:3]) for day in value)
