"""Names a moment in a process of a federation, and what happens to the process there. The hook in `hook/` does it.

A rule counts for processes that start after it was written, and the first process that comes to the moment takes it.
"""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HOOK = Path(__file__).parent / "hook"
MARK = "FEDSCA_FAULTS"
SERVER_APP, CLIENT_APP = "flwr-serverapp|flower-serverapp|serverapp", "clientapp"
REACH_SECONDS = 240.0


@dataclass(frozen=True)
class Moment:
    """A moment in the life of a process.

    Attributes:
        process: regular expression that its command line matches.
        event: an audit event of Python: `import`, `open`, `os.rename`.
        matching: regular expression that what is imported, opened or renamed (`from -> to`) matches.
        home: regular expression that its FLWR_HOME matches, which tells sites apart.
        skip: so many times it passes by.
    """

    process: str
    event: str
    matching: str
    home: str = ""
    skip: int = 0


@dataclass(frozen=True)
class Reached:
    """A moment that was asked for."""

    path: Path

    @property
    def fired(self) -> bool:
        """Whether a process has come there."""
        return self.path.with_suffix(".fired").exists()

    def wait(self, seconds: float = REACH_SECONDS) -> int:
        """Wait until a process is held there; returns its number."""
        held = self.path.with_suffix(".held")
        wait_for(f"the moment {self.path.stem}", held.exists, seconds)
        return int(held.read_text(encoding="utf-8"))

    def wait_fired(self, seconds: float = REACH_SECONDS) -> None:
        """Wait until a process has come there."""
        wait_for(f"the moment {self.path.stem}", lambda: self.fired, seconds)

    def release(self) -> None:
        """Let whoever is held, or fails, go on."""
        self.path.with_suffix(".go").touch()


class Moments:
    """The rules of one federation, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """Of every process of the federation."""
        paths = [str(HOOK), os.environ.get("PYTHONPATH", "")]
        return {**os.environ, MARK: str(self.folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def hold(self, moment: Moment) -> Reached:
        """Hold the first process that comes to `moment`."""
        return self._rule(moment, "hold")

    def kill(self, moment: Moment) -> Reached:
        """It gets SIGKILL in that instant."""
        return self._rule(moment, "kill")

    def fail(self, moment: Moment, error: str) -> Reached:
        """The operation fails there with `error` (ENOSPC, EIO, ...) in every process, until `release`."""
        return self._rule(moment, error)

    def _rule(self, moment: Moment, action: str) -> Reached:
        number = len(list(self.folder.glob("*.rule")))
        path = self.folder / f"{number:02d}-{action}.rule"
        part = path.with_suffix(".new")
        part.write_text(json.dumps({**moment.__dict__, "action": action}), encoding="utf-8")
        part.replace(path)
        return Reached(path)


def of_site(name: str) -> str:
    """`home` of a site's processes."""
    return rf"/{re.escape(name)}/work/"


def wait_for(what: str, reached: Callable[[], object], seconds: float) -> None:
    """Wait for a condition; AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
