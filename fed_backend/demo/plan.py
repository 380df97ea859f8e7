"""How much of everything fits into the time: pure functions from what the hospitals hold to a plan.

The plan is chosen from a fixed ladder, most thorough step first, by a rough cost model: core-seconds, measured with LiteMedSAM at 128
pixels on one thread of a common server. Nothing is ever left out silently: the plan, with the numbers of cases and slices, stands in the
report.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fed_backend.demo.hospital import Hospital, read_truth
from fed_backend.demo.scoring import ScoreKind, target_slices

ENCODE = 0.42
"""Core-seconds to embed one slice at 128 pixels."""
DECODE = 0.03
TRAIN = 1.15
"""Core-seconds to train on one slice, forward and backward."""
APP_START = 12.0
"""Core-seconds until a MONAI Label server answers, or a tuning process begins to compute."""
MESSAGE = 6.0
"""Core-seconds of one Flower message at a site: every message starts a process."""
ROUND_MESSAGES = 3
GATE_SLICES = 3
PROBE_CASES = 24
MARGIN = 1.2
"""Two processes on two cores are never perfectly in step."""


@dataclass(frozen=True)
class Inventory:
    """What one hospital holds, as far as it costs time: slices with target of each case, and all slices.

    `pictures`: one slice a case, so that "no prompt" costs no extra slices.
    """

    name: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    slices: Mapping[str, int]
    all_slices: Mapping[str, int]


@dataclass(frozen=True)
class Level:
    """One rung: how thorough the run is.

    Attributes:
        steps: optimiser steps of one local tuning.
        wave: training cases labelled before each round, at most.
        test_cases: test cases scored per hospital, at most; 0 means all.
        test_slices: slices with target scored of a test case, at most; 0 means all.
        label_slices: slices the radiologist prompts in a case before correcting it.
        score_every_tuning: measure after every local tuning, not only after the first.
    """

    steps: int
    wave: int
    test_cases: int
    test_slices: int
    label_slices: int
    score_every_tuning: bool


LADDER = (
    Level(96, 24, 0, 0, 4, True),
    Level(72, 20, 0, 0, 3, True),
    Level(60, 16, 0, 0, 3, True),
    Level(48, 12, 0, 6, 3, True),
    Level(48, 12, 0, 5, 2, False),
    Level(40, 12, 0, 4, 2, False),
    Level(32, 10, 0, 4, 2, False),
    Level(24, 8, 16, 4, 2, False),
    Level(24, 6, 12, 3, 1, False),
    Level(20, 4, 8, 3, 1, False),
    Level(16, 3, 5, 3, 1, False),
    Level(12, 3, 3, 3, 1, False),
    Level(8, 2, 2, 2, 1, False),
)

VIRTUAL_LEVEL = Level(steps=20, wave=3, test_cases=0, test_slices=0, label_slices=1, score_every_tuning=True)


@dataclass(frozen=True)
class HospitalPlan:
    """One hospital's share.

    Attributes:
        waves: training cases to label before each round; 0 when none are left.
        val: validation cases to label, before the first training case.
        test: test cases to score.
        tune_after: newly labelled training cases that start a tuning: the size of the first wave.
    """

    name: str
    waves: tuple[int, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def tune_after(self) -> int:
        return max(1, min((size for size in self.waves if size), default=1))


@dataclass(frozen=True)
class DemoPlan:
    """The whole run. `expected_seconds` is the cost model's guess, not a promise."""

    level: Level
    rounds: int
    image_size: int
    kinds: tuple[ScoreKind, ...]
    hospitals: tuple[HospitalPlan, ...]
    expected_seconds: float
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def test_slices(self) -> int | None:
        """Slices of a test case at most, None for all."""
        return self.level.test_slices or None

    def of(self, name: str) -> HospitalPlan:
        """The share of one hospital."""
        return next(plan for plan in self.hospitals if plan.name == name)

    def to_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "image_size": self.image_size,
            "tune_steps": self.level.steps,
            "training_cases_per_wave": {plan.name: list(plan.waves) for plan in self.hospitals},
            "test_cases": {plan.name: len(plan.test) for plan in self.hospitals},
            "test_slices": self.level.test_slices,
            "label_slices": self.level.label_slices,
            "expected_seconds": round(self.expected_seconds),
        }


def take_stock(hospital: Hospital) -> Inventory:
    """Count the slices of every case; reads the truths."""
    slices, every = {}, {}
    for case, path in hospital.truths.items():
        truth = read_truth(path)
        slices[case], every[case] = len(target_slices(truth)), truth.shape[0]
    return Inventory(hospital.name, hospital.split.train, hospital.split.val, hospital.split.test, slices, every)


def make_plan(
    inventories: Sequence[Inventory],
    *,
    rounds: int,
    seconds: float,
    kinds: tuple[ScoreKind, ...],
    seed: int,
    image_size: int = 128,
    ladder: Sequence[Level] = LADDER,
    cores: int | None = None,
    extra_settings: Mapping[str, str] | None = None,
) -> DemoPlan:
    """The first rung of the ladder whose expected time fits into `seconds`; the last one if none does.

    Args:
        inventories: one a hospital.
        rounds: federated rounds, each after a wave of labels.
        seconds: the time there is.
        kinds: kinds of prompt that are scored.
        seed: of the choice of test cases where not all are scored.
        image_size: side of the network's input; costs grow with its square.
        cores: processors; None asks the machine.
        extra_settings: `--conf` keys for every hospital's server beyond the usual ones.
    """
    count = cores or os.cpu_count() or 1
    extra = dict(extra_settings or {})
    plans = (_plan_at(level, inventories, rounds, kinds, seed, image_size, count, extra) for level in ladder)
    last: DemoPlan | None = None
    for last in plans:
        if last.expected_seconds <= seconds:
            break
    if last is None:
        raise ValueError("The ladder of plans is empty.")
    return last


def _plan_at(
    level: Level,
    inventories: Sequence[Inventory],
    rounds: int,
    kinds: tuple[ScoreKind, ...],
    seed: int,
    image_size: int,
    cores: int,
    extra_settings: Mapping[str, str],
) -> DemoPlan:
    hospitals = tuple(
        HospitalPlan(item.name, waves(len(item.train), rounds, level.wave), item.val, chosen_cases(item.test, level.test_cases, seed))
        for item in inventories
    )
    costs = [_hospital_cost(level, item, plan, kinds, (image_size / 128) ** 2) for item, plan in zip(inventories, hospitals, strict=True)]
    expected = MARGIN * max(sum(costs) / cores, max(costs))  # one hospital's work is one thread: it cannot be shared out
    return DemoPlan(level, rounds, image_size, kinds, hospitals, expected, extra_settings)


def waves(cases: int, rounds: int, limit: int) -> tuple[int, ...]:
    """Share `cases` training cases out over the rounds, at most `limit` each, as evenly as possible, earlier waves first."""
    usable = min(cases, limit * rounds)
    return tuple(usable // rounds + (1 if number < usable % rounds else 0) for number in range(rounds))


def chosen_cases(cases: Sequence[str], limit: int, seed: int) -> tuple[str, ...]:
    """All cases, or a seeded choice of `limit` of them, in their order."""
    if not limit or len(cases) <= limit:
        return tuple(cases)
    picked = np.random.default_rng([seed, len(cases)]).choice(len(cases), limit, replace=False)
    return tuple(cases[int(number)] for number in sorted(picked))


def _hospital_cost(level: Level, item: Inventory, plan: HospitalPlan, kinds: tuple[ScoreKind, ...], size: float) -> float:
    """Core-seconds of one hospital over the whole run."""
    look = (ENCODE + len(kinds) * DECODE) * size

    def slices(cases: Sequence[str], limit: int) -> int:
        return sum(min(item.slices[case], limit or item.slices[case]) for case in cases)

    tested = sum(item.all_slices[case] for case in plan.test) if "none" in kinds else slices(plan.test, level.test_slices)
    rounds = len(plan.waves)
    scorings = 1 + rounds + (rounds if level.score_every_tuning else 1)
    trained = sum(plan.waves)
    labelled = slices(plan.val, level.label_slices) + slices(item.train[:trained], level.label_slices)
    gate = slices(plan.val, GATE_SLICES) * look
    probe = min(trained, PROBE_CASES) * 2 * TRAIN * size
    tuning = APP_START + level.steps * 2 * TRAIN * size + 2 * gate
    exchange = ROUND_MESSAGES * MESSAGE + probe + gate
    checked = 2 * slices(plan.val, GATE_SLICES) * look
    return APP_START + scorings * tested * look + labelled * look + rounds * (tuning + exchange) + checked
