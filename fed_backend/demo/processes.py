"""The demo's processes: started with a log each, watched, waited for with deadlines, and all stopped at the end.

Every process runs under a guardian (see `guardian`), which also stops grandchildren and survives neither the demo nor an order to
stop. The supervisor is used from the main thread; `alive`, `failed` and `wait_until` may be called from any thread.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil

from fed_backend.demo.errors import DemoError, ProcessFailedError
from sam_adapters import atomic

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_SECONDS = 15.0
LOG_TAIL_LINES = 25


@dataclass
class ManagedProcess:
    """A command running under its guardian."""

    name: str
    command: tuple[str, ...]
    log: Path
    guardian: "subprocess.Popen[bytes]"
    started: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        """Whether the command still runs."""
        return self.guardian.poll() is None

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of the log; empty if there is none."""
        with contextlib.suppress(OSError), self.log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 200 * lines))
            return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
        return ""

    def failure(self, sentence: str) -> ProcessFailedError:
        """An error that carries `sentence` and the end of the log."""
        return ProcessFailedError(f"{self.name}: {sentence}\nLog {self.log}, last lines:\n{self.log_tail() or '(empty)'}")


class Supervisor:
    """Starts processes and stops all of them on leaving the `with` block, however it is left.

    Args:
        folder: where logs and `processes.json` go.
        grace: seconds between the request to stop and the kill.
    """

    def __init__(self, folder: Path, *, grace: float = 6.0) -> None:
        self.folder = folder
        self._grace = grace
        self.processes: list[ManagedProcess] = []
        self._kept = False
        self.stopping = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Supervisor":
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        if not self._kept:
            with ignored_interrupts():
                self.stop_all()

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> ManagedProcess:
        """Start `command` under a guardian; its output goes to `<folder>/<name>.log`."""
        log = self.folder / f"{name}.log"
        guardian = subprocess.Popen(
            [sys.executable, "-m", "fed_backend.demo.guardian", "--log", str(log), "--grace", str(self._grace), "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the demo only, which then stops things in order
        )
        process = ManagedProcess(name, tuple(command), log, guardian)
        self.processes.append(process)
        self._write_list()
        return process

    def check(self) -> None:
        """Raise ProcessFailedError if a process that should be running has ended."""
        for process in self.processes:
            if not process.alive and not self.stopping.is_set():
                raise process.failure(f"ended unexpectedly with exit code {process.guardian.returncode}.")

    def wait_until(self, process: ManagedProcess, ready: Callable[[], bool], *, seconds: float, what: str) -> None:
        """Wait until `ready()`; looks four times a second.

        Raises:
            ProcessFailedError: the process ended, or `seconds` passed.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if not process.alive:
                raise process.failure(f"ended with exit code {process.guardian.returncode} before it was ready ({what}).")
            if time.monotonic() > deadline:
                raise process.failure(f"was not ready within {seconds:.0f} s ({what}).")
            if self.stopping.wait(0.25):
                raise DemoError("The demo is being stopped.")

    def run(
        self,
        name: str,
        command: Sequence[str],
        *,
        seconds: float,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        progress: Callable[[], None] | None = None,
    ) -> ManagedProcess:
        """Run `command` to its end; `progress` is called four times a second.

        Raises:
            ProcessFailedError: it failed or took longer than `seconds`; it is stopped then.
        """
        process = self.start(name, command, env=env, cwd=cwd)
        deadline = time.monotonic() + seconds
        try:
            while process.alive:
                if progress:
                    progress()
                if time.monotonic() > deadline:
                    raise process.failure(f"did not finish within {seconds:.0f} s.")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.guardian.wait(0.25)
        finally:
            self.processes.remove(process)
            stop_guardians([process.guardian])
            self._write_list()
        if process.guardian.returncode != 0:
            raise process.failure(f"failed with exit code {process.guardian.returncode}.")
        return process

    def keep(self) -> None:
        """Let everything go on after the demo has ended; `stop_kept` (or a SIGTERM to the guardians) stops it."""
        for process in self.processes:
            if process.guardian.stdin:
                process.guardian.stdin.write(b"keep\n")
                process.guardian.stdin.flush()
        self._kept = True

    def stop_all(self) -> None:
        """Stop every process and all its descendants; returns when they are gone. Last started, first asked."""
        self.stopping.set()
        stop_guardians([process.guardian for process in reversed(self.processes)])
        self.processes.clear()
        self._write_list()

    def _write_list(self) -> None:
        entries = []
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                born = psutil.Process(process.guardian.pid).create_time()
                entries.append({"name": process.name, "pid": process.guardian.pid, "born": born, "log": str(process.log)})
        atomic.write_json(self.folder / "processes.json", entries)


def stop_guardians(guardians: Sequence["subprocess.Popen[bytes]"], *, seconds: float = STOP_SECONDS) -> None:
    """SIGTERM to guardians, which stop their families; what remains after `seconds` is killed, family first."""
    for guardian in guardians:
        if guardian.poll() is None:
            guardian.terminate()
    deadline = time.monotonic() + seconds
    for guardian in guardians:
        with contextlib.suppress(subprocess.TimeoutExpired):
            guardian.wait(max(0.0, deadline - time.monotonic()))
        if guardian.poll() is None:
            _kill_tree(guardian.pid)
            guardian.wait()
        if guardian.stdin:
            with contextlib.suppress(OSError):
                guardian.stdin.close()


def stop_kept(folder: Path) -> list[str]:
    """Stop what an earlier `--keep` left running, from `<folder>/processes.json`; the names of what was stopped.

    A process is touched only if its start time still fits the list: its number may have been given away since.
    """
    path = folder / "processes.json"
    if not path.is_file():
        raise DemoError(f"{folder} holds no processes.json: name the logs folder of a demo that was run with --keep.")
    stopped = []
    living = []
    for entry in json.loads(path.read_text(encoding="utf-8")):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(int(entry["pid"]))
            if abs(process.create_time() - float(entry["born"])) < 1.0:
                process.terminate()
                living.append(process)
                stopped.append(str(entry["name"]))
    _, stubborn = psutil.wait_procs(living, timeout=STOP_SECONDS)
    for process in stubborn:
        _kill_tree(process.pid)
    atomic.write_json(path, [])
    return stopped


def _kill_tree(pid: int) -> None:
    with contextlib.suppress(psutil.Error):
        family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextlib.contextmanager
def ignored_interrupts() -> Iterator[None]:
    """No Ctrl-C inside: stopping things in order must not be cut short by an impatient second one. Main thread only, else no effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt inside, as SIGINT does: `kill` ends the demo as cleanly as Ctrl-C. Main thread only."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of the loopback interface that nobody listens on now.

    They are all held open until the last one is found, so no two are the same. Another program could take one before it is used; the
    server's start then fails with its own message.
    """
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", 0))
            ports.append(int(holder.getsockname()[1]))
        return ports
