"""Does the gate decide well with a handful of validation cases? Its verdicts beside what a version is worth on cases nobody looked at.

    python -m benchmarks.federated.gate_study --root DIR --work F.work [--arm main] [--seeds 0,1,2] --out G.json

Takes the versions that became active one after the other in finished trials of `fedsca bench federated` with method fedsca (F.work),
tunings and mixtures. Each is scored as the gate scores it on the seed's validation cases, and on *spare* cases: validation and training
cases that the seed has not drawn. Test cases are not touched, so the gate's rule can be chosen by the result. A site without at least four
spare cases is left out; at most sixteen are used.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.federated.configuration import Configuration
from benchmarks.federated.hospitals import Hospital, drawn, find_hospitals, training_cases, validation_cases
from benchmarks.federated.report import table_row
from benchmarks.federated.workbench import site_settings
from benchmarks.machine import machine
from sam_adapters import atomic
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.cases import LabelledCase
from sam_adapters.evaluation import CaseScore, EvaluationKind, evaluate
from sam_adapters.gate import BASE, decide
from sam_adapters.loading import load_adapted
from sam_adapters.registry import Registry
from sam_adapters.segmenter import Segmenter
from sam_adapters.site_directory import SiteDirectory

LEAST_SPARE, MOST_SPARE = 4, 16
HARM = 0.01
"""A fall of mean Dice on the spare cases that a gate should have prevented."""
Scores = Sequence[CaseScore]
Rule = Callable[[Scores, Scores, Scores], bool]
MARGIN = 0.01


def _product(candidate: Scores, active: Scores, base: Scores) -> bool:
    return decide(candidate, active, base, margin=MARGIN).verdict == "promoted"


def _lenient(errors: float, most: float = MARGIN) -> Rule:
    """The product's rule for a candidate that is thought better by so many standard errors of its mean difference, at most by `most`."""

    def rule(candidate: Scores, active: Scores, base: Scores) -> bool:
        allowed = min(most, errors * standard_error(candidate, active))
        return _product([replace(score, dice=score.dice + allowed) for score in candidate], active, base)

    return rule


def standard_error(candidate: Scores, active: Scores) -> float:
    """Of the mean difference between two versions over the cases, each case's difference being the mean over its kinds of prompt."""
    before = {(score.case, score.kind): score.dice for score in active}
    differences: dict[str, list[float]] = {}
    for score in candidate:
        differences.setdefault(score.case, []).append(score.dice - before[score.case, score.kind])
    means = [float(np.mean(values)) for values in differences.values()]
    return float(np.std(means, ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0


RULES: dict[str, Rule] = {
    "take everything": lambda candidate, active, base: True,
    "the product's: mean not below the active version's": _product,
    "half a standard error below is let pass": _lenient(0.5),
    "one standard error below is let pass": _lenient(1.0),
    "a hundredth below is let pass": _lenient(np.inf),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing, write the result and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of hospitals")
    parser.add_argument("--work", type=Path, required=True, help="work folder of a run of `fedsca bench federated`")
    parser.add_argument("--arm", default="main", help="as its folder in the work folder is called (default: main)")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated; those without a finished trial are left out")
    parser.add_argument("--out", type=Path, required=True, help="result file; what it has is not scored again")
    options = parser.parse_args(arguments)
    told = json.loads((options.work / "configuration.json").read_text(encoding="utf-8"))["configuration"]
    configuration = Configuration().changed({**told, "kinds": tuple(told["kinds"])})
    known = json.loads(options.out.read_text(encoding="utf-8"))["steps"] if options.out.exists() else []
    done = {(one["site"], one["seed"]) for one in known}
    for seed in (int(text) for text in options.seeds.split(",")):
        home = options.work / options.arm / f"seed-{seed}" / "fedsca" / f"round-{configuration.rounds}" / "federation"
        for hospital in find_hospitals(options.root) if home.is_dir() else []:
            if (hospital.name, seed) not in done:
                known += list(steps_of(home / hospital.name, hospital, configuration, seed))
                about = {"root": options.root.name, "configuration": configuration.to_dict(), "machine": machine(), "steps": known}
                atomic.write_json(options.out, about)
                print(f"seed {seed}, {hospital.name}: {len(known)} versions so far", flush=True)
    print(markdown(known))


def steps_of(folder: Path, hospital: Hospital, configuration: Configuration, seed: int) -> Iterator[dict[str, Any]]:
    """One line for each version that became active at a site: the scores of it, of the version before and of the base."""
    used = training_cases(hospital, configuration, seed)
    validation = validation_cases(hospital, configuration, seed)
    free = tuple(case for case in (*hospital.validation, *hospital.train) if case not in used and case not in validation)
    spare = drawn(free, MOST_SPARE, seed, f"{hospital.name} spare")
    if len(spare) < LEAST_SPARE:
        return
    settings = site_settings(configuration, hospital.name, seed)
    adapted = load_adapted(settings)
    kinds: tuple[EvaluationKind, ...] = settings.gate_kinds
    with Registry(SiteDirectory.open(folder)) as registry:
        path = [one for one in registry.decisions() if one.action == "activated" and one.version != BASE]
        origins = {version.id: version.provenance.kind for version in registry.versions()}
        before: dict[str, Scores] | None = None
        base: dict[str, Scores] | None = None
        for version in (BASE, *(one.version for one in path)):
            _load(adapted, registry, version)
            scorer = Segmenter(adapted, version=version, device=settings.device)
            count = settings.gate_slices_per_case
            found: dict[str, Scores] = {
                name: _scores(scorer, cases, kinds, count, settings.label_value)
                for name, cases in (("validation", validation), ("spare", spare))
            }
            if before is not None and base is not None:
                yield {"site": hospital.name, "seed": seed, "origin": origins[version], "spare_cases": len(spare)} | {
                    name: {who: [one.to_dict() for one in scores[name]] for who, scores in _three(found, before, base).items()}
                    for name in ("validation", "spare")
                }
            base = base or found
            before = found


def _three(candidate: Mapping[str, Scores], active: Mapping[str, Scores], base: Mapping[str, Scores]) -> dict[str, Mapping[str, Scores]]:
    return {"candidate": candidate, "active": active, "base": base}


def _load(adapted: AdaptedNetwork, registry: Registry, version: str) -> None:
    if version == BASE:
        adapted.reset()
    else:
        adapted.load(registry.folder(version))


def _scores(
    scorer: Segmenter, cases: Sequence[LabelledCase], kinds: Sequence[EvaluationKind], slices: int, label_value: int
) -> list[CaseScore]:
    return evaluate(scorer, cases, kinds=kinds, slices_per_case=slices, label_value=label_value)


def gain(step: Mapping[str, Any], cases: str) -> float:
    """Mean Dice of the candidate less that of the active version, all kinds of prompt alike."""
    mean = {who: np.mean([one["dice"] for one in step[cases][who]]) for who in ("candidate", "active")}
    return float(mean["candidate"] - mean["active"])


def judged(steps: Sequence[Mapping[str, Any]], rule: Rule) -> dict[str, float]:
    """What a rule does to the steps.

    Returns:
        taken: share of the versions that become active; harm: share of all that become active though they lose more than `HARM` on
        spare cases; lost: share of all that gain more than that and are turned away; gain: mean change on spare cases of a site that
        follows the rule, a version that is turned away counting 0.
    """
    taken = [rule(*(_read(step["validation"][who]) for who in ("candidate", "active", "base"))) for step in steps]
    gains = [gain(step, "spare") for step in steps]
    return {
        "taken": float(np.mean(taken)),
        "harm": float(np.mean([yes and change < -HARM for yes, change in zip(taken, gains, strict=True)])),
        "lost": float(np.mean([not yes and change > HARM for yes, change in zip(taken, gains, strict=True)])),
        "gain": float(np.mean([change if yes else 0.0 for yes, change in zip(taken, gains, strict=True)])),
    }


def _read(scores: Sequence[Mapping[str, Any]]) -> list[CaseScore]:
    return [CaseScore.from_dict(dict(one)) for one in scores]


def markdown(steps: Sequence[Mapping[str, Any]]) -> str:
    """A table of all rules, once for all versions and once for those after a site's first, where most is decided."""
    first: set[tuple[str, int]] = set()
    later = []
    for step in steps:
        if (step["site"], step["seed"]) in first:
            later.append(step)
        first.add((step["site"], step["seed"]))
    head = ["rule", "versions", "taken", "taken though worse", "turned away though better", "Dice gained a version"]
    lines = [table_row(head), table_row(["---", *["---:"] * 5])]
    for name, rule in RULES.items():
        for which, some in (("all", steps), ("after the first", later)):
            if some:
                now = judged(some, rule)
                shares = [f"{100 * now[key]:.0f} %" for key in ("taken", "harm", "lost")]
                lines.append(table_row([name, f"{which} ({len(some)})", *shares, f"{now['gain']:+.4f}"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
