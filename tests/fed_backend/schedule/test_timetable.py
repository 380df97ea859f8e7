"""When rounds are due: calendars with answers worked out by hand, summer time, blackouts, and properties over years."""

import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_backend.schedule.blackout import OnceBlackout, WeeklyBlackout, parse_blackout
from fed_backend.schedule.timetable import Timetable, parse_zone

UTC, BERLIN = datetime.UTC, ZoneInfo("Europe/Berlin")


def at(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(timetable: Timetable, after: str, count: int) -> list[str]:
    moment, found = at(after), []
    for _ in range(count):
        following = timetable.next_after(moment)
        assert following is not None
        moment = following
        found.append(moment.strftime("%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 2 * * *", ["01-01 02:00", "01-02 02:00"]),
        ("30 20 * * mon-fri", ["01-01 20:30", "01-02 20:30", "01-05 20:30"]),  # 1 January 2026 is a Thursday
        ("0 3 * * 0", ["01-04 03:00", "01-11 03:00"]),  # 0 is Sunday
        ("0 3 * * 7", ["01-04 03:00"]),
        ("0 3 * * 1-5/2", ["01-02 03:00", "01-05 03:00", "01-07 03:00"]),
        ("0 3 * * fri-mon", ["01-02 03:00", "01-03 03:00", "01-04 03:00", "01-05 03:00", "01-09 03:00"]),
        ("0 3 * * */3", ["01-03 03:00", "01-04 03:00", "01-07 03:00"]),  # Sunday, Wednesday, Saturday
        ("*/20 5 1 2 *", ["02-01 05:00", "02-01 05:20", "02-01 05:40"]),
    ],
)
def test_fields_mean_what_cron_means(cron: str, expected: list[str]) -> None:
    assert due(Timetable(cron), "2026-01-01 00:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("0 2 * *", "has 4 fields, expected five"),
        ("61 2 * * *", "61"),
        ("0 2 1 * mon", "days of the month and days of the week"),
        ("0 2 * * 8", "expected 0 .Sunday. to 7"),
        ("0 2 * * noday", "noday"),
        ("0 2 * * */0", "step of 0"),
        ("0 2 * * 1-", "cannot be read"),
    ],
)
def test_an_expression_that_cannot_be_used_is_refused(cron: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Timetable(cron)


def test_nothing_planned_and_never() -> None:
    assert Timetable().next_after(at("2026-01-01 00:00")) is None
    assert Timetable("0 2 30 2 *").next_after(at("2026-01-01 00:00")) is None
    always = WeeklyBlackout(frozenset(range(7)), datetime.time(), datetime.time())
    assert Timetable("0 2 * * *", BERLIN, [always]).next_after(at("2026-01-01 00:00")) is None


def test_the_hour_that_is_left_out_in_spring_costs_no_round() -> None:
    # On 29 March 2026 clocks in Berlin go from 02:00 to 03:00: 02:30 comes at 01:30 UTC, when they show 03:30.
    assert due(Timetable("30 2 * * *", BERLIN), "2026-03-28 00:00", 3) == ["03-28 01:30", "03-29 01:30", "03-30 00:30"]


def test_the_hour_that_comes_twice_in_autumn_counts_once() -> None:
    # On 25 October 2026 02:30 comes at 00:30 UTC and again at 01:30 UTC.
    assert due(Timetable("30 2 * * *", BERLIN), "2026-10-24 00:00", 3) == ["10-24 00:30", "10-25 00:30", "10-26 01:30"]
    assert due(Timetable("0 * * * *", BERLIN), "2026-10-24 23:30", 3) == ["10-25 00:00", "10-25 02:00", "10-25 03:00"]


def test_the_midnight_after_summer_time_begins_is_not_lost() -> None:
    assert due(Timetable("0 0 * * *", BERLIN), "2026-03-28 12:00", 3) == ["03-28 23:00", "03-29 22:00", "03-30 22:00"]


@given(start=st.datetimes(datetime.datetime(2024, 1, 1), datetime.datetime(2034, 1, 1)), minute=st.integers(0, 59), hour=st.integers(0, 23))
@settings(max_examples=300)
def test_a_daily_round_comes_once_on_every_day(start: datetime.datetime, minute: int, hour: int) -> None:
    timetable, moment = Timetable(f"{minute} {hour} * * *", BERLIN), start.replace(tzinfo=UTC)
    days = []
    for _ in range(14):
        following = timetable.next_after(moment)
        assert following is not None
        assert following > moment
        moment = following
        days.append(moment.astimezone(BERLIN).date())
    assert days == [days[0] + datetime.timedelta(days=number) for number in range(14)]


def test_many_missed_due_times_are_one() -> None:
    hourly = Timetable("0 * * * *")
    assert hourly.last_between(at("2026-01-01 00:00"), at("2026-01-01 09:30")) == at("2026-01-01 09:00")
    assert hourly.last_between(at("2026-01-01 09:00"), at("2026-01-01 09:59")) is None
    assert hourly.last_between(at("2026-01-01 09:00"), at("2026-01-01 10:00")) == at("2026-01-01 10:00")


def test_blackouts_leave_due_times_out() -> None:
    nights = parse_blackout("19:00", "07:00", ["fri", "sat"])  # from Friday evening to Saturday morning, and the next night
    timetable = Timetable("0 */6 * * *", UTC_ZONE, [nights])
    # 2 January 2026 is a Friday: the due times at 00:00 and 06:00 of Saturday and Sunday are within.
    assert due(timetable, "2026-01-02 12:30", 4) == ["01-02 18:00", "01-03 12:00", "01-03 18:00", "01-04 12:00"]
    assert timetable.blackout_until(at("2026-01-03 03:00")) == at("2026-01-03 07:00")
    assert timetable.blackout_until(at("2026-01-03 07:00")) is None
    feast = parse_blackout("2026-12-24 12:00", datetime.date(2026, 12, 27))
    assert due(Timetable("0 2 * * *", BERLIN, [feast]), "2026-12-23 12:00", 3) == ["12-24 01:00", "12-27 01:00", "12-28 01:00"]


UTC_ZONE = ZoneInfo("UTC")


def test_blackouts_are_read_from_texts_and_from_tomls_own_times() -> None:
    weekly = WeeklyBlackout(frozenset({0, 1}), datetime.time(7), datetime.time(19, 30))
    assert parse_blackout("7:00", datetime.time(19, 30), ["Monday", "tue"]) == weekly
    once = OnceBlackout(datetime.datetime(2026, 12, 24), datetime.datetime(2026, 12, 26, 8))
    assert parse_blackout("2026-12-24", "2026-12-26T08:00") == once


@pytest.mark.parametrize(
    ("begin", "end", "days", "words"),
    [
        ("07:00", "2026-12-24", None, "different kinds"),
        (None, "19:00", None, "from is None"),
        ("25:00", "19:00", None, "from is '25:00'"),
        ("2026-12-24", "2026-12-24", None, "before it begins"),
        ("2026-12-24", "2026-12-25", ["mon"], "days go with times of the day"),
        ("07:00", "19:00", ["someday"], "days is"),
        ("07:00", "19:00", "mon", "days is"),
        ("2026-12-24T00:00+01:00", "2026-12-25", None, "without one"),
    ],
)
def test_a_blackout_that_cannot_be_used_is_refused(begin: object, end: object, days: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_blackout(begin, end, days)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse_zone("Europe/Nowhere")
    with pytest.raises(ValueError, match="no time zone"):
        parse_zone("../etc/passwd")
