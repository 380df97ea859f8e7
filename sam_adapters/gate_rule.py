"""The gate's rule, pure: what is served, and what is learnt from, by the scores of candidate, active version and untuned base."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from sam_adapters.evaluation import CaseScore, mean_by_kind

Verdict = Literal["promoted", "rejected", "waiting"]
MIN_CASES = 2
ROUNDING = 1e-9
"""Differences of mean Dice up to this are rounding, not a loss."""
TRADE_GAIN = 0.1
"""Gain of mean Dice over all kinds of prompt from which a small loss in one kind is a person's choice instead of a rejection."""
TRADE_LOSS = 0.1
"""The largest such loss, against the active version and against the base: no kind may lose more than all together gain."""
LEARNING_LOSS = 0.1
"""Dice by which a version may be below the active version, in any kind of prompt, and still be learnt from."""
CHANCE_ERRORS, CHANCE_MOST = 2.0, 0.05
"""A kind's fall of up to so many standard errors of its mean difference, and of so much Dice at most, is taken for chance."""


@dataclass(frozen=True)
class GateDecision:
    """What the gate says of a candidate.

    Attributes:
        verdict: `promoted` (now active), `rejected`, or `waiting` for a person.
        reason: why, as a sentence.
        figures: JSON values: number of cases, the mean Dice of candidate, active and base for each prompt kind and over all, the margin
            that each kind was allowed, and whether the candidate is good enough to learn from.
    """

    verdict: Verdict
    reason: str
    figures: Mapping[str, Any] = field(default_factory=dict)


def decide(
    candidate: Sequence[CaseScore],
    active: Sequence[CaseScore],
    base: Sequence[CaseScore],
    *,
    accepted: Sequence[CaseScore] = (),
    margin: float = 0.01,
    errors: float = CHANCE_ERRORS,
    min_cases: int = MIN_CASES,
) -> GateDecision:
    """Compare the mean Dice of candidate, active version and untuned base on the same cases.

    Promoted is a candidate that for every kind of prompt is not below the active version by more than `margin`, or than chance makes of so
    few cases (`chance_margin`), nor below the base at all, and that over all kinds is not below the active version. So repeated promotions
    cannot creep below the base. A candidate that gains much over all kinds (`TRADE_GAIN`) and loses less in one (`TRADE_LOSS`) is a trade:
    it waits until a person says if it is worth it.

    Args:
        candidate, active, base: one score for each case and kind; the same cases and kinds in all three.
        accepted: scores on the same cases of the version that a person last made active; where it is below the base, it is the floor in the
            base's place.
        margin: Dice by which one kind may always fall below the active version.
        errors: standard errors by which it may fall where that is more; 0 for the margin alone.
        min_cases: with fewer validation cases, nothing is decided and a person is asked.

    Raises:
        ValueError: the three do not have the same cases and kinds.
    """
    keys = {(score.case, score.kind) for score in candidate}
    for other in (active, base):
        if {(score.case, score.kind) for score in other} != keys or len(other) != len(candidate):
            raise ValueError("Candidate, active version and base must be scored on the same cases with the same kinds of prompt.")
    cases = len({case for case, _ in keys})
    figures = _figures(cases, candidate, active, base)
    figures["margins"] = {kind: max(margin, chance_margin(candidate, active, kind, errors)) for kind in figures["kinds"]}
    figures["learnable"] = cases >= min_cases and learnable(figures, mean_by_kind(accepted))
    if cases < min_cases:
        return GateDecision("waiting", f"Waits for a person: {_count(cases)}, at least {min_cases} are needed to decide.", figures)
    problem = _problem(figures, mean_by_kind(accepted))
    if problem is not None and _is_a_trade(figures):
        overall = figures["overall"]
        return GateDecision(
            "waiting",
            f"Waits for a person: {problem}, but mean Dice over all prompts rises from {overall['active']:.3f} to "
            f"{overall['candidate']:.3f} ({_count(cases)}). Activate it if the gain is worth the loss.",
            figures,
        )
    if problem is not None:
        return GateDecision("rejected", f"{problem} ({_count(cases)}).", figures)
    overall = figures["overall"]
    return GateDecision(
        "promoted",
        f"Mean Dice {overall['candidate']:.3f} against {overall['active']:.3f} of the active version ({_count(cases)}).",
        figures,
    )


def learnable(figures: Mapping[str, Any], accepted: Mapping[str, float]) -> bool:
    """Whether a candidate is good enough to go on from, be it served or not: not below the floor over all kinds of prompt, and in no kind
    below the active version or the floor by more than `LEARNING_LOSS`. The active version does not move when a candidate is turned away, so
    however many follow each other, they cannot creep further below it.

    Args:
        figures: mean Dice of candidate, active and base.
        accepted: mean Dice by kind of the version a person chose; {} if none did.
    """
    kinds = figures["kinds"]
    floors = {kind: min(mean["base"], accepted.get(kind, mean["base"])) for kind, mean in kinds.items()}
    if not kinds or figures["overall"]["candidate"] < np.mean(list(floors.values())) - ROUNDING:
        return False
    return all(mean["candidate"] >= max(mean["active"], floors[kind]) - LEARNING_LOSS - ROUNDING for kind, mean in kinds.items())


def chance_margin(candidate: Sequence[CaseScore], active: Sequence[CaseScore], kind: str, errors: float = CHANCE_ERRORS) -> float:
    """How far one kind's mean Dice may fall by chance alone: few cases whose differences vary much say little.

    Args:
        candidate, active: one score for each case and kind, of the same cases.
        errors: standard errors of the mean paired difference.

    Returns:
        Dice, 0 to `CHANCE_MOST`.
    """
    before = {score.case: score.dice for score in active if score.kind == kind}
    differences = [score.dice - before[score.case] for score in candidate if score.kind == kind]
    return min(CHANCE_MOST, errors * standard_error(differences))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of independent values; 0 where there is one only."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def kind_below_base(active: Sequence[CaseScore], base: Sequence[CaseScore], accepted: Sequence[CaseScore] = ()) -> str | None:
    """The first kind of prompt in which the active version is below the base and below what a person accepted; None when there is none.

    Returns:
        the kind and both mean Dice, in words.
    """
    means, chosen = mean_by_kind(base), mean_by_kind(accepted)
    for kind, value in mean_by_kind(active).items():
        if value < min(means[kind], chosen.get(kind, means[kind])) - ROUNDING:
            return f"{_KIND_NAMES.get(kind, kind)} Dice {value:.3f} against the untuned base's {means[kind]:.3f}"
    return None


_KIND_NAMES = {"box": "box", "point": "one-point", "none": "no-prompt"}


def _count(cases: int) -> str:
    return "1 validation case" if cases == 1 else f"{cases} validation cases"


def _figures(cases: int, candidate: Sequence[CaseScore], active: Sequence[CaseScore], base: Sequence[CaseScore]) -> dict[str, Any]:
    means = {"candidate": mean_by_kind(candidate), "active": mean_by_kind(active), "base": mean_by_kind(base)}
    kinds = {kind: {name: means[name][kind] for name in means} for kind in means["candidate"]}
    overall = {name: float(np.mean(list(values.values()))) for name, values in means.items() if values}
    return {"cases": cases, "kinds": kinds, "overall": overall}


def _problem(figures: Mapping[str, Any], accepted: Mapping[str, float]) -> str | None:
    """Why the candidate must not become active, or None. `accepted`: mean Dice by kind of the version a person chose; {} if none did."""
    for kind, mean in figures["kinds"].items():
        name = _KIND_NAMES.get(kind, kind).capitalize()
        floor = min(mean["base"], accepted.get(kind, mean["base"]))
        if mean["candidate"] < floor - ROUNDING:
            lower, upper = _told_apart(mean["candidate"], floor)
            whose = f"the untuned base's {upper}" if floor == mean["base"] else f"the {upper} that a person accepted"
            return f"{name} Dice {lower} is below {whose}"
        margin = figures["margins"][kind]
        if mean["candidate"] < mean["active"] - margin - ROUNDING:
            return f"{name} Dice {mean['candidate']:.3f} is more than {margin:.2g} below the active version's {mean['active']:.3f}"
    overall = figures["overall"]
    if overall["candidate"] < overall["active"] - ROUNDING:
        lower, upper = _told_apart(overall["candidate"], overall["active"])
        return f"Mean Dice over all prompts {lower} is below the active version's {upper}"
    return None


def _is_a_trade(figures: Mapping[str, Any]) -> bool:
    """Whether a candidate that is not better in everything still gains so much for so little that a person should choose."""
    overall = figures["overall"]
    gain = overall["candidate"] - max(overall["active"], overall["base"])
    loss = max(max(mean["active"], mean["base"]) - mean["candidate"] for mean in figures["kinds"].values())
    return bool(gain >= TRADE_GAIN and loss <= TRADE_LOSS)


def _told_apart(one: float, other: float) -> tuple[str, str]:
    """Two different figures with three decimals, or as many as it takes to see which is larger."""
    digits = next((count for count in range(3, 9) if f"{one:.{count}f}" != f"{other:.{count}f}"), 9)
    return f"{one:.{digits}f}", f"{other:.{digits}f}"
