"""`python -m benchmarks.server_faults`: what becomes of a round when a part of a supervised server is killed, and how long it takes.

Real processes on this machine: `fedsca server start` with a federation.toml, and two sites. A round is asked for; while Flower works on it
one process gets SIGKILL; the time from then until the round is finished is taken, and that it was counted once is checked at the server and
at both sites. Sites have a case each and none for validation, so that neither probe nor gate starts torch's work: what is measured is the
recovery, not the tuning. The first line is a round without a fault, from asking for it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.machine import machine
from fed_backend import launch, server_state
from fed_backend.client_site import Member, site_schema
from fed_backend.schedule import book as books
from fed_backend.schedule.example import example
from fed_backend.schedule.leftovers import end_leftovers, leftovers
from fed_backend.schedule.round_outcome import STATE_FILE, run_at_work
from fed_backend.schema_cache import SCHEMA_FILE
from sam_adapters import atomic
from sam_adapters.provenance import utc_now
from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.site_fixture import add_version, make_site

WAIT_SECONDS = 600.0
FEDSCA = [sys.executable, "-m", "fed_backend.cli"]
FAULTS = ("none", "SuperLink", "ServerApp", "round's process", "page", "supervisor")


@dataclass
class Line:
    """One fault: its name, the round's outcome, seconds until then, attempts and how often the round was counted."""

    killed: str
    outcome: str
    seconds: float
    attempts: int
    counted_once: bool


def main(arguments: list[str]) -> None:
    """Run all faults, print a line each, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the results.")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder))
    if given.out is not None:
        atomic.write_json(given.out, {"machine": machine(), "sites": 2, "faults": [asdict(line) for line in lines]})
    sys.exit(not all(line.counted_once for line in lines))


def measure(folder: Path) -> list[Line]:
    sites = [make_site(folder / name, name, train=1, validation=0, seed=index) for index, name in enumerate("AB")]
    for index, site in enumerate(sites):
        add_version(site, folder / f"scratch-{index}", seed=index)
        site_schema(Member.open(site.root))
    state, port = folder / "server", launch.free_port()
    state.mkdir()
    atomic.write_bytes(state / SCHEMA_FILE, (sites[0].work / SCHEMA_FILE).read_bytes())
    values: dict[tuple[str, str], object] = {("server", "port"): port, ("page", "port"): launch.free_port()}
    atomic.write_bytes(state / "federation.toml", example(values).encode())
    lines = []
    with ExitStack() as stack:
        stack.callback(end_leftovers, state)
        start = ["server", "start", "--state", str(state)]
        supervisor = started(stack, start, folder / "server.log")
        for site in sites:
            started(stack, ["site", "join", "--site", str(site.root), "--superlink", f"127.0.0.1:{port}"], folder / f"{site.root.name}.log")
        ask_and_wait(state, 1)  # everybody has joined
        for number, fault in enumerate(FAULTS, start=2):
            begun = time.monotonic()
            books.edit(state, lambda book: book.ask(utc_now(), "the benchmark"))
            wait_until(lambda: books.load(state).running is not None and run_at_work(state))
            if fault != "none":
                begun = time.monotonic()
                if fault == "supervisor":
                    supervisor.kill()
                    supervisor.wait()
                    supervisor = started(stack, start, folder / "server.log")
                else:
                    process_of(state, fault).kill()
            wait_until(lambda number=number: ended(state, number))  # type: ignore[misc]
            lines.append(line_of(state, sites, number, fault, time.monotonic() - begun))
            print(json.dumps(asdict(lines[-1])), flush=True)
        supervisor.send_signal(signal.SIGTERM)
        supervisor.wait(60)
    return lines


def started(stack: ExitStack, arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    stream = stack.enter_context(log.open("ab"))
    process = subprocess.Popen([*FEDSCA, *arguments], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def end() -> None:
        process.terminate()
        process.wait(60)

    stack.callback(end)
    return process


def process_of(state: Path, what: str) -> psutil.Process:
    words = {"SuperLink": "superlink_process", "ServerApp": "serverapp", "round's process": "round_process", "page": "page"}[what]
    found = [one for one in leftovers(state) if any(words in word for word in one.cmdline()[:4])]
    assert found, f"no process of the {what}: {[one.cmdline()[:4] for one in leftovers(state)]}"
    return found[0]


def ask_and_wait(state: Path, number: int) -> None:
    wait_until(lambda: (state / "schedule.json").exists())
    books.edit(state, lambda book: book.ask(utc_now(), "the benchmark"))
    wait_until(lambda: ended(state, number))


def ended(state: Path, number: int) -> bool:
    last = books.load(state).last
    return last is not None and last.round == number


def line_of(state: Path, sites: list[SiteDirectory], number: int, fault: str, seconds: float) -> Line:
    last = books.load(state).last
    assert last is not None
    once = server_state.load(state / STATE_FILE).round == number
    for site in sites:
        with Registry(site) as registry:
            once = once and sorted(record.round for record in registry.rounds()) == list(range(1, number + 1))
    return Line(fault, last.outcome, round(seconds, 1), last.attempts, once)


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, "not reached"
        time.sleep(0.05)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(sys.argv[1:])
