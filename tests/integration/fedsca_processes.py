"""`fedsca` commands as processes of their own. Every wait has a deadline, and what was started is stopped whatever happens."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fed_backend import launch

FEDSCA = [sys.executable, "-m", "fed_backend.cli"]
UP_SECONDS, ROUND_SECONDS, STOP_SECONDS = 240.0, 480.0, 30.0


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `fedsca` command; at the end it and all its descendants are gone."""
    with log.open("wb") as stream:
        started = subprocess.Popen([*FEDSCA, *arguments], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)] if started.poll() is None else []
        started.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for one in alive:
            one.kill()
        started.wait(STOP_SECONDS)


def wait_until_up(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Until something listens at the port; the server's log is the message where it ends or takes too long."""
    deadline = time.monotonic() + UP_SECONDS
    while not launch.answers("127.0.0.1", port, seconds=0.2):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
