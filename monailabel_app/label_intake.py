"""What happens to a label that was checked and saved: written into the label log, and perhaps a tuning is queued. Returns at once.

Threads: called from worker threads, one label at a time each; the label log and the datastore have their own locks.
"""

from dataclasses import dataclass
from typing import Any

from monailabel_app.case_roles import FINAL_TAG, CaseRoles
from monailabel_app.engine import Engine
from monailabel_app.guarded_datastore import GuardedDatastore, SavedLabel
from monailabel_app.infer_parameters import checked_version
from monailabel_app.tuning_queue import TuningQueue
from sam_adapters.audit import AuditLog
from sam_adapters.label_log import LabelEntry, LabelLog, label_file_sha256

MAX_WHO = 200


@dataclass(frozen=True)
class LabelIntake:
    """Takes in the labels of one site."""

    engine: Engine
    datastore: GuardedDatastore
    log: LabelLog
    roles: CaseRoles
    queue: TuningQueue
    audit: AuditLog

    def take(self, case: str, saved: SavedLabel) -> dict[str, Any]:
        """Take in a label that the datastore has stored.

        Returns:
            What the reply to the client says under `fedsca`: label_sha256, usable, problem, proposed_by and tuning (started, reason).

        Raises:
            RegistryError, AuditError: the label log, or the audit log, took no line; the label itself is stored.
        """
        digest = label_file_sha256(saved.path)
        proposed_by = self._proposed_by(case, saved)
        entry = LabelEntry(
            case=case,
            tag=saved.tag,
            label_sha256=digest,
            who=who_saved(saved),
            proposed_by=proposed_by,
            base=self.engine.base_sha256 if proposed_by is not None else None,
        )
        self.log.append(entry)
        self.audit.record("label_saved", case=case, tag=saved.tag, label_sha256=digest, client=entry.who)
        started, reason = self._consider_tuning(saved.tag)
        return {
            "label_sha256": digest,
            "usable": True,  # what is not usable is refused before it is stored, by `label_check`
            "problem": None,
            "proposed_by": proposed_by,
            "tuning": {"started": started, "reason": reason},
        }

    def _proposed_by(self, case: str, saved: SavedLabel) -> str | None:
        """The version that the client names, else the one that served this case last; None when no mask of ours was asked for."""
        named = saved.info.get("version")
        return checked_version(named) if named not in (None, "", "active") else self.engine.last_served(case)

    def _consider_tuning(self, tag: str) -> tuple[bool, str]:
        if tag != FINAL_TAG:
            return False, f"Only labels with the tag {FINAL_TAG!r} are tuned on."
        decision = self.queue.consider(self.roles.label_counts(self.datastore).train)
        return decision.start, decision.reason


def who_saved(saved: SavedLabel) -> str:
    """Who saved a label: the signed-in user, else what the client calls itself, else ""."""
    who = str(saved.info.get("user") or saved.info.get("client_id") or "")
    return "".join(character for character in who if character.isprintable())[:MAX_WHO]
