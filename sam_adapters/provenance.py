"""Where an adapter version comes from: written into its folder as `provenance.json` and into the registry. No torch."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sam_adapters import atomic
from sam_adapters.errors import RegistryError

Kind = Literal["local", "mixture", "imported"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PROVENANCE_FILE = "provenance.json"
BASE = "base"
"""What the untuned base is called wherever a version is named."""

VERSION_ID_PATTERN = re.compile(r"[0-9a-f]{16}")
_FORMAT = 1


def checked_version_id(text: str) -> str:
    """Return `text` if it is a version id (16 lower-case hex digits), else raise RegistryError. Ids become folder names: check first."""
    if not isinstance(text, str) or not VERSION_ID_PATTERN.fullmatch(text):
        raise RegistryError(f"{text!r} is not an adapter version: expected 16 hexadecimal digits (see `fedsca adapters list`).")
    return text


def utc_now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Provenance:
    """How a version was made. Two additions of the same weights keep the first provenance.

    Attributes:
        kind: `local` (tuned here), `mixture` (received from the federation) or `imported` (brought by a person).
        base: sha256 (hex) of the base network's weights.
        schema_id: `AdapterSchema.id` of its shared part.
        site: the site that made it.
        parents: version ids it was made from; empty when it was made from the untuned base.
        federation: name of the federation, for a mixture.
        round: federated round, for a mixture.
        cases: number of labelled cases it was trained on.
        labels: case name -> sha256 of the label file it was trained on.
        weights: site name -> weight, for a mixture.
        metrics: figures known when it was made, e.g. the last training loss.
        settings: the settings it was made with, JSON values.
        created: when, in UTC.
    """

    kind: Kind
    base: str
    schema_id: str
    site: str
    parents: tuple[str, ...] = ()
    federation: str | None = None
    round: int | None = None
    cases: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RegistryError(f"Provenance kind is {self.kind!r}, expected one of {', '.join(KINDS)}.")
        if not re.fullmatch(r"[0-9a-f]{64}", self.base):
            raise RegistryError(f"Provenance base is {self.base!r}, expected a sha256 of 64 hexadecimal digits.")
        if not re.fullmatch(r"[0-9a-f]{16}", self.schema_id):
            raise RegistryError(f"Provenance schema is {self.schema_id!r}, expected an AdapterSchema.id of 16 hexadecimal digits.")
        for parent in self.parents:
            checked_version_id(parent)
        if self.cases < 0 or (self.round is not None and self.round < 0):
            raise RegistryError(f"Provenance has {self.cases} cases and round {self.round}: neither may be negative.")
        if self.created.tzinfo is None:
            raise RegistryError(f"Provenance time {self.created.isoformat()} has no time zone, expected UTC.")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {
            "format": _FORMAT,
            "kind": self.kind,
            "base": self.base,
            "schema_id": self.schema_id,
            "site": self.site,
            "parents": list(self.parents),
            "federation": self.federation,
            "round": self.round,
            "cases": self.cases,
            "labels": dict(self.labels),
            "weights": dict(self.weights),
            "metrics": dict(self.metrics),
            "settings": dict(self.settings),
            "created": self.created.astimezone(UTC).isoformat(),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Provenance":
        """Inverse of `to_dict`.

        Raises:
            RegistryError: an entry is missing or of the wrong kind.
        """
        try:
            if value["format"] != _FORMAT:
                raise RegistryError(f"Provenance format {value['format']!r} is not known here, expected {_FORMAT}: update this software.")
            return cls(
                kind=cast(Kind, value["kind"]),
                base=str(value["base"]),
                schema_id=str(value["schema_id"]),
                site=str(value["site"]),
                parents=tuple(str(parent) for parent in value["parents"]),
                federation=None if value["federation"] is None else str(value["federation"]),
                round=None if value["round"] is None else int(value["round"]),
                cases=int(value["cases"]),
                labels={str(case): str(sha) for case, sha in value["labels"].items()},
                weights={str(site): float(weight) for site, weight in value["weights"].items()},
                metrics={str(name): float(figure) for name, figure in value["metrics"].items()},
                settings=dict(value["settings"]),
                created=datetime.fromisoformat(value["created"]).astimezone(UTC),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RegistryError(f"Not a provenance: {error!r}.") from error

    def save(self, path: Path) -> None:
        """Write `provenance.json`, atomically."""
        atomic.write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "Provenance":
        """Read `provenance.json`.

        Raises:
            RegistryError: the file is missing or holds something else.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RegistryError(f"{path} cannot be read as a provenance: {error}.") from error
        if not isinstance(value, dict):
            raise RegistryError(f"{path} holds a {type(value).__name__}, expected a JSON object.")
        return cls.from_dict(value)
