"""What the registry hands out and takes in: plain immutable records. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sam_adapters.errors import RegistryError
from sam_adapters.provenance import BASE, Kind, Provenance

VersionState = Literal["candidate", "active", "rejected", "retired"]
Action = Literal["activated", "rolled back", "rejected", "held"]
TuningStatus = Literal["running", "finished", "failed", "stopped", "interrupted"]


@dataclass(frozen=True)
class Version:
    """One immutable adapter of this site.

    Attributes:
        id: first 16 hex digits of the hash of its contents.
        state: `candidate` (not decided), `active` (serving), `rejected`, or `retired` (was active once).
        provenance: how it was made.
    """

    id: str
    state: VersionState
    provenance: Provenance

    @property
    def kind(self) -> Kind:
        return self.provenance.kind

    @property
    def parents(self) -> tuple[str, ...]:
        return self.provenance.parents

    @property
    def base(self) -> str:
        """sha256 of the base network's weights."""
        return self.provenance.base

    @property
    def schema_id(self) -> str:
        return self.provenance.schema_id

    @property
    def round(self) -> int | None:
        return self.provenance.round

    @property
    def created(self) -> datetime:
        return self.provenance.created

    @property
    def metrics(self) -> Mapping[str, float]:
        return self.provenance.metrics

    @property
    def cases(self) -> int:
        return self.provenance.cases

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary: id, state and everything of the provenance."""
        provenance = self.provenance.to_dict()
        del provenance["format"]
        return {"id": self.id, "state": self.state, **provenance}


def id_or_base(version: Version | None) -> str:
    """The version's id; `base` where there is none."""
    return BASE if version is None else version.id


@dataclass(frozen=True)
class Decision:
    """One entry of the site's history of decisions, oldest is number 1.

    Attributes:
        version: version id it is about, or `base`. For `rolled back`: the version that is active afterwards.
        previous: what was active before (`base` or an id); None where the decision did not change what is active.
        by: who decided, e.g. `gate` or a person's name.
        figures: the numbers it rests on.
    """

    number: int
    at: datetime
    action: Action
    version: str
    previous: str | None
    reason: str
    by: str
    figures: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {
            "number": self.number,
            "at": self.at.isoformat(),
            "action": self.action,
            "version": self.version,
            "previous": self.previous,
            "reason": self.reason,
            "by": self.by,
            "figures": dict(self.figures),
        }


@dataclass(frozen=True)
class Tuning:
    """One local tuning.

    Attributes:
        status: `interrupted` means that its process ended without saying how.
        labels: labelled training cases when it started.
        steps: optimiser steps planned.
        version: the version it made, if it made one.
    """

    id: int
    started: datetime
    finished: datetime | None
    status: TuningStatus
    labels: int
    steps: int
    version: str | None

    @property
    def running(self) -> bool:
        return self.status == "running"


@dataclass(frozen=True)
class RoundRecord:
    """What this site knows of one federated round. Filled bit by bit; see `Registry.record_round`.

    Attributes:
        federation: name of the federation.
        round: round number in it.
        run_id: Flower's run.
        sent_version: version whose shared part was sent (`base` when there was none).
        received_version: version made from the received mixture.
        weights: site name -> weight in the received mixture.
        bytes_up: purpose -> payload bytes sent, e.g. {"update": 106000}.
        bytes_down: purpose -> payload bytes received.
        decision: the gate's verdict.
        reason: the gate's reason.
        at: time of the last change; the registry sets it.
    """

    federation: str
    round: int
    run_id: str | None = None
    sent_version: str | None = None
    received_version: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    bytes_up: Mapping[str, int] = field(default_factory=dict)
    bytes_down: Mapping[str, int] = field(default_factory=dict)
    decision: str | None = None
    reason: str | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        if not self.federation or self.round < 0:
            raise RegistryError(f"Round {self.round} of federation {self.federation!r}: expected a name and a number from 0.")
