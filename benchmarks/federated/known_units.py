"""Figures that an earlier run wrote into the same result file, whose work folder may be gone."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.federated.configuration import completed
from sam_adapters.errors import SettingError

Key = tuple[str, str, int]
"""Arm, method, seed."""


class KnownUnits:
    """The units of a result file, and the machines that computed them."""

    def __init__(
        self,
        units: Sequence[Mapping[str, Any]] = (),
        machines: Sequence[Mapping[str, Any]] = (),
        arms: Mapping[str, Any] | None = None,
    ) -> None:
        self.units = [{"machine": 0, **unit} for unit in units]
        self.machines = [dict(machine) for machine in machines]
        self.arms = dict(arms or {})

    @classmethod
    def read(cls, path: Path, same: Mapping[str, Any]) -> "KnownUnits":
        """Those of `path`; none if there is no such file.

        Args:
            same: what has to be the same there, by field of the file.

        Raises:
            SettingError: the file is no result, or one of another budget or other hospitals.
        """
        if not path.exists():
            return cls()
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            units, arms, machines = found["units"], found["arms"], found.get("machines") or [found["machine"]]
            found["configuration"] = completed(found["configuration"])
            differ = [key for key, value in same.items() if json.loads(json.dumps(value)) != found[key]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SettingError(f"{path} is there and is no result of this benchmark ({error}): name another --out.") from error
        if differ:
            raise SettingError(
                f"{path} holds figures of another {' and '.join(differ)}: name another --out, or give what it was begun with."
            )
        return cls(units, machines, arms)

    def of(self, key: Key, rounds: int) -> list[dict[str, Any]]:
        """The units of a trial, in the order of rounds; none unless all of them are there."""
        found = {unit["round"]: unit for unit in self.units if key_of(unit) == key}
        return [found[number] for number in range(1, rounds + 1)] if set(range(1, rounds + 1)) <= set(found) else []

    def machines_with(self, now: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
        """The machines and this one, and its place; a machine is itself again whatever its load was."""
        for place, known in enumerate(self.machines):
            if {**known, "load_before": None} == {**now, "load_before": None}:
                return self.machines, place
        return [*self.machines, dict(now)], len(self.machines)

    def machine_of(self, unit: Mapping[str, Any], otherwise: int) -> int:
        """Place in `machines` of the one that computed this very unit."""
        known = (one for one in self.units if {**one, "machine": 0} == {**unit, "machine": 0})
        return next((int(one["machine"]) for one in known), otherwise)


def key_of(unit: Mapping[str, Any]) -> Key:
    """Which trial a unit is of."""
    return unit["arm"], unit["method"], unit["seed"]
