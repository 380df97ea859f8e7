"""The gate: a candidate becomes active only if it does not get worse on the site's own validation cases.

What is served and what is learnt from are two questions. A few cases tell a good version from a slightly better one by chance, so who
builds only on what passed loses what the federation gains; a candidate that was turned away is learnt from unless it is far below.

`gate_rule` is the rule, pure. `run_gate` scores the versions and carries the verdict out. Processes: gates of one site run one after the
other, under an flock on <site>/work/gate.lock, which the kernel releases when its holder dies. When something else becomes active
while a gate computes (a person, through the command line), the comparison is made again with what is active then.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import cast

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
    score_cases,
)
from sam_adapters.file_lock import locked
from sam_adapters.gate_rule import MIN_CASES, GateDecision, decide, kind_below_base
from sam_adapters.loading import load_adapted
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry, id_or_base
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

logger = logging.getLogger(__name__)

GATE = "gate"
"""Who decided, in the registry, where it was not a person."""
LEARNT = "Tunings and rounds go on from it all the same."
"""What is added to the reason of a version that is not served and learnt from."""
ATTEMPTS = 5
"""How often a comparison is made again because something else became active meanwhile."""
LOCK_SECONDS = 3600.0


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
            active_id = id_or_base(active)
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
