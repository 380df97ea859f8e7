"""A supervised server with real processes: its schedule, and `kill -9` of the SuperLink, of the page and of the supervisor itself.

No site takes part, so every round waits for sites and is then skipped, which counts as one: what is tested is that each is counted once.
The schedule's book says that nothing was done for two hours of an hourly schedule: one catch-up round follows at the start.
"""

import datetime
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from fed_backend import launch, server_state_file
from fed_backend.cli.federation import server_app
from fed_backend.schedule import book as books
from fed_backend.schedule.example import example
from fed_backend.schedule.leftovers import leftovers
from fed_backend.schedule.round_outcome import run_at_work
from fed_backend.schedule.supervisor import is_supervised
from fed_backend.server_state_file import STATE_FILE
from sam_adapters import atomic
from sam_adapters.adapters import adapter_schema
from tests.fed_backend.toy_sites import reports_of
from tests.integration.fedsca_processes import FEDSCA

WAIT_SECONDS = 240.0


def wait_for(what: str, reached: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not after {WAIT_SECONDS} s\n{log.read_text(encoding='utf-8')}"
        time.sleep(0.05)


def call(command: str, state: Path, *arguments: str) -> str:
    result = CliRunner().invoke(server_app, [command, "--state", str(state), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@contextmanager
def server(state: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`fedsca server start`; at the end nothing that it started is left, however it ended."""
    with log.open("ab") as stream:
        started = subprocess.Popen(
            [*FEDSCA, "server", "start", "--state", str(state)], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
    try:
        yield started
    finally:
        started.kill()
        started.wait(WAIT_SECONDS)
        for one in leftovers(state):
            one.kill()


def process_of(state: Path, module: str) -> psutil.Process:
    (found,) = [one for one in leftovers(state) if module in one.cmdline() and one.cmdline()[1:2] == ["-m"]]
    return found


def configure(state: Path, port: int, page_port: int) -> None:
    text = example(
        {
            ("federation", "name"): "north",
            ("rounds", "join_seconds"): 3.0,
            ("schedule", "cron"): "0 * * * *",
            ("server", "port"): port,
            ("server", "stop_seconds"): 1.0,
            ("page", "port"): page_port,
        }
    )
    atomic.write_bytes(state / "federation.toml", text.encode())
    now = datetime.datetime.now(datetime.UTC)
    books.edit(state, lambda book: book.settle(now - datetime.timedelta(hours=2, minutes=1), now))


def last_round(state: Path) -> tuple[int, str]:
    last = books.load(state).last
    return (last.round, last.outcome) if last else (0, "")


def at_work(state: Path) -> bool:
    """Whether Flower's run of the running round has begun to work."""
    return books.load(state).running is not None and run_at_work(state)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_rounds_go_on_by_themselves_whatever_is_killed(tmp_path: Path) -> None:
    state, port, page_port, log = tmp_path / "server", launch.free_port(), launch.free_port(), tmp_path / "server.log"
    state.mkdir()
    schema = adapter_schema("litemedsam")
    configure(state, port, page_port)
    with ExitStack() as stack:
        supervisor = stack.enter_context(server(state, log))
        wait_for("the catch-up round", lambda: last_round(state) == (1, "skipped"), log)
        last = books.load(state).last
        assert last is not None
        assert last.cause in ("catch-up", "schedule")
        wait_for("the page", lambda: launch.answers("127.0.0.1", page_port, seconds=0.2), log)

        # The SuperLink is killed in the middle of a round that a person asked for while the schedule is paused.
        call("pause", state, "--reason", "Moving house.")
        call("now", state)
        wait_for("a round at work", lambda: at_work(state), log)
        process_of(state, "fed_backend.superlink_process").kill()
        wait_for("the round after the SuperLink's end", lambda: last_round(state) == (2, "skipped"), log)
        assert "Moving house." in call("status", state)
        call("resume", state)

        # The page, then the supervisor are killed in the middle of a round; a second start ends what is left and takes the round up.
        call("now", state)
        wait_for("a round at work", lambda: at_work(state), log)
        process_of(state, "fed_backend.cli").kill()
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait(WAIT_SECONDS)
        assert not is_supervised(state)
        second = stack.enter_context(server(state, log))
        wait_for("the round after the supervisor's end", lambda: last_round(state) == (3, "skipped"), log)

        second.send_signal(signal.SIGTERM)
        assert second.wait(WAIT_SECONDS) == 0
        assert leftovers(state) == []
        assert not launch.answers("127.0.0.1", port)

    assert [(report["round"], report["status"]) for report in reports_of(state)] == [(1, "skipped"), (2, "skipped"), (3, "skipped")]
    assert server_state_file.load(state / STATE_FILE).round == 3
    assert server_state_file.load(state / STATE_FILE).schema == schema
