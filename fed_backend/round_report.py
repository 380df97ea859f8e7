"""What happened in a round, for people and programs: `<state>/rounds/round-0001.json`. No torch, no Flower.

    format, federation (id), name, round, run, base, schema
    status        running | finished | skipped; reason says why a round was skipped
    started, finished                       UTC
    seconds       phase -> seconds: join, update, probe, mixture, total
    sites         site -> {cases, version, probe_cases, clipped, newcomer, receives_only, epsilon, delta, seconds: {phase: seconds}}, of
                  those heard; receives_only: why it gave nothing; epsilon at delta: its privacy spent so far; seconds: the site's own
    refusals      [{site, phase, reason}]: what was not accepted, and sites that did not answer
    probe         null, or {seed, size, sites}
    givers        sites that can be compared, in the order of noise (n,) and distance (n, n); null stands for never compared
    weights       receiver -> giver -> weight
    bytes         site -> {update, probe_request, probe_reply, mixture}: payload bytes; update and probe_reply go up, the others down
    verdicts      site -> {verdict, reason, figures, active_before, candidate, active_after}

A file is written when the mixtures go out (status running) and again when the verdicts are in; both times atomically.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import RoundError
from sam_adapters import atomic

FORMAT = 1
ROUNDS_FOLDER = "rounds"

Phase = Literal["join", "update", "probe", "mixture"]
Purpose = Literal["update", "probe_request", "probe_reply", "mixture"]
Status = Literal["running", "finished", "skipped"]


@dataclass
class SiteLine:
    """A site that was heard in the round."""

    cases: int
    version: str
    newcomer: bool = False
    receives_only: str = ""
    epsilon: float | None = None
    delta: float | None = None
    clipped: float | None = None
    probe_cases: list[int] | None = None
    note: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass
class Refusal:
    """Something that was not accepted, or did not come."""

    site: str
    phase: Phase
    reason: str


@dataclass
class Verdict:
    """What a site made of its mixture."""

    verdict: str
    reason: str
    active_before: str = ""
    candidate: str = ""
    active_after: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class RoundReport:
    """One round; filled while it runs. See the module for the meaning of the fields; `traffic` is `bytes` in the file."""

    federation: str
    name: str
    round: int
    run: str
    base: str
    schema: str
    status: Status = "running"
    reason: str = ""
    started: str = field(default_factory=lambda: now())
    finished: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    sites: dict[str, SiteLine] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    probe: dict[str, Any] | None = None
    givers: list[str] = field(default_factory=list)
    noise: list[float | None] = field(default_factory=list)
    distance: list[list[float | None]] = field(default_factory=list)
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def count_bytes(self, site: str, purpose: Purpose, payload: bytes) -> None:
        """Add a payload to the site's traffic."""
        counted = self.traffic.setdefault(site, {})
        counted[purpose] = counted.get(purpose, 0) + len(payload)

    def refuse(self, site: str, phase: Phase, reason: str) -> None:
        """Write a refusal down."""
        self.refusals.append(Refusal(site, phase, reason))

    def end(self, status: Status, reason: str = "") -> None:
        """The round is over."""
        self.status, self.reason, self.finished = status, reason, now()
        self.seconds["total"] = round(sum(value for phase, value in self.seconds.items() if phase != "total"), 3)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        value = {"format": FORMAT, **asdict(self)}
        value["bytes"] = value.pop("traffic")
        return value

    def save(self, state_folder: Path) -> Path:
        """Write the round's file, atomically, and return its path."""
        folder = state_folder / ROUNDS_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"round-{self.round:04d}.json"
        atomic.write_json(path, self.to_dict())
        return path


def numbers(values: NDArray[np.float64]) -> Any:
    """An array as nested lists for JSON; infinite becomes None."""
    return _finite(values.tolist())


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if math.isfinite(value) else None


def now() -> str:
    """The present in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def round_files(state_folder: Path) -> list[Path]:
    """The files of all rounds, oldest first."""
    pattern = re.compile(r"round-\d{4,}\.json")
    folder = state_folder / ROUNDS_FOLDER
    found = [path for path in folder.iterdir() if pattern.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.stem.removeprefix("round-")))


def read_round(path: Path) -> Mapping[str, Any]:
    """A round's file as it stands.

    Raises:
        RoundError: it cannot be read, or is of another format.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RoundError(
            f"{path} cannot be read ({error}): restore it, or move it out of the folder. Only the report is lost, the round counts."
        ) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise RoundError(f"{path} is not a round report of format {FORMAT}.")
    return value
