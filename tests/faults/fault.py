"""The list of faults, each a function that does harm to a federation and tells what came of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.federation import Federation
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


class NotHere(Exception):
    """This machine cannot make the fault happen, and why."""


@dataclass
class Place:
    """Where a fault happens: a folder of its own, and the federations that were started in it."""

    folder: Path
    templates: Path

    def __post_init__(self) -> None:
        self.federations: list[Federation] = []
        self.undo: list[Callable[[], object]] = []

    def federation(self, *names: str, start: bool = True, **options: Any) -> Federation:
        """A federation of these sites, running."""
        made = Federation(self.folder, self.templates, names or ("A", "B"), **options)
        self.federations.append(made)
        return made.start() if start else made

    def sound(self, rounds: int) -> None:
        """See `soundness`."""
        for federation in self.federations:
            assert_sound(federation, rounds)

    def close(self) -> None:
        """End everything and clear up."""
        for federation in self.federations:
            federation.close()
        for step in reversed(self.undo):
            step()
        shutil.rmtree(self.folder, ignore_errors=True)


Scenario = Callable[[Place], Seen]


@dataclass(frozen=True)
class Fault:
    """One fault: its name, the group that it belongs to, and what makes it happen."""

    name: str
    group: str
    scenario: Scenario
    quick: bool


FAULTS: list[Fault] = []


def fault(name: str, group: str, *, quick: bool = False) -> Callable[[Scenario], Scenario]:
    """Put a scenario on the list; `quick` ones run with every `make test`."""

    def register(scenario: Scenario) -> Scenario:
        assert name not in [one.name for one in FAULTS]
        FAULTS.append(Fault(name, group, scenario, quick))
        return scenario

    return register
