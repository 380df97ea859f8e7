"""The gate: a candidate becomes active only if it does not get worse on the site's own validation cases.

What is served and what is learnt from are two questions. A few cases tell a good version from a slightly better one by chance, so who
builds only on what passed loses what the federation gains; a candidate that was turned away is learnt from unless it is far below.

`decide` is the rule, pure. `run_gate` scores the versions and carries the verdict out. Processes: gates of one site run one after the
other, under an flock on <site>/work/gate.lock, which the kernel releases when its holder dies. When something else becomes active
while a gate computes (a person, through the command line), the comparison is made again with what is active then.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.bases import base_sha256
from sam_adapters.case_loading import SkippedCase, load_cases
from sam_adapters.cases import labelled_cases, split_cases
from sam_adapters.errors import RegistryError
from sam_adapters.evaluation import (
    EVALUATION_KINDS,
    CaseScore,
    EvaluationCase,
    EvaluationKind,
    evaluation_case,
    mean_by_kind,
    score_cases,
)
from sam_adapters.file_lock import locked
from sam_adapters.loading import load_adapted
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

logger = logging.getLogger(__name__)

Verdict = Literal["promoted", "rejected", "waiting"]
GATE = "gate"
"""Who decided, in the registry, where it was not a person."""
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
LEARNT = "Tunings and rounds go on from it all the same."
"""What is added to the reason of a version that is not served and learnt from."""
ATTEMPTS = 5
"""How often a comparison is made again because something else became active meanwhile."""
LOCK_SECONDS = 3600.0


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


def run_gate(
    site: SiteDirectory,
    settings: SiteSettings,
    version_id: str,
    *,
    round: int | None = None,  # the name that the registry and the federation use
    learn: bool = True,
    progress: Callable[[int, int], None] | None = None,
    adapted: AdaptedNetwork | None = None,
) -> GateDecision:
    """Score a candidate, the active version and the base on the validation cases, decide, and carry the decision out in the registry.

    Scores of the active version and the base are kept in the registry, under everything they depend on, and computed only once.
    A rejected candidate is marked so; one that waits stays a candidate; either is learnt from if it is good enough for that. Should
    validation cases that came later show the active version itself to be below the base, and the candidate no better, the base becomes
    active again. What a person made active stands, also below the base: it is then the floor.

    Args:
        round: the federated round that the candidate comes from; stands in the figures.
        learn: whether the candidate may be learnt from without being served.
        progress: called with (cases scored, cases to score), over all versions that need scoring.
        adapted: the site's network if it is loaded already; its adapters are replaced. None loads one.

    Raises:
        RegistryError, UnknownVersionError: no such version, or the registry refuses.
        AdapterError, BaseModelError, SettingError: the version or the base cannot be loaded.
    """
    with locked(site.work / "gate.lock", timeout=LOCK_SECONDS), Registry(site) as registry:
        registry.get(version_id)
        scoring = _Scoring(site, settings, registry, adapted, progress)
        for _ in range(ATTEMPTS):
            generation, active = registry.generation(), registry.active()
            active_id = active.id if active else BASE
            if active_id == version_id:
                return GateDecision("promoted", "It is active already.")
            chosen = _chosen_by_a_person(registry)
            scores = scoring.scores([version_id, active_id, BASE, chosen])
            decision = decide(scores[version_id], scores[active_id], scores[BASE], accepted=scores[chosen], margin=settings.gate_margin)
            decision = scoring.annotated(decision, active_id, round)
            if registry.generation() != generation:
                continue
            if decision.verdict != "promoted":
                fallen = None if active_id == BASE else kind_below_base(scores[active_id], scores[BASE], scores[chosen])
                return _set_aside(registry, version_id, active_id, decision, fallen, generation, learn=learn)
            try:
                registry.activate(version_id, reason=decision.reason, by=GATE, figures=decision.figures, if_generation=generation)
            except RegistryError:
                if registry.generation() == generation:
                    raise
                continue  # another version became active between the comparison and now
            return decision
        raise RegistryError(f"What is active changed {ATTEMPTS} times while {version_id} was compared: run its gate again.")


def _chosen_by_a_person(registry: Registry) -> str:
    """The version, or `base`, that a person last made active; `base` when the gate alone has decided so far."""
    made_active = [one for one in registry.decisions() if one.action in ("activated", "rolled back") and one.by != GATE]
    return made_active[-1].version if made_active else BASE


def _set_aside(
    registry: Registry, version_id: str, active_id: str, decision: GateDecision, fallen: str | None, generation: int, *, learn: bool
) -> GateDecision:
    """Write down that the candidate waits or is rejected. With cases enough to tell, a fallen active version gives way to the base.

    Args:
        fallen: how the active version is below its floor, in words; None if it holds.
    """
    holds = fallen is None or decision.figures["cases"] < MIN_CASES
    learnt = LEARNT if learn and decision.figures["learnable"] and holds else ""
    put_aside = registry.hold if decision.verdict == "waiting" else registry.reject
    put_aside(version_id, reason=decision.reason, figures=decision.figures, learn=learnt)
    written = registry.decisions(version_id)[-1]
    decision = GateDecision(decision.verdict, written.reason, written.figures)
    if holds:
        return decision
    reason = f"On the validation cases there are now, version {active_id} is below the untuned base: {fallen}."
    try:
        registry.activate(BASE, reason=reason, by=GATE, figures=decision.figures, if_generation=generation)
    except RegistryError as error:
        if registry.generation() == generation:
            raise
        logger.warning("Not back to the base after all: %s", error)
        return decision
    return GateDecision(decision.verdict, f"{decision.reason} {reason} The base is active again.", decision.figures)


class _Scoring:
    """The validation cases of one gate and the scores of versions on them."""

    def __init__(
        self,
        site: SiteDirectory,
        settings: SiteSettings,
        registry: Registry,
        adapted: AdaptedNetwork | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.settings = settings
        self.registry = registry
        self.adapted = adapted
        self.progress = progress
        # sorted: "box" of one process and another must meet under one key
        self.kinds = cast(tuple[EvaluationKind, ...], tuple(kind for kind in EVALUATION_KINDS if kind in settings.gate_kinds))
        self.cases, self.skipped, self.key = _validation(site, settings, self.kinds)

    def scores(self, versions: Sequence[str]) -> dict[str, list[CaseScore]]:
        """The scores of each version, kept ones where there are."""
        kept = {version: self.registry.load_scores(version, self.key) for version in dict.fromkeys(versions)}
        missing = [version for version, scores in kept.items() if scores is None]
        found = {version: [CaseScore.from_dict(score) for score in scores] for version, scores in kept.items() if scores is not None}
        for number, version in enumerate(missing):
            found[version] = self._score(version, number, len(missing))
        return found

    def annotated(self, decision: GateDecision, active_id: str, round_number: int | None) -> GateDecision:
        """The decision with what it was compared with, and which validation cases could not be used."""
        figures = {**decision.figures, "active": active_id, "kinds_compared": list(self.kinds)}
        if round_number is not None:
            figures["round"] = round_number
        if self.skipped:
            figures["skipped"] = {one.case: one.reason for one in self.skipped}
        return GateDecision(decision.verdict, decision.reason, figures)

    def _score(self, version: str, number: int, versions: int) -> list[CaseScore]:
        if not self.cases:
            return []
        report = self.progress
        advance = None if report is None else lambda done, total: report(number * total + done, versions * total)
        scores = self._compute(version, advance)
        self.registry.save_scores(version, self.key, [score.to_dict() for score in scores])
        return scores

    def _compute(self, version: str, advance: Callable[[int, int], None] | None) -> list[CaseScore]:
        if self.adapted is None:
            self.adapted = load_adapted(self.settings)
        if version == BASE:
            self.adapted.reset()
        else:
            self.adapted.load(self.registry.folder(version))
        segmenter = Segmenter(self.adapted, version=version, device=self.settings.device, bf16=self.settings.bf16)
        return score_cases(segmenter, self.cases, self.kinds, advance)


def _validation(
    site: SiteDirectory, settings: SiteSettings, kinds: Sequence[EvaluationKind]
) -> tuple[list[EvaluationCase], list[SkippedCase], str]:
    """The validation cases, those that cannot be used, and a key over everything that scores on them depend on besides the version."""
    validation = split_cases(labelled_cases(site, settings), site, settings).validation
    cases: list[EvaluationCase] = []
    skipped: list[SkippedCase] = []
    contents: list[tuple[str, str, str]] = []
    for loaded in load_cases(validation, settings.label_value, settings.window):
        if isinstance(loaded, SkippedCase):
            skipped.append(loaded)
            continue
        case = evaluation_case(loaded, settings.gate_slices_per_case)
        if not case.slices:
            skipped.append(SkippedCase(case.case, "Its label holds no target."))
            continue
        cases.append(case)
        contents.append((case.case, loaded.source.label_sha256, loaded.image.content_hash))
    for one in skipped:
        logger.warning("Validation case %s is left out: %s", one.case, one.reason)
    value = {
        "cases": contents,
        "kinds": list(kinds),
        "slices_per_case": settings.gate_slices_per_case,
        "label_value": settings.label_value,
        "base": base_sha256(settings.base),
        "image_size": settings.image_size,
        "bf16": settings.bf16,
        "format": 1,
    }
    return cases, skipped, hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
