"""When rounds are due: a cron expression in a time zone, less the blackouts. Pure: the present is always a parameter.

The calendar's arithmetic is APScheduler's CronTrigger, on the clock on the wall without any zone: in a zone it adds 24 hours to the day
that has 23, and loses the next midnight. What it would do otherwise than cron or than a federation wants is settled here:

- days of the week count as in cron (0 and 7 are Sunday); APScheduler counts from Monday;
- restricting both the day of the month and the day of the week means "either" to cron and "both" to APScheduler: it is refused;
- an hour that comes twice when summer time ends counts once, its first time; a time that is left out when summer time begins comes an
  hour later by the clock on the wall, so a daily round is neither lost nor done twice;
- a due time within a blackout is left out, not moved.

Every datetime that goes in or comes out has a time zone; what comes out is UTC.
"""

import datetime
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass, field

from apscheduler.triggers.cron import CronTrigger

from fed_backend.schedule.blackout import Blackout, blackout_end

UTC = datetime.UTC
_CRON_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_HORIZON = datetime.timedelta(days=4 * 366)  # whoever plans further ahead than the next 29 February has made a mistake
_TICK = datetime.timedelta(microseconds=1)
_LONGEST_STEP = datetime.timedelta(hours=3)  # by which a zone's clock is ever set back
_MOST_LEFT_OUT = 100_000  # due times in a row within blackouts; with one a minute that is ten weeks


@dataclass(frozen=True)
class Timetable:
    """When rounds are due.

    Attributes:
        cron: five fields: minute, hour, day of the month, month, day of the week; "" plans nothing.
        zone: the time zone in which the fields, and the blackouts, are meant.
        blackouts: when no round may begin.
    """

    cron: str = ""
    zone: zoneinfo.ZoneInfo = field(default_factory=lambda: zoneinfo.ZoneInfo("UTC"))
    blackouts: Sequence[Blackout] = ()
    _trigger: CronTrigger | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a sentence that says what is wrong with the expression.
        """
        trigger = CronTrigger.from_crontab(_for_apscheduler(self.cron), timezone=UTC) if self.cron.strip() else None
        object.__setattr__(self, "_trigger", trigger)

    def next_after(self, moment: datetime.datetime) -> datetime.datetime | None:
        """The first due time after `moment`; None if there is none within four years, or none at all."""
        if self._trigger is None:
            return None
        wall = moment.astimezone(self.zone).replace(tzinfo=UTC) - _LONGEST_STEP
        for _ in range(_MOST_LEFT_OUT):
            found = self._trigger.get_next_fire_time(None, wall)
            if found is None:
                return None
            wall, due = found + _TICK, self._on_the_wall(found)
            if due > moment + _HORIZON:
                return None
            if due > moment and self.blackout_until(due) is None:
                return due
        return None

    def last_between(self, after: datetime.datetime, until: datetime.datetime) -> datetime.datetime | None:
        """The last due time later than `after` and not later than `until`; None if there is none.

        However many there are, they count as one: a server that was off for a night makes up for one round, not for all.
        """
        found, moment = None, self.next_after(after)
        while moment is not None and moment <= until:
            found, moment = moment, self.next_after(moment)
        return found

    def blackout_until(self, moment: datetime.datetime) -> datetime.datetime | None:
        """When the blackout that covers `moment` ends, UTC; None if there is none."""
        end = blackout_end(self.blackouts, moment.astimezone(self.zone).replace(tzinfo=None))
        return None if end is None else end.replace(tzinfo=self.zone).astimezone(UTC)

    def _on_the_wall(self, wall: datetime.datetime) -> datetime.datetime:
        """When the zone's clock on the wall shows `wall`, UTC: the first time if it does so twice, an hour later if it never does."""
        return wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)


def parse_zone(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of that name.

    Raises:
        ValueError: there is none.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone that this machine knows, expected one such as Europe/Berlin or UTC") from error


def _for_apscheduler(cron: str) -> str:
    """The expression with the days of the week by name.

    Raises:
        ValueError: not five fields, or both kinds of days are restricted, or a day of the week that cannot be read.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(
            f"{cron!r} has {len(fields)} fields, expected five: minute, hour, day of the month, month, day of the week; "
            'for example "0 2 * * *" (every night at two)'
        )
    if fields[2] not in ("*", "?") and fields[4] not in ("*", "?"):
        raise ValueError(
            f"{cron!r} names days of the month and days of the week, which programs understand differently: leave one of the two fields *"
        )
    fields = ["*" if one == "?" else one.lower() for one in fields]
    if fields[4] != "*":
        fields[4] = _days_of_week(fields[4])
    return " ".join(fields)


def _days_of_week(text: str) -> str:
    """`1-5`, `sun`, `0,3`, `*/2`, `fri-mon` as a list of names."""
    days: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?", part)
        if match is None:
            raise ValueError(f"day of the week {part!r} cannot be read, expected for example 1-5, mon-fri or sat,sun")
        begin, end, step = match.groups()
        first = 0 if begin == "*" else _day_number(begin)
        last = 6 if begin == "*" or (step and not end) else _day_number(end) if end else first
        if end and last < first:
            last += 7  # fri-mon
        if step == "0":
            raise ValueError(f"day of the week {part!r} has a step of 0, expected 1 or more")
        days += [_CRON_DAYS[number % 7] for number in range(first, last + 1, int(step or 1))]
    return ",".join(dict.fromkeys(days))


def _day_number(text: str) -> int:
    if text in _CRON_DAYS:
        return _CRON_DAYS.index(text)
    if text.isdigit() and int(text) <= 7:
        return int(text)
    raise ValueError(f"day of the week {text!r} cannot be read, expected 0 (Sunday) to 7 (Sunday) or sun, mon, tue, wed, thu, fri, sat")
