"""One hospital's side of the run: its radiologist, its client, and the gate decisions read from its server."""

from dataclasses import dataclass, field

from fed_backend.demo.radiologist import Radiologist
from fed_backend.demo.rest_client import RestClient
from fed_backend.demo.result import GateEntry, ValidationEntry

VERDICTS = {"activated": "promoted", "rejected": "rejected", "held": "waiting"}


@dataclass
class HospitalLog:
    """What is collected while the demo runs. Used by one thread at a time."""

    client: RestClient
    radiologist: Radiologist
    gates: list[GateEntry] = field(default_factory=list)
    validation: ValidationEntry | None = None
    active: str = "base"

    @property
    def name(self) -> str:
        """The hospital."""
        return self.radiologist.hospital.name

    def read_gate(self, after: str, version: str) -> None:
        """Read the gate's decision on `version` from the server and keep it."""
        for decision in reversed(self.client.adapters()["decisions"]):
            if decision["version"] == version and decision["action"] in VERDICTS:
                self.gates.append(
                    {
                        "after": after,
                        "version": version,
                        "verdict": VERDICTS[decision["action"]],
                        "reason": str(decision["reason"]),
                        "figures": dict(decision.get("figures") or {}),
                    }
                )
                return
