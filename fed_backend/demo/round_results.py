"""From the federation server's own record of a round (`rounds/round-0001.json`) to the demo's result. Pure."""

from collections.abc import Mapping
from typing import Any

from fed_backend.demo.result import GateEntry, RoundEntry

UPWARD = ("update", "probe_reply")
"""Purposes of what a site sends; everything else it receives."""


def round_entry(record: Mapping[str, Any], *, due: str, started: str, seconds: float) -> RoundEntry:
    """The result's entry of a round that the server recorded; sites in alphabetical order."""
    sites = sorted(record.get("sites") or {})
    givers = list(record.get("givers") or [])
    weights: Mapping[str, Mapping[str, float]] = record.get("weights") or {}
    return {
        "number": int(record["round"]),
        "due": due,
        "started": started,
        "seconds": seconds,
        "sites": sites,
        "distance": _ordered_matrix(record.get("distance"), givers, sites),
        "noise": _ordered_row(record.get("noise"), givers, sites),
        "weights": [[float(weights.get(receiver, {}).get(giver, 0.0)) for giver in sites] for receiver in sites],
        "bytes": {site: _traffic(purposes) for site, purposes in (record.get("bytes") or {}).items()},
        "refusals": [{key: str(value) for key, value in refusal.items()} for refusal in record.get("refusals") or []],
    }


def gate_entry(record: Mapping[str, Any], site: str) -> GateEntry | None:
    """What a site's gate said of its mixture, None if it said nothing."""
    verdict = (record.get("verdicts") or {}).get(site)
    if not verdict:
        return None
    return {
        "after": f"round {record['round']}",
        "version": str(verdict.get("candidate", "")),
        "verdict": str(verdict.get("verdict", "")),
        "reason": str(verdict.get("reason", "")),
        "figures": dict(verdict.get("figures") or {}),
    }


def _traffic(purposes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    return {
        purpose: {"up": int(count), "down": 0} if purpose in UPWARD else {"up": 0, "down": int(count)}
        for purpose, count in purposes.items()
    }


def _ordered_matrix(values: Any, givers: list[str], sites: list[str]) -> list[list[float]] | None:
    """Rows and columns from the order of `givers` to that of `sites`; None unless every pair was compared."""
    if not values or not set(sites) <= set(givers):
        return None
    places = [givers.index(site) for site in sites]
    rows = [[values[i][j] for j in places] for i in places]
    return None if any(value is None for row in rows for value in row) else rows


def _ordered_row(values: Any, givers: list[str], sites: list[str]) -> list[float] | None:
    if not values or not set(sites) <= set(givers):
        return None
    row = [values[givers.index(site)] for site in sites]
    return None if any(value is None for value in row) else row
