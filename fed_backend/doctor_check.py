"""One finding of `fedsca doctor`, and what all its checks share."""

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "warning", "missing"]
SETUP = "make setup"
"""The remedy for anything wrong with the environment, in a checkout of the project."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's table.

    Attributes:
        name: what was looked at.
        found: what was found.
        status: `missing` means that something needed is not there or does not work; `warning`, that it may cause trouble.
        remedy: what to do about it; "" where nothing is to be done.
    """

    name: str
    found: str
    status: Status = "ok"
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-ready dictionary."""
        return {"check": self.name, "found": self.found, "status": self.status, "remedy": self.remedy}


def part(probe: dict[str, Any], key: str) -> dict[str, Any]:
    """One part of the probe's answer; an empty one where the probe could not say."""
    value = probe.get(key)
    return value if isinstance(value, dict) else {}
