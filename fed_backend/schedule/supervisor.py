"""Runs a federation's server: SuperLink, rounds and operator's page, until it is told to stop.

    python -m fed_backend.schedule.supervisor FEDERATION.TOML        what `fedsca server start` becomes when it finds a configuration

Processes: the supervisor starts the SuperLink, one process a round and the page, and starts the first and the last again when they end.
All are tied to it (`tether`): when it is killed they end too, and what is left of them is found and ended by the next start
(`leftovers`). It holds <state>/supervisor.lock while it lives, so a state folder never has two.

Threads: one, which does everything below by turns, each turn taking milliseconds; see `superlink_keeper` and `pulse` for the exceptions.
Signals only write a byte to a pipe on which that thread waits.

SIGTERM and SIGINT stop it: no round begins any more, a running one may go on for `stop_seconds` (a second signal ends that), then
everything is ended. An interrupted round is taken up by the next start.
"""

import logging
import os
import select
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fed_backend import launch
from fed_backend.enrolment.superlink_nodes import SuperLinkNodes
from fed_backend.errors import LaunchError, ScheduleError
from fed_backend.run_rounds import longest_run
from fed_backend.schedule.child import ProcessStarter, Starter
from fed_backend.schedule.clock import Clock, SystemClock
from fed_backend.schedule.configuration import Configuration, load_configuration
from fed_backend.schedule.kept_process import KeptProcess
from fed_backend.schedule.leftovers import end_leftovers
from fed_backend.schedule.pulse import Pulse, speaks
from fed_backend.schedule.round_keeper import RoundKeeper
from fed_backend.schedule.server_plan import page_argv, plain_environment, server_plan
from fed_backend.schedule.superlink_keeper import SuperLinkKeeper
from sam_adapters.errors import FedscaError, RegistryError
from sam_adapters.file_lock import is_locked, locked

log = logging.getLogger(__name__)

LOCK_FILE = "supervisor.lock"
TICK_SECONDS = 0.5
PAGE_STOP_SECONDS = 8.0
_LOCK_SECONDS, _PORT_SECONDS = 3.0, 15.0
_COMPLAIN_SECONDS = 60.0


class StopSignals:
    """Counts SIGTERM, SIGINT and SIGHUP, and lets the main thread wait for them."""

    def __init__(self) -> None:
        self.count = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    def wait(self, seconds: float) -> None:
        """Until a signal comes, at most so long."""
        ready, _, _ = select.select([self._read], [], [], seconds)
        if ready:
            with suppress(BlockingIOError):
                os.read(self._read, 512)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


@dataclass
class Supervisor:
    """What runs, and one turn of looking after it."""

    state: Path
    superlink: SuperLinkKeeper
    rounds: RoundKeeper
    page: KeptProcess | None
    clock: Clock
    _complained: float = field(default=-_COMPLAIN_SECONDS)

    def tick(self, *, begin: bool = True) -> None:
        """One turn. A disk that is full, or a folder that cannot be written, is told once a minute and tried again; no round begins then.

        Args:
            begin: whether a round may begin.
        """
        if self.page is not None:
            self.page.tick()
        if self.superlink.tick(idle=self.rounds.child is None):
            self.rounds.interrupt()
            end_leftovers(self.state, self._pids())
        self._tick_rounds(ready=begin and self.superlink.up)

    def _tick_rounds(self, *, ready: bool) -> None:
        try:
            self.rounds.tick(ready=ready)
        except (OSError, FedscaError) as error:
            now = self.clock.monotonic()
            if now - self._complained >= _COMPLAIN_SECONDS:
                self._complained = now
                log.error("The schedule cannot go on, it is tried again: %s", error)

    def stop(self) -> None:
        """End everything; the round first, the page and the SuperLink after it."""
        self.rounds.interrupt()
        self._tick_rounds(ready=False)
        if self.page is not None:
            self.page.stop(PAGE_STOP_SECONDS)
        self.superlink.stop()
        end_leftovers(self.state)

    def _pids(self) -> list[int]:
        children = [self.superlink.process.child, self.rounds.child, self.page.child if self.page else None]
        return [child.pid for child in children if child is not None]


def build(configuration: Configuration, start: Starter | None = None, clock: Clock | None = None) -> Supervisor:
    """A supervisor for a configuration; nothing is started yet.

    Raises:
        LaunchError, EnrolmentError: the SuperLink cannot be started as configured.
    """
    state, plan = configuration.state, server_plan(configuration)
    starter, ticking = start or ProcessStarter(state), clock or SystemClock()
    page = page_argv(configuration)
    return Supervisor(
        state=state,
        superlink=SuperLinkKeeper(
            plan=plan,
            process=KeptProcess("The SuperLink", plan.argv, plan.environment, starter, ticking),
            clock=ticking,
            synchronise=lambda: SuperLinkNodes(state).synchronise().sentences,
            pulse=Pulse("The SuperLink", lambda: speaks(plan.host, plan.port, tls=bool(plan.watched)), ticking),
        ),
        rounds=RoundKeeper(
            state=state,
            timetable=configuration.timetable,
            catch_up=configuration.catch_up,
            longest=longest_run(configuration.settings, 1) + 120.0,
            start=starter,
            clock=ticking,
        ),
        page=None if page is None else KeptProcess("The operator's page", page, plain_environment(), starter, ticking),
        clock=ticking,
    )


def run(configuration: Configuration) -> None:
    """Supervise until told to stop.

    Raises:
        ScheduleError: another supervisor has this state folder.
        LaunchError: something else listens on the port; or as `build`.
    """
    signals = StopSignals()
    state = configuration.state
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(state / LOCK_FILE, timeout=_LOCK_SECONDS))
        except RegistryError as error:
            raise ScheduleError(f"Another `fedsca server start` runs on {state}: stop it first, or see `fedsca server status`.") from error
        left = end_leftovers(state)
        if left:
            log.warning("%d processes were left by a server that had been killed: they were ended.", left)
        _supervise(configuration, signals)


def is_supervised(state: Path) -> bool:
    """Whether a supervisor lives."""
    return is_locked(state / LOCK_FILE)


def _supervise(configuration: Configuration, signals: StopSignals) -> None:
    supervisor = build(configuration)
    plan = supervisor.superlink.plan
    _wait_for_port(plan.host, plan.port, signals)
    configuration.settings.save(configuration.state)
    plan.address.save(configuration.state)
    log.info("Federation %s from %s, state in %s.", configuration.settings.federation, configuration.path, configuration.state)
    try:
        while not signals.count:
            supervisor.tick()
            signals.wait(TICK_SECONDS)
        deadline = supervisor.clock.monotonic() + configuration.stop_seconds
        log.info("Stopping.")
        while supervisor.rounds.child is not None and signals.count < 2 and supervisor.clock.monotonic() < deadline:
            supervisor.tick(begin=False)
            signals.wait(TICK_SECONDS)
    finally:
        supervisor.stop()
    log.info("Stopped.")


def _wait_for_port(host: str, port: int, signals: StopSignals) -> None:
    """What was killed just now may hold the port for a moment."""
    clock = SystemClock()
    deadline = clock.monotonic() + _PORT_SECONDS
    while launch.answers(host, port, seconds=0.2):
        if clock.monotonic() >= deadline or signals.count:
            raise LaunchError(f"Something listens on {launch.format_address(host, port)} already: stop it, or choose another port.")
        signals.wait(TICK_SECONDS)


def main(arguments: list[str]) -> int:
    """Run the supervisor of a configuration file; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        run(load_configuration(Path(arguments[0])))
    except FedscaError as error:
        sys.stderr.write(f"fedsca: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
