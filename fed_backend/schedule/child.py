"""One process that the supervisor starts, watches and stops. Used from the main thread only (see `tether`)."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fed_backend.schedule.leftovers import marked


class Child(Protocol):
    """A process that runs, or has ended."""

    @property
    def pid(self) -> int:
        """Its number."""

    def ended(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""

    def stop(self, seconds: float) -> None:
        """Ask it to end, kill it after `seconds`; returns when it is gone."""


class Starter(Protocol):
    """Starts a process."""

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start `argv[0]`, a path, with these arguments and this environment."""


@dataclass
class ProcessStarter:
    """Starts real ones: in a process group of their own, tied to this process, marked with the state folder, output to where ours goes."""

    state: Path

    def __call__(self, argv: Sequence[str], environment: Mapping[str, str]) -> "ChildProcess":
        """Start one."""
        tether = [sys.executable, "-m", "fed_backend.schedule.tether", str(os.getpid())]
        return ChildProcess(
            subprocess.Popen([*tether, *argv], env=marked(environment, self.state), stdin=subprocess.DEVNULL, start_new_session=True)
        )


@dataclass
class ChildProcess:
    """A real one."""

    process: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        """Its number, which is its process group's too."""
        return self.process.pid

    def ended(self) -> int | None:
        """Its exit code."""
        return self.process.poll()

    def stop(self, seconds: float) -> None:
        """SIGTERM to it, then SIGKILL to its whole group: helpers keep no output open and no port."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
