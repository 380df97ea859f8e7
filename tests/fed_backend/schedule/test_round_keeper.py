"""A round counts once, whatever ends in the middle of it. The round's process is played; the federation's files are real."""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fed_backend import server_state, server_state_file
from fed_backend.round_report import RoundReport, read_round, round_files
from fed_backend.schedule import book as books
from fed_backend.schedule.book import LastRound
from fed_backend.schedule.round_keeper import MOST_ATTEMPTS, RoundKeeper
from fed_backend.schedule.round_outcome import LATE_REPORT, STATE_FILE, outcome_of, rounds_behind, write_problem
from fed_backend.schedule.timetable import Timetable
from fed_backend.server_state import RoundEntry
from tests.fed_backend.toys import SCHEMA

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


@dataclass
class HandClock:
    """Stands still unless it is set."""

    wall: datetime.datetime = NOON
    steady: float = 0.0

    def now(self) -> datetime.datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def forward(self, seconds: float) -> None:
        self.wall += datetime.timedelta(seconds=seconds)
        self.steady += seconds


@dataclass
class PlayedProcess:
    argv: Sequence[str]
    code: int | None = None
    pid: int = 0

    def ended(self) -> int | None:
        return self.code

    def stop(self, seconds: float) -> None:
        self.code = -15 if self.code is None else self.code


@dataclass
class Players:
    started: list[PlayedProcess] = field(default_factory=list)

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str]) -> PlayedProcess:
        self.started.append(PlayedProcess(argv))
        return self.started[-1]


class Bench:
    """A keeper over a real state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.players = folder, HandClock(), Players()
        self.busy = False
        self.keeper = self.started_anew()
        books.edit(folder, lambda book: book.settle(NOON - datetime.timedelta(minutes=1), NOON))

    def started_anew(self) -> RoundKeeper:
        self.keeper = RoundKeeper(
            state=self.folder,
            timetable=Timetable("0 * * * *"),
            catch_up=datetime.timedelta(hours=12),
            longest=600.0,
            start=self.players,
            clock=self.clock,
            at_work=lambda _: self.busy,
        )
        return self.keeper

    def federation_does(self, number: int, *, report: str = "finished") -> None:
        """What a run leaves when it has done round `number`."""
        path = self.folder / STATE_FILE
        state = server_state_file.load_or_new(path, SCHEMA)
        assert state.round == number - 1, "a round was counted twice"
        entry = RoundEntry(round=number, run="1", finished="2026-01-01T12:00:00+00:00", heard=(), refused={}, probed=(), clipped={})
        server_state_file.save(server_state.finish_round(state, entry, probe_every=1), path)
        told = RoundReport("id", "north", number, "1", "base", "schema")
        if report != "running":
            told.end("finished" if report == "finished" else "skipped", "" if report == "finished" else "Too few.")
        told.save(self.folder)

    def end(self, code: int = 0) -> None:
        self.players.started[-1].code = code
        self.keeper.tick(ready=True)

    def last(self) -> LastRound:
        last = books.load(self.folder).last
        assert last is not None
        return last


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_due_round_is_run_once_and_its_end_written_down(bench: Bench) -> None:
    bench.keeper.tick(ready=False)
    assert bench.players.started == []
    bench.keeper.tick(ready=True)
    bench.keeper.tick(ready=True)
    (process,) = bench.players.started
    assert list(process.argv[-4:]) == ["--state", str(bench.folder), "--target", "1"]
    book = books.load(bench.folder)
    assert book.running is not None
    assert book.next_round == NOON + datetime.timedelta(hours=1)
    bench.federation_does(1)
    bench.end()
    assert (bench.last().round, bench.last().outcome, bench.last().attempts) == (1, "finished", 1)
    bench.keeper.tick(ready=True)
    assert len(bench.players.started) == 1


def test_a_skipped_round_counts_and_says_why(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.federation_does(1, report="skipped")
    bench.end()
    assert (bench.last().outcome, bench.last().reason) == ("skipped", "Too few.")


def test_an_interrupted_round_is_taken_up_with_the_same_number(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.keeper.interrupt()
    bench.keeper.tick(ready=False)
    bench.clock.forward(4.0)
    bench.keeper.tick(ready=True)
    assert len(bench.players.started) == 1  # not at once
    bench.clock.forward(2.0)
    bench.keeper.tick(ready=False)
    assert len(bench.players.started) == 1  # the SuperLink is not back yet
    bench.keeper.tick(ready=True)
    assert [process.argv[-1] for process in bench.players.started] == ["1", "1"]
    bench.federation_does(1)
    bench.end()
    assert (bench.last().round, bench.last().outcome, bench.last().attempts) == (1, "finished", 2)


def test_a_supervisor_that_was_killed_goes_on_where_it_was(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.started_anew().tick(ready=True)
    assert [process.argv[-1] for process in bench.players.started] == ["1", "1"]


def test_a_round_that_ended_while_nobody_looked_is_not_run_again(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.federation_does(1)
    bench.started_anew().tick(ready=True)
    assert len(bench.players.started) == 1
    assert bench.last().outcome == "finished"


def test_a_report_that_was_left_unfinished_is_completed(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.federation_does(1, report="running")
    bench.end(-9)
    assert (bench.last().outcome, bench.last().reason) == ("finished", LATE_REPORT)
    (path,) = round_files(bench.folder)
    assert (read_round(path)["status"], read_round(path)["reason"]) == ("finished", LATE_REPORT)


def test_a_run_that_lost_its_process_is_waited_for(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.busy = True
    bench.end(-9)
    for _ in range(20):
        bench.clock.forward(6.0)
        bench.keeper.tick(ready=True)
    assert len(bench.players.started) == 1
    bench.federation_does(1)
    bench.clock.forward(6.0)
    bench.keeper.tick(ready=True)
    assert (bench.last().outcome, bench.last().attempts) == ("finished", 1)


def test_a_round_that_never_ends_is_given_up_and_the_next_has_its_number(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    write_problem(bench.folder, 1, "Nothing answers.")
    for _ in range(MOST_ATTEMPTS):
        bench.end(2)
        bench.clock.forward(200.0)
        bench.keeper.tick(ready=True)
    assert len(bench.players.started) == MOST_ATTEMPTS
    assert (bench.last().outcome, bench.last().round) == ("given up", 1)
    assert bench.last().reason == "It was begun 5 times and never ended. Nothing answers."
    bench.clock.forward(3600.0)
    bench.keeper.tick(ready=True)
    assert bench.players.started[-1].argv[-1] == "1"


def test_a_round_that_was_interrupted_long_ago_is_not_taken_up(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.clock.forward(13 * 3600.0)
    bench.started_anew().tick(ready=True)
    assert len(bench.players.started) == 1
    assert "too long ago" in bench.last().reason


def test_a_process_that_outlives_all_its_deadlines_is_ended(bench: Bench) -> None:
    bench.keeper.tick(ready=True)
    bench.clock.forward(601.0)
    bench.keeper.tick(ready=True)
    assert bench.players.started[0].code == -15


def test_a_disk_that_is_full_begins_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(books.atomic, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        bench.keeper.tick(ready=True)
    assert bench.players.started == []
    monkeypatch.undo()
    bench.keeper.tick(ready=True)
    assert len(bench.players.started) == 1


def test_a_damaged_state_is_told_and_costs_one_round(bench: Bench) -> None:
    (bench.folder / STATE_FILE).write_bytes(b"not this")
    bench.keeper.tick(ready=True)
    assert bench.players.started == []
    assert (bench.last().outcome, "is damaged" in bench.last().reason) == ("given up", True)
    bench.keeper.tick(ready=True)
    assert books.load(bench.folder).running is None


def test_a_damaged_book_pauses_the_schedule(bench: Bench) -> None:
    (bench.folder / books.SCHEDULE_FILE).write_text("{", encoding="utf-8")
    bench.keeper.tick(ready=True)
    assert bench.players.started == []
    assert books.load(bench.folder).paused is not None


def test_a_folder_without_rounds_has_none_behind_it(tmp_path: Path) -> None:
    assert rounds_behind(tmp_path) == 0
    assert outcome_of(tmp_path, 1) is None
    assert json.dumps(books.load(tmp_path).to_dict())


def test_a_clock_that_jumps_ahead_in_a_round_makes_it_no_older(bench: Bench) -> None:
    bench.clock.wall += datetime.timedelta(microseconds=123_456)
    bench.keeper.tick(ready=True)
    bench.clock.wall += datetime.timedelta(days=1)
    bench.end(2)
    bench.clock.forward(60.0)
    bench.keeper.tick(ready=True)
    assert len(bench.players.started) == 2, "taken up"
