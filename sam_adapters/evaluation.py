"""How well a version segments labelled cases, by kind of prompt. The prompts are the ideal ones of the target, so that nothing is drawn.

    box     the tight box of the target on the slice
    point   one click on the deepest point inside the target
    none    no prompt, on the same slices

A case's Dice is that of the volume made of its evaluated slices: counts are added up before they are divided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sam_adapters.case_loading import LoadedCase, load_case
from sam_adapters.cases import LabelledCase
from sam_adapters.dice import Overlap, overlap
from sam_adapters.prompts import SlicePrompts, take_slice, tight_box
from sam_adapters.segmenter import Segmenter
from sam_adapters.simulated_prompts import deepest_point

EvaluationKind = Literal["box", "point", "none"]
EVALUATION_KINDS: tuple[EvaluationKind, ...] = ("box", "point", "none")


@dataclass(frozen=True)
class CaseScore:
    """Dice (0..1) of one case with one kind of prompt."""

    case: str
    kind: str
    dice: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {"case": self.case, "kind": self.kind, "dice": self.dice}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "CaseScore":
        """Inverse of `to_dict`."""
        return cls(str(value["case"]), str(value["kind"]), float(value["dice"]))


@dataclass(frozen=True)
class EvaluationSlice:
    """One slice to be segmented: pixels (h, w[, 3]), target (h, w) boolean, not empty."""

    pixels: NDArray[Any]
    target: NDArray[np.bool_]

    def prompts(self, kind: EvaluationKind) -> SlicePrompts:
        """The ideal prompt of that kind."""
        if kind == "box":
            return SlicePrompts(box=tight_box(self.target))
        if kind == "point":
            x, y = deepest_point(self.target)
            return SlicePrompts(points=((float(x), float(y), 1),))
        return SlicePrompts()


@dataclass(frozen=True)
class EvaluationCase:
    """What of a case is evaluated; copies, so that the whole volume need not stay in memory."""

    case: str
    slices: tuple[EvaluationSlice, ...]


def largest_slices(target: NDArray[np.bool_], count: int | None) -> list[int]:
    """Indices along k of the slices with target, or of the `count` largest of them (the first among equals); in order of k."""
    areas = np.count_nonzero(target, axis=(1, 2))
    order = np.argsort(-areas, kind="stable")
    found = [int(k) for k in order if areas[k] > 0]
    return sorted(found if count is None else found[:count])


def evaluation_case(loaded: LoadedCase, slices_per_case: int | None = None) -> EvaluationCase:
    """Cut out the slices of a case that are evaluated: those with target, or the largest few of them."""
    return EvaluationCase(
        loaded.source.case,
        tuple(
            EvaluationSlice(np.array(take_slice(loaded.image.array, "k", k)), np.array(take_slice(loaded.target, "k", k)))
            for k in largest_slices(loaded.target, slices_per_case)
        ),
    )


def score_cases(
    segmenter: Segmenter,
    cases: Sequence[EvaluationCase],
    kinds: Sequence[EvaluationKind],
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseScore]:
    """Segment every slice once with every kind of prompt (it is encoded only once).

    Args:
        progress: called with (cases done, cases) after each case.

    Returns:
        for each case, in the given order, one score a kind. A case without evaluated slices has none.
    """
    scores: list[CaseScore] = []
    for number, case in enumerate(cases, start=1):
        if case.slices:
            scores += _score_case(segmenter, case, kinds)
        if progress is not None:
            progress(number, len(cases))
    return scores


def _score_case(segmenter: Segmenter, case: EvaluationCase, kinds: Sequence[EvaluationKind]) -> list[CaseScore]:
    totals = dict.fromkeys(kinds, Overlap())
    for one in case.slices:
        embedding = segmenter.encode(one.pixels)
        for kind in kinds:
            logits = segmenter.decode(embedding, one.prompts(kind)).logits
            totals[kind] += overlap(logits > 0, one.target)
    return [CaseScore(case.case, kind, totals[kind].dice) for kind in kinds]


def evaluate(
    segmenter: Segmenter,
    cases: Sequence[LabelledCase],
    *,
    kinds: Sequence[EvaluationKind] = EVALUATION_KINDS,
    slices_per_case: int | None = None,
    label_value: int = 0,
    window: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseScore]:
    """Read cases and score them, one after the other.

    Args:
        slices_per_case: evaluate only so many of a case's largest slices; None for all with target.
        window: `SiteSettings.window`.

    Raises:
        ImageError, LabelError: a case cannot be read.
    """
    scores: list[CaseScore] = []
    for number, case in enumerate(cases, start=1):
        scores += score_cases(segmenter, [evaluation_case(load_case(case, label_value, window), slices_per_case)], kinds)
        if progress is not None:
            progress(number, len(cases))
    return scores


def mean_by_kind(scores: Sequence[CaseScore]) -> dict[str, float]:
    """Mean Dice over the cases for each kind, in order of first appearance."""
    kinds = dict.fromkeys(score.kind for score in scores)
    return {kind: float(np.mean([score.dice for score in scores if score.kind == kind])) for kind in kinds}
