"""A command that is started again when it ends, as systemd's `Restart=always` does it for the units in deploy/."""

import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 60.0


class Kept:
    """See the module. One thread for each; `kill`, `off` and `on` may be called from the thread that made it.

    Attributes:
        starts: how often it was started.
        codes: how it ended, each time.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], log: Path, *, delay: float = 1.0) -> None:
        self.argv, self.environment, self.log, self.delay = list(argv), dict(environment), log, delay
        self.starts, self.codes = 0, list[int]()
        self._wanted, self._ending = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # of `_process`
        self._thread = threading.Thread(target=self._keep, name=log.stem, daemon=True)
        self._wanted.set()
        self._thread.start()

    def kill(self) -> None:
        """kill -9, now; it is started again."""
        self._signal(signal.SIGKILL)

    def off(self, number: int = signal.SIGKILL) -> None:
        """End it, and start it again only after `on`."""
        self._wanted.clear()
        self._signal(number)
        for _ in range(int(STOP_SECONDS / 0.05)):
            with self._lock:
                if self._process is None:
                    return
            threading.Event().wait(0.05)
        raise AssertionError(f"{self.argv[:5]} did not end within {STOP_SECONDS} s")

    def on(self) -> None:
        """Let it run again."""
        self._wanted.set()

    def close(self) -> None:
        """End it for good."""
        self._ending.set()
        self._wanted.set()
        self._signal(signal.SIGKILL)
        self._thread.join(STOP_SECONDS)

    @property
    def said(self) -> str:
        """Its output so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def _signal(self, number: int) -> None:
        with self._lock:
            if self._process is not None:
                os.kill(self._process.pid, number)

    def _keep(self) -> None:
        while self._wanted.wait() and not self._ending.is_set():
            with self.log.open("ab") as stream, self._lock:
                self._process = started = subprocess.Popen(
                    self.argv, env=self.environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
                )
                self.starts += 1
            code = started.wait()
            with self._lock:
                self._process = None
            self.codes.append(code)
            self._ending.wait(self.delay)
