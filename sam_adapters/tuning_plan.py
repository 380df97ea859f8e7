"""What a tuning will look at, drawn before it starts: which slice with which kinds of prompt at which step. numpy only; pure.

The whole plan follows from the seed and the slices there are, so that a tuning that was killed goes on with exactly the samples it would
have seen, without any state of a random generator to keep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sam_adapters.settings import PromptKind

T = TypeVar("T")

EMPTY_SHARE = 0.125
"""Fraction of the samples that show a slice without target, where the case has one and tuning without prompts is wanted. Only these teach
what is not there; a box or a point always says that something is."""


@dataclass(frozen=True)
class CaseSlices:
    """The slices of one case along k: those with target, and those without."""

    target: tuple[int, ...]
    empty: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        case: position in the list of cases.
        slice: index along k.
        kinds: kinds of prompt that are answered, all from one embedding: the decoder costs a tenth of the encoder.
        seed: seeds what is drawn for its prompts (see `simulated_prompts`).
    """

    case: int
    slice: int
    kinds: tuple[PromptKind, ...]
    seed: int


def draw_plan(
    cases: Sequence[CaseSlices], *, steps: int, batch_size: int, kinds: Sequence[PromptKind], seed: int, max_slices: int
) -> list[tuple[Sample, ...]]:
    """Draw every sample of a tuning.

    Cases take turns, so that a case of many slices counts no more than a case of few; a case's slices are gone through in random order
    before one is repeated. A slice with target is shown with every kind of prompt, one without target only with none.

    Args:
        cases: at least one of them with a target slice; cases without are left out.
        steps: number of batches.
        batch_size: samples a batch.
        kinds: kinds of prompt.
        seed: the same seed and cases give the same plan.
        max_slices: different slices that the plan may contain at most (they are all held in memory).

    Returns:
        `steps` batches of `batch_size` samples.

    Raises:
        ValueError: no case has a target slice.
    """
    rng = np.random.default_rng([seed, 1])
    usable = [number for number, case in enumerate(cases) if case.target]
    if not usable:
        raise ValueError("No case has a slice with target.")
    if len(usable) > max_slices:
        usable = sorted(int(number) for number in rng.choice(usable, max_slices, replace=False))
    quota = max(1, max_slices // len(usable))
    with_empty = "none" in kinds and quota > 1
    empty_quota = round(EMPTY_SHARE * quota) if with_empty else 0
    turns = _rounds(usable, rng)
    target_turns = {number: _rounds(_some(cases[number].target, quota - empty_quota, rng), rng) for number in usable}
    empty_turns = {
        number: _rounds(_some(cases[number].empty, empty_quota, rng), rng) for number in usable if cases[number].empty and empty_quota
    }

    def draw() -> Sample:
        case = next(turns)
        shows_empty = case in empty_turns and rng.random() < EMPTY_SHARE
        index = next(empty_turns[case] if shows_empty else target_turns[case])
        return Sample(case, index, ("none",) if shows_empty else tuple(kinds), int(rng.integers(2**63)))

    return [tuple(draw() for _ in range(batch_size)) for _ in range(steps)]


def _rounds(items: Sequence[T], rng: np.random.Generator) -> Iterator[T]:
    """The items in random order, again and again, each time in a new order."""
    while True:
        for position in rng.permutation(len(items)):
            yield items[int(position)]


def _some(items: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    """At most `count` of the items, evenly drawn."""
    if len(items) <= count:
        return list(items)
    return sorted(int(item) for item in rng.choice(items, count, replace=False))
