"""What became of a round that the schedule began, read from the federation's own files, which alone count.

A round is over when the server's state has its number behind it; that number is raised once, in one atomic write. Everything else (the
run's exit code, the round's report, the schedule's book) follows from that.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_backend import server_state_file
from fed_backend.errors import RoundError
from fed_backend.round_report import ROUNDS_FOLDER, now, read_round
from fed_backend.schedule.book import Outcome
from fed_backend.server_state_file import STATE_FILE
from sam_adapters import atomic
from sam_adapters.file_lock import is_locked

RUN_FILE = "last-run.json"
RUN_LOCK = "server.lock"
LATE_REPORT = "The server was interrupted while it wrote this report; the round itself is complete."


@dataclass(frozen=True)
class Ended:
    """A round that is over."""

    outcome: Outcome
    reason: str = ""


def rounds_behind(state: Path) -> int:
    """Number of the last round that the federation has behind it; 0 before the first.

    Raises:
        ServerStateError: the state cannot be read.
    """
    path = state / STATE_FILE
    if not path.exists() and not server_state_file.previous_of(path).exists():
        return 0
    return server_state_file.load(path).round


def outcome_of(state: Path, target: int) -> Ended | None:
    """How round `target` ended; None if it is not over. A report that was left unfinished is completed.

    Raises:
        ServerStateError: the state cannot be read.
    """
    if rounds_behind(state) < target:
        return None
    path = state / ROUNDS_FOLDER / f"round-{target:04d}.json"
    try:
        report = read_round(path)
    except RoundError as error:
        return Ended("finished", f"Its report cannot be read: {error}" if path.exists() else "It has no report.")
    if report["status"] == "running":
        atomic.write_json(path, _completed(report))
        return Ended("finished", LATE_REPORT)
    return Ended("skipped" if report["status"] == "skipped" else "finished", str(report.get("reason", "")))


def _completed(report: Mapping[str, Any]) -> dict[str, Any]:
    seconds = dict(report.get("seconds") or {})
    total = round(sum(value for phase, value in seconds.items() if phase != "total"), 3)
    return {**report, "status": "finished", "reason": LATE_REPORT, "finished": now(), "seconds": {**seconds, "total": total}}


def run_at_work(state: Path) -> bool:
    """Whether some run of Flower works on this state folder: it holds <state>/server.lock."""
    return is_locked(state / RUN_LOCK)


def write_problem(state: Path, target: int, problem: str) -> None:
    """What the round's process says when it fails, for the schedule to repeat."""
    atomic.write_json(state / RUN_FILE, {"target": target, "problem": problem})


def read_problem(state: Path, target: int) -> str:
    """What it said of this round; "" if nothing."""
    try:
        value = json.loads((state / RUN_FILE).read_text(encoding="utf-8"))
        return str(value["problem"]) if value["target"] == target else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
