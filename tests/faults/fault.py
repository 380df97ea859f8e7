"""The list of faults, each a function that does harm to a federation and tells what came of it."""

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.federation import Federation, NotHere
from tests.faults.soundness import assert_sound


@dataclass(frozen=True)
class Seen:
    """What happened after a fault.

    Attributes:
        what: in a sentence.
        seconds: from the end of the fault (or from what a person did about it) to the end of the next round; None where nothing stopped.
        person: the sentence that told a person what to do; "" where nobody had to do anything.
    """

    what: str
    seconds: float | None
    person: str = ""


Scenario = Callable[[Federation], Seen]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what is done.
        group: the kind of harm.
        scenario: does it to a federation that runs, or has been made only.
        sites: of the federation that it needs.
        options: of that federation.
        shared: whether it may be one that has seen other faults, and is left in order for the next one.
        quick: whether it runs with every `make test`.
    """

    name: str
    group: str
    scenario: Scenario
    sites: tuple[str, ...] = ("A", "B")
    options: Mapping[str, Any] = field(default_factory=dict)
    shared: bool = True
    quick: bool = False


__all__ = ["FAULTS", "Fault", "Grounds", "NotHere", "Seen", "fault", "recovered"]

FAULTS: list[Fault] = []


def fault(name: str, group: str, **settings: Any) -> Callable[[Scenario], Scenario]:
    """Put a scenario on the list; see `Fault` for the settings."""

    def register(scenario: Scenario) -> Scenario:
        assert name not in [one.name for one in FAULTS]
        FAULTS.append(Fault(name, group, scenario, **settings))
        return scenario

    return register


class Grounds:
    """Where faults happen: one after the other to the same federation, as in a bad year, where they allow it."""

    def __init__(self, folder: Path, templates: Path) -> None:
        self.folder, self.templates = folder, templates
        self.federation: Federation | None = None
        self._used_for: Fault | None = None
        self._count = 0

    def make(self, fault: Fault) -> tuple[Seen, float | None]:
        """Do it; what was seen, and how long an undisturbed round of this federation took."""
        federation = self._federation(fault)
        try:
            seen = fault.scenario(federation)
            assert_sound(federation, federation.done)
        except BaseException:
            self.close()
            raise
        undisturbed = federation.took[0] if federation.took else None
        if not fault.shared:
            self.close()
        return seen, undisturbed

    def _federation(self, fault: Fault) -> Federation:
        used = self._used_for
        fits = used is not None and used.shared and fault.shared and used.sites == fault.sites and used.options == fault.options
        if self.federation is None or not fits:
            self.close()
            self._count += 1
            self.federation = Federation(self.folder / f"{self._count:02d}", self.templates, fault.sites, **fault.options)
            if fault.shared:
                self.federation.start()
        self._used_for = fault
        return self.federation

    def close(self) -> None:
        """End everything and clear up."""
        if self.federation is not None:
            self.federation.close()
            with suppress(OSError):
                shutil.rmtree(self.federation.folder)
        self.federation = None


def recovered(federation: Federation, begun: float) -> tuple[str, float]:
    """The round that was asked for ends by itself with every site; how, and how long after `begun`."""
    last = federation.finished()
    took = time.monotonic() - begun
    federation.assert_whole(federation.done)
    how = "the round went on" if last.attempts == 1 else f"the round was taken up by itself (attempt {last.attempts})"
    return how, took
