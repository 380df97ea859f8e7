"""Does the gate decide well with a handful of validation cases? Its verdicts beside what a version is worth on cases nobody looked at.

    python -m benchmarks.federated.gate_study --root DIR --work F.work [--arm main] [--seeds 0,1,2] --out G.json

Takes the versions that became active one after the other in finished trials of `fedsca bench federated` with method fedsca (F.work),
tunings and mixtures. Each is scored as the gate scores it on the seed's validation cases, and on *spare* cases: validation and training
cases that the seed has not drawn, of patients that it has not drawn. Test cases are not touched, so the gate's rule can be chosen by the
result. A site without at least four spare cases is left out; at most sixteen are used.

A second table tells what the hospitals would serve in the end if the gate decided on serving alone, and everything were learnt from, as it
was in these trials.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.federated.configuration import Configuration
from benchmarks.federated.hospitals import Hospital, find_hospitals, spare_cases, validation_cases
from benchmarks.federated.report import table_row
from benchmarks.federated.work_folder import read_configuration, study_options, trial_folder
from benchmarks.federated.workbench import site_settings, with_adapters
from benchmarks.machine import machine
from sam_adapters import atomic
from sam_adapters.errors import SettingError
from sam_adapters.evaluation import CaseScore, evaluate
from sam_adapters.gate_rule import CHANCE_ERRORS, decide, standard_error
from sam_adapters.loading import load_adapted
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

LEAST_SPARE, MOST_SPARE = 4, 16
HARM = 0.01
"""A fall of mean Dice on the spare cases that a gate should have prevented."""
Scores = Sequence[CaseScore]
Rule = Callable[[Scores, Scores, Scores], bool]
MARGIN = SiteSettings().gate_margin


def _product(candidate: Scores, active: Scores, base: Scores) -> bool:
    return decide(candidate, active, base, margin=MARGIN).verdict == "promoted"


def _with_a_person(margin: float = MARGIN, errors: float = CHANCE_ERRORS) -> Rule:
    """The product's rule with other margins for each kind of prompt, and a person who says yes to what is left to one."""
    return lambda candidate, active, base: decide(candidate, active, base, margin=margin, errors=errors).verdict != "rejected"


def _lenient(errors: float, most: float = MARGIN) -> Rule:
    """The product's rule for a candidate that is thought better by so many standard errors of its mean difference, at most by `most`."""

    def rule(candidate: Scores, active: Scores, base: Scores) -> bool:
        allowed = min(most, errors * mean_standard_error(candidate, active))
        return _product([replace(score, dice=score.dice + allowed) for score in candidate], active, base)

    return rule


def mean_standard_error(candidate: Scores, active: Scores) -> float:
    """Of the mean difference between two versions over the cases, each case's difference being the mean over its kinds of prompt."""
    before = {(score.case, score.kind): score.dice for score in active}
    differences: dict[str, list[float]] = {}
    for score in candidate:
        differences.setdefault(score.case, []).append(score.dice - before[score.case, score.kind])
    means = [float(np.mean(values)) for values in differences.values()]
    return standard_error(means)


RULES: dict[str, Rule] = {
    "take everything": lambda candidate, active, base: True,
    "the product's: mean not below the active version's": _product,
    "the same, and a person says yes to what waits": _with_a_person(),
    "with a person, a kind of prompt may fall by .01": _with_a_person(errors=0),
    "with a person, by .03": _with_a_person(0.03, errors=0),
    "with a person, by .05": _with_a_person(0.05, errors=0),
    "with a person, by one standard error, .05 at most": _with_a_person(errors=1),
    "half a standard error below is let pass": _lenient(0.5),
    "one standard error below is let pass": _lenient(1.0),
    "a hundredth below is let pass": _lenient(np.inf),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Score what is missing, write the result and print the table."""
    options = study_options(__doc__, seeds="0,1,2").parse_args(arguments)
    try:
        configuration, hospitals = read_configuration(options.work), find_hospitals(options.root)
    except SettingError as error:
        sys.exit(f"{error}")
    known = json.loads(options.out.read_text(encoding="utf-8"))["steps"] if options.out.exists() else []
    done = {(one["site"], one["seed"]) for one in known}
    for seed in (int(text) for text in options.seeds.split(",")):
        home = trial_folder(options.work, options.arm, seed, "fedsca") / f"round-{configuration.rounds}" / "federation"
        for hospital in hospitals if home.is_dir() else []:
            if (hospital.name, seed) not in done:
                known += steps_of(home / hospital.name, hospital, configuration, seed)
                about = {"root": options.root.name, "configuration": configuration.to_dict(), "machine": machine(), "steps": known}
                atomic.write_json(options.out, about)
                print(f"seed {seed}, {hospital.name}: {len(known)} versions so far", flush=True)
    print(markdown(known))
    print()
    print(markdown_served(known))


def steps_of(folder: Path, hospital: Hospital, configuration: Configuration, seed: int) -> list[dict[str, Any]]:
    """One step for each version that became active at a site: its scores, those of the version before, and those of the base."""
    cases = {"validation": validation_cases(hospital, configuration, seed), "spare": spare_cases(hospital, configuration, seed, MOST_SPARE)}
    if len(cases["spare"]) < LEAST_SPARE:
        return []
    settings = site_settings(configuration, hospital.name, seed)
    adapted = load_adapted(settings)

    def scores(version: str, adapters: Path | None) -> dict[str, list[dict[str, Any]]]:
        segmenter = Segmenter(with_adapters(adapted, adapters), version=version, device=settings.device)
        about: dict[str, Any] = {"slices_per_case": settings.gate_slices_per_case, "label_value": settings.label_value}
        return {
            name: [one.to_dict() for one in evaluate(segmenter, some, kinds=settings.gate_kinds, **about)] for name, some in cases.items()
        }

    with Registry(SiteDirectory.open(folder)) as registry:
        path = [one.version for one in registry.decisions() if one.action == "activated" and one.version != BASE]
        kinds = {version: registry.get(version).provenance.kind for version in path}
        base = active = scores(BASE, None)
        steps = []
        for version in path:
            candidate = scores(version, registry.folder(version))
            steps.append(
                {"site": hospital.name, "seed": seed, "origin": kinds[version], "spare_cases": len(cases["spare"])}
                | {name: {"candidate": candidate[name], "active": active[name], "base": base[name]} for name in cases}
            )
            active = candidate
    return steps


def gain(step: Mapping[str, Any], cases: str) -> float:
    """Mean Dice of the candidate less that of the active version, all kinds of prompt alike."""
    return _mean(step, cases, "candidate") - _mean(step, cases, "active")


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


def served(steps: Sequence[Mapping[str, Any]], rule: Rule) -> dict[str, float]:
    """What the hospitals serve in the end if a rule decides on serving alone, while everything is learnt from.

    Args:
        steps: of one site and seed after the other, in the order in which the versions came.

    Returns:
        dice: mean Dice on the spare cases of what each site serves in the end, the base at first; worst: that of the worst site, its seeds
        together; taken: share of the versions that are served.
    """
    ends: dict[tuple[str, int], float] = {}
    active: dict[tuple[str, int], Scores] = {}
    taken = 0
    for step in steps:
        site = step["site"], step["seed"]
        candidate, base = _read(step["validation"]["candidate"]), _read(step["validation"]["base"])
        before = active.setdefault(site, base)
        ends.setdefault(site, _mean(step, "spare", "base"))
        if rule(candidate, before, base):
            active[site], ends[site], taken = candidate, _mean(step, "spare", "candidate"), taken + 1
    sites = {name: float(np.mean([value for (site, _), value in ends.items() if site == name])) for name, _ in ends}
    return {"dice": float(np.mean(list(ends.values()))), "worst": min(sites.values()), "taken": taken / len(steps)}


def _mean(step: Mapping[str, Any], cases: str, who: str) -> float:
    return float(np.mean([one["dice"] for one in step[cases][who]]))


def markdown_served(steps: Sequence[Mapping[str, Any]]) -> str:
    """A table of what is served in the end under each rule."""
    lines = [table_row(["rule, for serving alone", "Dice served in the end", "worst site", "served"]), table_row(["---", *["---:"] * 3])]
    for name, rule in RULES.items():
        now = served(steps, rule)
        lines.append(table_row([name, f"{now['dice']:.4f}", f"{now['worst']:.4f}", f"{100 * now['taken']:.0f} %"]))
    return "\n".join(lines)


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
