"""What the schedule does at a moment, above all when the clock is not what it was; and the book that remembers it."""

import datetime
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_backend.errors import ScheduleError
from fed_backend.schedule import book as books
from fed_backend.schedule.blackout import parse_blackout
from fed_backend.schedule.book import Book, Cause
from fed_backend.schedule.decision import Begin, Settle, Wait, decide, planned
from fed_backend.schedule.timetable import Timetable, parse_zone

HOURLY = Timetable("0 * * * *")
HALF_A_DAY = datetime.timedelta(hours=12)
NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def later(**span: float) -> datetime.datetime:
    return NOON + datetime.timedelta(**span)


def after_one(book: Book, now: datetime.datetime) -> Book:
    """Do what is decided, with a round that takes no time."""
    decision = decide(book, HOURLY, now, HALF_A_DAY)
    if isinstance(decision, Settle):
        return book.settle(decision.until, now, decision.what)
    if isinstance(decision, Begin):
        return book.begin(len(book.done) + 1, decision.cause, decision.due, now).end("finished", "", now)
    return book


def test_before_the_first_day_nothing_was_due() -> None:
    assert decide(Book(), HOURLY, NOON, HALF_A_DAY) == Settle(NOON)


def test_a_due_time_begins_a_round_once() -> None:
    book = Book(settled=later(minutes=-1))
    assert decide(book, HOURLY, later(seconds=-1), HALF_A_DAY) == Wait()
    assert decide(book, HOURLY, later(seconds=1), HALF_A_DAY) == Begin("schedule", NOON)
    begun = book.begin(1, "schedule", NOON, later(seconds=1))
    assert decide(begun, HOURLY, later(minutes=30), HALF_A_DAY) == Wait()
    assert decide(begun.end("finished", "", later(minutes=30)), HOURLY, later(minutes=31), HALF_A_DAY) == Wait()


def test_a_night_without_power_is_one_catch_up() -> None:
    book = Book(settled=later(hours=-8))
    assert decide(book, HOURLY, later(minutes=20), HALF_A_DAY) == Begin("catch-up", NOON)
    done = after_one(book, later(minutes=20))
    assert decide(done, HOURLY, later(minutes=21), HALF_A_DAY) == Wait()
    assert planned(done, HOURLY, later(minutes=21)) == later(hours=1)


def test_what_was_missed_too_long_ago_is_left_out_and_said() -> None:
    weekly = Timetable("0 2 * * mon")
    book = Book(settled=later(days=-5))  # Monday, 29 December
    decision = decide(book, weekly, NOON, HALF_A_DAY)
    assert decision == Settle(NOON, "Rounds due since 2025-12-29 02:00 UTC were missed by more than 12.0 h: they are left out.")
    assert decide(book, weekly, NOON, datetime.timedelta(days=4)) == Begin(
        "catch-up", datetime.datetime(2025, 12, 29, 2, tzinfo=datetime.UTC)
    )


def test_a_round_that_takes_longer_than_the_next_due_time_is_not_followed_by_another_at_once() -> None:
    book = Book(settled=later(minutes=-1)).begin(1, "schedule", NOON, NOON).end("finished", "", later(hours=2, minutes=10))
    assert decide(book, HOURLY, later(hours=2, minutes=11), HALF_A_DAY) == Wait()


def test_a_clock_that_is_set_back_repeats_nothing_and_stops_nothing() -> None:
    ran = after_one(Book(settled=later(minutes=-1)), NOON)
    back = decide(ran, HOURLY, later(hours=-3, minutes=1), HALF_A_DAY)
    assert back == Settle(later(hours=-3, minutes=1), "The clock was set back by 3.0 h: no round is repeated.")
    book = ran.settle(later(hours=-3, minutes=1), later(hours=-3))
    # Due times that never ran do run; the one at noon, which did, does not.
    assert decide(book, HOURLY, later(hours=-2), HALF_A_DAY) == Begin("schedule", later(hours=-2))
    assert planned(book, HOURLY, later(minutes=-30)) == later(hours=1)
    book = book.settle(later(minutes=-30), NOON)
    assert decide(book, HOURLY, later(minutes=5), HALF_A_DAY) == Settle(NOON)
    # A clock that was years ahead for a moment has cost one round, and the schedule goes on.
    wrong = after_one(Book(settled=later(minutes=-1)), later(days=4000))
    assert len(wrong.done) == 1
    right = after_one(wrong, later(minutes=10))
    assert decide(right, HOURLY, later(hours=1), HALF_A_DAY) == Begin("schedule", later(hours=1))


def test_a_time_server_may_turn_the_clock_back_a_little_without_a_word() -> None:
    assert decide(Book(settled=NOON), HOURLY, later(seconds=-2), HALF_A_DAY) == Settle(later(seconds=-2), "")


@given(st.lists(st.integers(-40, 40).map(lambda step: step * 13), min_size=1, max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_the_clock_does_no_due_time_begins_two_rounds(steps: list[int]) -> None:
    """The clock jumps by minutes, to and fro; between two jumps the schedule looks twice."""
    now, book, begun = NOON, Book(settled=NOON), []
    for minutes in steps:
        now += datetime.timedelta(minutes=minutes)
        for _ in range(2):
            before = book.done
            book = after_one(book, now)
            begun += book.done[len(before) :]
            now += datetime.timedelta(seconds=1)
    assert len(begun) == len(set(begun))
    assert len(begun) <= len(steps) + 1  # never a burst


def test_a_person_is_served_while_the_schedule_is_paused() -> None:
    paused = Book(settled=later(minutes=-1)).pause(later(minutes=-1), "Kim", "Holidays.")
    assert decide(paused, HOURLY, later(hours=3), HALF_A_DAY) == Wait()
    asked = paused.ask(later(hours=3), "Kim").ask(later(hours=3, minutes=1), "Lee")
    assert decide(asked, HOURLY, later(hours=3), HALF_A_DAY) == Begin("asked")
    assert asked.asked is not None
    assert asked.asked.by == "Kim"
    resumed = paused.resume(later(hours=3), "Kim")
    assert decide(resumed, HOURLY, later(hours=3, minutes=1), HALF_A_DAY) == Wait()  # nothing is made up for
    assert [note.what for note in resumed.said] == ["Paused by Kim. Holidays.", "Resumed by Kim."]


def test_a_catch_up_waits_for_the_end_of_a_blackout() -> None:
    zone = parse_zone("UTC")
    timetable = Timetable("0 * * * *", zone, [parse_blackout("12:30", "14:10")])
    book = Book(settled=later(minutes=-30))
    assert decide(book, timetable, later(minutes=45), HALF_A_DAY) == Wait()
    assert decide(book, timetable, later(hours=2, minutes=10), HALF_A_DAY) == Begin("catch-up", NOON)


# --- the book -----------------------------------------------------------------------------------------------------------------------------

moments = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2100, 1, 1)).map(lambda one: one.replace(tzinfo=datetime.UTC))
causes = st.sampled_from(["schedule", "catch-up", "asked"])


@given(now=moments, due=st.none() | moments, cause=causes, who=st.text(max_size=20), ended=st.booleans(), paused=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_book_reads_what_it_wrote(
    tmp_path_factory: pytest.TempPathFactory,
    now: datetime.datetime,
    due: datetime.datetime | None,
    cause: Cause,
    who: str,
    ended: bool,
    paused: bool,
) -> None:
    folder = tmp_path_factory.mktemp("book")
    book = Book(settled=now).ask(now, who).begin(3, cause, due, now).try_again().plan(due)
    book = book.end("skipped", who, now) if ended else book
    book = book.pause(now, who, "why") if paused else book
    assert books.edit(folder, lambda _: book) == book
    assert books.load(folder) == book


def test_a_damaged_book_is_put_aside_and_the_schedule_paused(tmp_path: Path) -> None:
    books.edit(tmp_path, lambda book: book.settle(NOON, NOON))
    assert books.put_damaged_aside(tmp_path, NOON) == ""
    (tmp_path / books.SCHEDULE_FILE).write_text('{"format": 1, "next', encoding="utf-8")
    with pytest.raises(ScheduleError, match="begins anew, paused"):
        books.load(tmp_path)
    assert "fedsca server resume" in books.put_damaged_aside(tmp_path, NOON)
    assert (tmp_path / "schedule.json.damaged").read_text(encoding="utf-8") == '{"format": 1, "next'
    found = books.load(tmp_path)
    assert found.paused is not None
    assert decide(found, HOURLY, later(hours=5), HALF_A_DAY) == Wait()


def test_a_newer_book_is_refused(tmp_path: Path) -> None:
    books.edit(tmp_path, lambda book: book.settle(NOON, NOON))
    value = json.loads((tmp_path / books.SCHEDULE_FILE).read_text(encoding="utf-8"))
    (tmp_path / books.SCHEDULE_FILE).write_text(json.dumps({**value, "format": 2}), encoding="utf-8")
    with pytest.raises(ScheduleError, match="format 2"):
        books.load(tmp_path)


def test_sites_are_told_the_next_round_unless_the_schedule_is_paused_or_damaged(tmp_path: Path) -> None:
    assert books.told_next_round(tmp_path) == ""
    books.edit(tmp_path, lambda book: book.plan(NOON))
    assert books.told_next_round(tmp_path) == "2026-01-01T12:00:00+00:00"
    (tmp_path / books.SCHEDULE_FILE).write_text("[]", encoding="utf-8")
    assert books.told_next_round(tmp_path) == ""
