"""A round's file as checked values: what charts and metrics may rely on. Pure; see `round_report` for the file.

Everything in the file that sites said of themselves is untrusted: numbers must be finite, texts are cut, and a file that is built otherwise
is refused as a whole, so that one damaged file costs one round on the page and never the page.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fed_backend.errors import RoundError

UP, DOWN = ("update", "probe_reply"), ("probe_request", "mixture")
STATUSES = ("running", "finished", "skipped")
MAX_TEXT = 1000
Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Dice:
    """Mean Dice over a site's validation cases, each 0 to 1 or None where it was not told.

    Attributes:
        before: of the version that was active when the mixture came.
        candidate: of the site's version with the mixture in it.
        base: of the untuned base.
        cases: validation cases.
    """

    before: float | None = None
    candidate: float | None = None
    base: float | None = None
    cases: int | None = None


@dataclass(frozen=True)
class VerdictFacts:
    """What a site made of its mixture."""

    verdict: str
    reason: str
    dice: Dice = field(default_factory=Dice)
    active_after: str = ""

    @property
    def after(self) -> float | None:
        """Dice of what is active after the round: the candidate's if it was promoted, else what it was before."""
        return self.dice.candidate if self.verdict == "promoted" else self.dice.before


@dataclass(frozen=True)
class RefusalFacts:
    """Something that was not accepted, or did not come."""

    round: int
    site: str
    phase: str
    reason: str


@dataclass(frozen=True)
class RoundFacts:
    """One round.

    Attributes:
        number: from 1 on.
        status: running, finished or skipped; `reason` says why it was skipped.
        started, finished: UTC.
        seconds: duration; None while it is running.
        phases: phase -> seconds, without the total.
        heard: site -> labelled cases, of sites whose update was accepted.
        newcomers: sites that could not be compared yet.
        givers: sites in the order of `distance` (n, n), squared gradient distances ≥ 0, None where never compared.
        weights: receiver -> giver -> weight, 0 to 1.
        traffic: site -> purpose -> payload bytes.
        privacy: site -> (ε, δ) spent until then.
    """

    number: int
    status: str
    reason: str
    started: datetime | None
    finished: datetime | None
    seconds: float | None
    phases: Mapping[str, float]
    heard: Mapping[str, int]
    newcomers: frozenset[str]
    refusals: tuple[RefusalFacts, ...]
    givers: tuple[str, ...]
    distance: Matrix
    weights: Mapping[str, Mapping[str, float]]
    traffic: Mapping[str, Mapping[str, int]]
    verdicts: Mapping[str, VerdictFacts]
    privacy: Mapping[str, tuple[float, float]]

    def bytes_of(self, site: str) -> tuple[int, int]:
        """Payload bytes that the site sent and was sent."""
        counted = self.traffic.get(site, {})
        return sum(counted.get(key, 0) for key in UP), sum(counted.get(key, 0) for key in DOWN)

    def sites(self) -> list[str]:
        """Every site of which the round knows something, except by a refusal alone (whose name may be that of a node)."""
        return list(dict.fromkeys([*self.heard, *self.givers, *self.weights, *self.traffic, *self.verdicts, *self.privacy]))


def parse_round(value: Mapping[str, Any]) -> RoundFacts:
    """The checked values of a round's file.

    Raises:
        RoundError: it is built otherwise than `round_report` writes it.
    """
    try:
        return _parse(value)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RoundError(f"The report is not built as expected ({type(error).__name__}: {error}).") from error


def _parse(value: Mapping[str, Any]) -> RoundFacts:
    number = _count(value["round"])
    status = value["status"]
    if status not in STATUSES:
        raise ValueError(f"status {str(status)[:40]!r}")
    phases = {_text(key): _positive(seconds) for key, seconds in value["seconds"].items()}
    total = phases.pop("total", None)
    started, finished = moment(value["started"]), moment(value["finished"])
    if total is None and started is not None and finished is not None:
        total = max(0.0, (finished - started).total_seconds())
    givers = tuple(_text(name) for name in value["givers"])
    return RoundFacts(
        number=number,
        status=status,
        reason=_text(value["reason"]),
        started=started,
        finished=finished,
        seconds=total if status != "running" else None,
        phases=phases,
        heard={_text(site): _count(line["cases"]) for site, line in value["sites"].items()},
        newcomers=frozenset(_text(site) for site, line in value["sites"].items() if line.get("newcomer") is True),
        refusals=tuple(
            RefusalFacts(number, _text(item["site"]), _text(item["phase"]), _text(item["reason"])) for item in value["refusals"]
        ),
        givers=givers,
        distance=_square(value["distance"], len(givers)),
        weights={_text(site): {_text(giver): _share(weight) for giver, weight in row.items()} for site, row in value["weights"].items()},
        traffic={_text(site): {_text(key): _count(size) for key, size in row.items()} for site, row in value["bytes"].items()},
        verdicts={_text(site): _verdict(line) for site, line in value["verdicts"].items()},
        privacy={
            _text(site): (_positive(line["epsilon"]), _share(line["delta"]))
            for site, line in value["sites"].items()
            if line.get("epsilon") is not None and line.get("delta") is not None
        },
    )


def moment(value: object) -> datetime | None:
    """An ISO 8601 time as UTC; without an offset it is taken as UTC. None stays None.

    Raises:
        ValueError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a time that is no text")
    found = datetime.fromisoformat(value)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _verdict(line: Mapping[str, Any]) -> VerdictFacts:
    figures = line.get("figures")
    overall = figures.get("overall") if isinstance(figures, dict) else None
    dice = Dice()
    if isinstance(overall, dict):  # a site's own words: what is no Dice is left out, the round stays
        cases = figures.get("cases") if isinstance(figures, dict) else None
        before, candidate, base = (_dice(overall.get(key)) for key in ("active", "candidate", "base"))
        dice = Dice(before, candidate, base, cases if type(cases) is int else None)
    return VerdictFacts(_text(line["verdict"]), _text(line["reason"]), dice, _text(line.get("active_after") or ""))


def _dice(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a text was expected")
    return value[:MAX_TEXT]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:40]!r} where a finite number was expected")
    return float(value)


def _positive(value: object) -> float:
    number = _number(value)
    if number < 0:
        raise ValueError(f"{number} where 0 or more was expected")
    return number


def _share(value: object) -> float:
    number = _positive(value)
    if number > 1 + 1e-6:
        raise ValueError(f"{number} where 0 to 1 was expected")
    return min(number, 1.0)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{str(value)[:40]!r} where a count was expected")
    return value


def _square(value: Any, size: int) -> Matrix:
    rows = tuple(tuple(None if cell is None else _positive(cell) for cell in row) for row in value)
    if rows and (len(rows) != size or any(len(row) != size for row in rows)):
        raise ValueError(f"distances of another size than the {size} sites")
    return rows
