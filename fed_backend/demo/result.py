"""Layout of `report.json`, the demo's result. `report.html` shows nothing that is not in it, except the gallery of virtual images.

`schema` is `fedsca-demo-report/1`; a change that breaks readers raises the number. Dice are 0 to 1, times in seconds, sizes in bytes,
instants ISO 8601 in UTC. `None` stands where something was not measured; the reason is in `no_prompt` or `problems`.
"""

from typing import Any, Literal, TypedDict

SCHEMA = "fedsca-demo-report/1"

Kind = Literal["box", "point", "none"]


class DiceEntry(TypedDict):
    """Test Dice of one hospital in one phase with one kind of prompt: `mean` over its scored test cases, `cases` one by one.

    `version` is what the server said it used. `reused`: the version was the same as in an earlier phase, whose figures are repeated.
    """

    phase: str
    kind: Kind
    version: str
    mean: float | None
    cases: dict[str, float]
    reused: bool


class LabelEntry(TypedDict):
    """One case the radiologist labelled: what the server proposed, with which version, how good it was, and the round's wave."""

    case: str
    part: Literal["train", "val"]
    wave: int
    chosen_by: str
    version: str
    box: float | None
    point: float | None
    seconds: float


class TuningEntry(TypedDict):
    """One local tuning that the saved labels started by themselves."""

    wave: int
    status: str
    labels: int
    version: str
    seconds: float


class GateEntry(TypedDict):
    """One decision of a hospital's gate, as the hospital's server tells it. `after`: `local tuning n` or `round n`."""

    after: str
    version: str
    verdict: str
    reason: str
    figures: dict[str, Any]


class ValidationEntry(TypedDict):
    """Validation Dice measured from outside at the end: per kind, the untuned base against the active version, on the same slices."""

    cases: int
    version: str
    base: dict[str, float]
    active: dict[str, float]


class HospitalEntry(TypedDict):
    """Everything about one hospital."""

    name: str
    note: str
    address: str
    cases: dict[str, int]
    scored_test_cases: list[str]
    test_slices: int
    fill_the_box: float | None
    dice: list[DiceEntry]
    labels: list[LabelEntry]
    tunings: list[TuningEntry]
    gates: list[GateEntry]
    validation: ValidationEntry | None
    active_version: str


class RoundEntry(TypedDict):
    """One round as the federation's server recorded it; matrices are rows of `sites` by columns of `sites`.

    `bytes`: site -> purpose -> {"up": n, "down": n}; up is what the site sent. `weights[i][j]` is the share of site j in site i's mixture.
    """

    number: int
    due: str
    started: str
    seconds: float
    sites: list[str]
    distance: list[list[float]] | None
    noise: list[float] | None
    weights: list[list[float]]
    bytes: dict[str, dict[str, dict[str, int]]]
    refusals: list[dict[str, str]]


class PhaseEntry(TypedDict):
    """One stretch of the run. `scored`: test Dice was measured in it; `id` is then the `phase` of the Dice entries."""

    id: str
    title: str
    scored: bool
    started: float
    seconds: float


class CheckEntry(TypedDict):
    """A claim that is tested and may fail: `met` is None where it could not be tested."""

    id: str
    title: str
    met: bool | None
    text: str


class NoPromptEntry(TypedDict):
    """Whether the no-prompt column was measured, why (not), and what the test of the images' frames found, per site."""

    measured: bool
    reason: str
    figures: dict[str, dict[str, float]]


class DemoResult(TypedDict):
    """The whole of `report.json`."""

    schema: str
    created: str
    seconds: float
    data: dict[str, str]
    options: dict[str, Any]
    plan: dict[str, Any]
    environment: dict[str, str]
    no_prompt: NoPromptEntry
    phases: list[PhaseEntry]
    hospitals: list[HospitalEntry]
    rounds: list[RoundEntry]
    checks: list[CheckEntry]
    problems: list[str]


def kinds_of(result: DemoResult) -> list[Kind]:
    """The prompt kinds that were measured, in the order of the tables."""
    kinds: list[Kind] = ["box", "point", "none"]
    return kinds if result["no_prompt"]["measured"] else kinds[:2]


def scored_phases(result: DemoResult) -> list[PhaseEntry]:
    """The phases in which test Dice was measured, in order."""
    return [phase for phase in result["phases"] if phase["scored"]]


def dice_of(hospital: HospitalEntry, phase: str, kind: str) -> DiceEntry | None:
    """The figure of one hospital, phase and kind; None if it was not measured."""
    return next((entry for entry in hospital["dice"] if entry["phase"] == phase and entry["kind"] == kind), None)


def mean_over_hospitals(result: DemoResult, phase: str, kind: str) -> float | None:
    """Mean over hospitals (each counts once, however many cases it has); None unless every hospital has the figure."""
    values = []
    for hospital in result["hospitals"]:
        entry = dice_of(hospital, phase, kind)
        if entry is None or entry["mean"] is None:
            return None
        values.append(entry["mean"])
    return sum(values) / len(values) if values else None


def site_bytes(round_entry: RoundEntry, site: str) -> tuple[int, int]:
    """(up, down) of one site in one round over all purposes."""
    purposes = round_entry["bytes"].get(site, {}).values()
    return sum(item.get("up", 0) for item in purposes), sum(item.get("down", 0) for item in purposes)
