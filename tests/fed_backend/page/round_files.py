"""Rounds of given numbers, for the charts' tests."""

from typing import Any

from fed_backend.page.round_facts import RoundFacts, parse_round
from fed_backend.round_report import RoundReport


def report(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A finished round's file as a dictionary."""
    one = RoundReport(federation="id", name="north", round=number, run="7", base="ab", schema="cd", started="2026-03-02T02:00:00+00:00")
    value = {**one.to_dict(), "status": "finished", "finished": "2026-03-02T02:01:40+00:00", "seconds": {"join": 1.0, "total": 100.0}}
    spent = changes.pop("privacy", {})
    value = {**value, **changes}
    if not spent:
        return value
    return {**value, "sites": {**value["sites"], **{site: {**value["sites"].get(site, line()), **one} for site, one in spent.items()}}}


def facts(number: int = 1, **changes: Any) -> RoundFacts:
    return parse_round(report(number, **changes))


def line(cases: int = 3, *, newcomer: bool = False) -> dict[str, Any]:
    return {"cases": cases, "version": "v", "newcomer": newcomer, "clipped": None, "probe_cases": None, "seconds": {}}


def verdict(kind: str, before: float, candidate: float, base: float) -> dict[str, Any]:
    figures = {"cases": 4, "overall": {"active": before, "candidate": candidate, "base": base}}
    return {"verdict": kind, "reason": "Because.", "active_before": "", "candidate": "", "active_after": "", "figures": figures}
