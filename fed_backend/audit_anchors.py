"""The server's audit log, and the chain values that both sides of a federation tell each other. No torch, no Flower.

Every message of the server says the head of its audit log, every reply of a site the head of the site's: field `audit` of the message. Each
side keeps what it was told as lines of its own log (`server_anchor` at a site, `site_anchor` at the server), so that cutting the end off
one log is noticed with the other one, and altering both takes both sides.

Lines of the server's log, <state>/audit.jsonl, besides `when`, `who` and `address`:

    site_anchor     site, anchor, round         what a site said its log's head was
    update_taken    site, round, cases, version
    refused         site, round, phase, reason
    verdict         site, round, verdict, candidate
    round_ended     round, status, reason, heard
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fed_backend.round_report import RoundReport
from sam_adapters.audit import AuditLog
from sam_adapters.audit_chain import GENESIS, is_chain_value

ANCHOR_FIELD = "audit"
SERVER_LOG = "audit.jsonl"
SITE_ANCHOR = "site_anchor"
SERVER_ANCHOR = "server_anchor"


def server_log(state_folder: Path) -> AuditLog:
    """The audit log of the server whose state lies in `state_folder`."""
    return AuditLog(state_folder / SERVER_LOG)


def anchor_in(fields: Mapping[str, Any]) -> str | None:
    """The chain value in a message; None when there is none that could be one, or when the sender's log is still empty."""
    value = fields.get(ANCHOR_FIELD)
    return value if isinstance(value, str) and is_chain_value(value) and value != GENESIS else None


def anchors_told_by(path: Path, site: str | None) -> list[str]:
    """The chain values that a log says it was told: by site `site`, or by the server if `site` is None. Lines that cannot be read are
    left out: `fedsca audit verify` of that log finds them."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        event = SERVER_ANCHOR if site is None else SITE_ANCHOR
        if isinstance(value, dict) and value.get("event") == event and (site is None or value.get("site") == site):
            anchor = value.get("anchor")
            found += [anchor] if isinstance(anchor, str) and is_chain_value(anchor) else []
    return found


def record_round(log: AuditLog, report: RoundReport, anchors: Mapping[str, str]) -> None:
    """Write down a round that ended.

    Args:
        anchors: site -> chain value that it told last.

    Raises:
        AuditError: the log took no line.
    """
    for site, anchor in sorted(anchors.items()):
        log.record(SITE_ANCHOR, site=site, anchor=anchor, round=report.round)
    for site, line in sorted(report.sites.items()):
        log.record("update_taken", site=site, round=report.round, cases=line.cases, version=line.version)
    for refusal in report.refusals:
        log.record("refused", site=refusal.site, round=report.round, phase=refusal.phase, reason=refusal.reason)
    for site, verdict in sorted(report.verdicts.items()):
        log.record("verdict", site=site, round=report.round, verdict=verdict.verdict, candidate=verdict.candidate)
    log.record("round_ended", round=report.round, status=report.status, reason=report.reason, heard=len(report.sites))
