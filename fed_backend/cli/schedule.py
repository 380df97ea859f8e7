"""`fedsca server now|pause|resume|check-config`, and what `start` does with a configuration file. What they need is imported when they
are called.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fed_backend.cli.privacy import print_asked
from fed_backend.errors import ConfigurationError

if TYPE_CHECKING:
    from fed_backend.schedule.configuration import Configuration

_STATE = typer.Option(..., "--state", help="Folder of the server's state.")
_POLL_SECONDS = 0.5


def now(
    state: Path = _STATE,
    wait: float = typer.Option(0.0, "--wait", min=0, max=86_400, help="Seconds to wait for the round's end; 0 does not wait."),
) -> None:
    """Have a round begin now, also while the schedule is paused or within a blackout. Needs the server that `start` supervises."""
    from fed_backend.errors import ScheduleError
    from fed_backend.schedule import book as books
    from fed_backend.schedule.supervisor import is_supervised
    from sam_adapters.provenance import utc_now

    if not is_supervised(state):
        raise ScheduleError(
            f"No supervised server runs on {state}: start it with `fedsca server start` and a federation.toml. "
            "Beside a SuperLink alone, rounds run with `fedsca server run-round`."
        )
    last = books.load(state).last
    who = _who()
    books.edit(state, lambda book: book.ask(utc_now(), who))
    _record(state, "round_asked", who)
    typer.echo("A round was asked for: it begins within a second, or when the running one has ended.")
    if wait:
        _wait(state, wait, None if last is None else last.finished)


def pause(
    state: Path = _STATE, reason: str = typer.Option("", "--reason", help="Why, for the page, the status and the audit log.")
) -> None:
    """Begin no round by itself any more, until `resume`. A round that runs goes on; `now` still runs one."""
    from fed_backend.schedule import book as books
    from sam_adapters.provenance import utc_now

    who = _who()
    books.edit(state, lambda book: book.pause(utc_now(), who, reason))
    _record(state, "schedule_paused", who, reason=reason)
    typer.echo("The schedule is paused. Go on with: fedsca server resume")


def resume(state: Path = _STATE) -> None:
    """Go on with the schedule. Rounds that were due during the pause are not made up for."""
    from fed_backend.schedule import book as books
    from sam_adapters.provenance import utc_now

    who = _who()
    books.edit(state, lambda book: book.resume(utc_now(), who))
    _record(state, "schedule_resumed", who)
    typer.echo("The schedule goes on.")


def check_config(
    file: Path | None = typer.Argument(None, help="The configuration file; default: federation.toml of --state, or of this folder."),
    state: Path | None = typer.Option(None, "--state", help="Folder of the server's state."),
    times: int = typer.Option(5, "--times", min=0, max=100, help="How many of the next due times to print."),
) -> None:
    """Check a configuration file: every mistake is named with its line. Prints when the next rounds would be due; changes nothing."""
    from fed_backend.schedule.configuration import CONFIGURATION_FILE, load_configuration
    from sam_adapters.provenance import utc_now

    configuration = load_configuration(file or (state or Path()) / CONFIGURATION_FILE)
    timetable, moment = configuration.timetable, utc_now()
    typer.echo(f"{configuration.path} is in order: federation {configuration.settings.federation}, state in {configuration.state}.")
    if not timetable.cron.strip():
        typer.echo("Nothing is scheduled: rounds run when a person asks, fedsca server now.")
        return
    for _ in range(times):
        due = timetable.next_after(moment)
        if due is None:
            break
        typer.echo(f"Due: {due.astimezone(timetable.zone):%a %Y-%m-%d %H:%M %Z}")
        moment = due


def add_to(app: typer.Typer) -> None:
    """Put these commands into `fedsca server`."""
    for name, command in (("now", now), ("pause", pause), ("resume", resume), ("check-config", check_config)):
        app.command(name)(command)


def configuration_for(state: Path | None, file: Path | None, *, wanted: bool, given: Mapping[str, Any]) -> "Configuration | None":
    """The configuration that `start` is to follow; None for a SuperLink alone.

    Args:
        state: `--state`; without it `file` says where the state is.
        file: `--config`; without it <state>/federation.toml, where there is one.
        wanted: False for `--no-config`.
        given: other options of `start` and their values; None for those that were not given.

    Raises:
        ConfigurationError: the file cannot be used, or options were given that stand in it, or nothing says where the state is.
    """
    from fed_backend.schedule.configuration import CONFIGURATION_FILE, load_configuration

    if not wanted and file is not None:
        raise ConfigurationError("--config and --no-config were both given: give one of them.")
    if file is None and state is None:
        raise ConfigurationError("Nothing says which federation: give --state, or --config.")
    found = file or (state / CONFIGURATION_FILE if state is not None else None)
    if not wanted or found is None or (file is None and not found.exists()):
        return None
    options = sorted(f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None)
    if options:
        raise ConfigurationError(
            f"{', '.join(options)} cannot be given beside {found}, where it stands: change it there, "
            "or give --no-config, which starts the SuperLink alone, without a schedule."
        )
    configuration = load_configuration(found)
    if state is not None and state.resolve() != configuration.state:
        raise ConfigurationError(f"{found} has its state in {configuration.state}, not in {state}: leave --state out, or change `state`.")
    return configuration


def supervised(configuration: "Configuration") -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the supervisor, after everything was checked that takes torch or can fail. Says what a privacy rule
    of the federation leaves of updates.

    Raises:
        LaunchError, EnrolmentError, ServerStateError: the server cannot run like this.
        SettingError, BaseModelError: the base is unknown or its weights are missing.
    """
    from fed_backend import server_state_file
    from fed_backend.schedule.server_plan import server_plan
    from fed_backend.schema_cache import SCHEMA_FILE, cached_schema
    from fed_backend.server_state_file import STATE_FILE

    state, settings = configuration.state, configuration.settings
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    server_plan(configuration)
    schema = cached_schema(state / SCHEMA_FILE, settings)
    server_state_file.load_or_new(state / STATE_FILE, schema)
    print_asked(settings, schema)
    return [sys.executable, "-m", "fed_backend.schedule.supervisor", str(configuration.path.resolve())], dict(os.environ)


def _wait(state: Path, seconds: float, before: object) -> None:
    """Until another round than that of `before` has ended; prints it."""
    import time

    from fed_backend.cli.federation import print_round
    from fed_backend.errors import ScheduleError
    from fed_backend.round_report import ROUNDS_FOLDER, read_round
    from fed_backend.schedule import book as books

    deadline = time.monotonic() + seconds
    while True:
        book = books.load(state)
        if book.asked is None and book.running is None and book.last is not None and book.last.finished != before:
            break
        if time.monotonic() >= deadline:
            raise ScheduleError(f"The round has not ended after {seconds:g} s; it goes on: fedsca server status --state {state}")
        time.sleep(_POLL_SECONDS)
    if book.last.outcome == "given up":
        raise ScheduleError(f"Round {book.last.round} was given up: {book.last.reason}")
    print_round(read_round(state / ROUNDS_FOLDER / f"round-{book.last.round:04d}.json"))
    if book.last.outcome != "finished":
        raise typer.Exit(1)


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "the operator"


def _record(state: Path, event: str, who: str, **values: str) -> None:
    from fed_backend.audit_anchors import server_log

    server_log(state).record(event, who=who, address="this machine", **values)
