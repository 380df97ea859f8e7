"""Does the gradient probe carry signal? Halves of one hospital's cases beside halves of other hospitals, by number of cases and round.

    python -m benchmarks.federated.probe_study --root DIR --work F.work [--arm main] [--seeds 0] --out P.json

At the untuned adapters and after the tunings of every round in a finished trial of method fedsca (F.work), the gradient of every training
case is computed as the probe computes it: at one common state (the mean of all sites' shared B), with the site's own local adapters. Then
halves of n cases with disjoint patients are drawn again and again. `same` is the mean cosine of two halves of one site, `other` that of
halves of two sites, `recognised` how often a half is nearer to the other half of its own site than to any other site's (chance: one
divided by the number of sites). Gradients are unit-norm for each case or raw, whole or projected to 4,096 numbers.

With --locals first every site's gradients are computed with the first site's local adapters, with --locals untuned with none: what is still
recognised then comes from the cases, not from the adapters that the sites have tuned on them. Beside that: the distances and noise of SGCA
from such halves (unit norm, as many cases as every site has), the mean over the draws, and the weights that follow from them at κ = 1.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federated.configuration import Configuration
from benchmarks.federated.hospitals import Hospital, find_hospitals, training_cases
from benchmarks.federated.probe_measures import Gradients, distances_of, lines_of
from benchmarks.federated.report import table_row
from benchmarks.federated.work_folder import read_configuration, study_options, trial_folder
from benchmarks.federated.workbench import site_settings, with_adapters
from benchmarks.machine import machine
from fed_backend.sgca import mix
from sam_adapters import atomic
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.cases import labelled_cases
from sam_adapters.errors import SettingError
from sam_adapters.loading import load_adapted
from sam_adapters.probe import case_gradients
from sam_adapters.registry import Registry
from sam_adapters.schema import AdapterState
from sam_adapters.segmenter import resolve_device
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

LOCALS = ("own", "first", "untuned")
UNTUNED = 0
"""The round before the first."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is missing, write the result and print the table."""
    parser = study_options(__doc__, seeds="0")
    parser.add_argument("--most", type=int, default=40, help="training cases of a site at most (default: 40)")
    parser.add_argument("--locals", choices=LOCALS, default="own", help="whose local adapters every site measures with (default: own)")
    parser.add_argument("--inverted", metavar="SITE", help="the site whose images are inverted in that arm (experiment inverted)")
    options = parser.parse_args(arguments)
    try:
        configuration, hospitals = read_configuration(options.work), find_hospitals(options.root)
    except SettingError as error:
        sys.exit(f"{error}")
    lines, distances = known(options.out, options.locals)
    for seed in (int(text) for text in options.seeds.split(",")):
        trial = trial_folder(options.work, options.arm, seed, "fedsca")
        for number in range(UNTUNED if options.locals == "own" else 1, configuration.rounds + 1):
            there = number == UNTUNED or (trial / f"round-{number}").is_dir()
            if not there or any((line["seed"], line["round"]) == (seed, number) for line in lines):
                continue
            shown = [_as_shown(hospital, trial.parent, configuration, seed, options.inverted) for hospital in hospitals]
            found = gradients_of_round(trial, number, shown, configuration, seed, options.most, local=options.locals)
            lines += [{"seed": seed, "round": number, **line} for line in lines_of(found, seed)]
            distances.append({"seed": seed, "round": number, **distances_of(found, seed)})
            about = {"root": options.root.name, "configuration": configuration.to_dict(), "machine": machine()}
            about |= {"arm": options.arm, "locals": options.locals, "lines": lines, "distances": distances}
            atomic.write_json(options.out, about)
            print(f"seed {seed}, round {number}: done", flush=True)
    print(markdown(lines) + "\n\n" + weights_table(distances))


def known(out: Path, whose: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Lines and distances that a result file has already; it must be of the same local adapters."""
    if not out.exists():
        return [], []
    value: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if value["locals"] != whose:
        raise SystemExit(f"{out} holds figures with --locals {value['locals']}: name another --out.")
    return list(value["lines"]), list(value.get("distances", []))


def _as_shown(hospital: Hospital, trials: Path, configuration: Configuration, seed: int, inverted: str | None) -> Hospital:
    """A hospital as the arm's methods saw it; where a site is inverted, all with the cases that the seed has drawn."""
    if inverted is None:
        return hospital
    drawn = training_cases(hospital, configuration, seed)
    if hospital.name == inverted:
        copies = labelled_cases(SiteDirectory.open(trials / "inverted" / inverted), SiteSettings())
        drawn = tuple(case for case in copies if case.case in {one.case for one in drawn})
    return replace(hospital, train=drawn)


def gradients_of_round(
    trial: Path, number: int, hospitals: Sequence[Hospital], configuration: Configuration, seed: int, most: int, *, local: str
) -> Gradients:
    """The gradients of all sites' training cases at the common state.

    Args:
        local: whose local adapters, one of `LOCALS`.
    """
    settings = {hospital.name: site_settings(configuration, hospital.name, seed) for hospital in hospitals}
    adapted = load_adapted(settings[hospitals[0].name])
    tuned = {} if number == UNTUNED else {site: _tuned_folder(trial / f"round-{number}" / "federation" / site) for site in settings}
    states = []
    for folder in tuned.values():
        adapted.load(folder)
        states.append(adapted.shared_state())
    common = mix(states, np.full((1, len(states)), 1 / len(states)))[0] if states else None
    found = {}
    for hospital in hospitals:
        with_adapters(adapted, None if local == "untuned" else tuned.get(hospital.name if local == "own" else hospitals[0].name))
        found[hospital.name] = _gradients(adapted, common, hospital, settings[hospital.name], most)
    return found


def _tuned_folder(site: Path) -> Path:
    """The adapters of the last tuning, before the round's mixture."""
    with Registry(SiteDirectory.open(site)) as registry:
        last = [version for version in registry.versions() if version.provenance.kind == "local"][-1]
        return registry.folder(last.id)


def _gradients(
    adapted: AdaptedNetwork, common: AdapterState | None, hospital: Hospital, settings: SiteSettings, most: int
) -> tuple[NDArray[np.float32], list[str]]:
    if common is not None:
        adapted.load_shared(common)
    adapted.set_training(False)
    found = list(case_gradients(adapted, hospital.train[:most], settings, resolve_device("cpu")))
    return np.stack([gradient.astype(np.float32) for _, gradient in found]), [
        hospital.patients.get(case.case, case.patient) for case, _ in found
    ]


def markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    """One row for each round, scaling and number of cases, seeds averaged; whole gradients beside projected ones."""
    head = ["round", "scaling", "cases a half", "sites", "same", "other", "recognised", "projected: same", "other", "recognised"]
    rows = [table_row(head), table_row(["---:", "---", *["---:"] * 8])]
    for number, scaling, size in dict.fromkeys((line["round"], line["scaling"], line["cases_a_half"]) for line in lines):
        cells = []
        for projected in (False, True):
            some = [
                line
                for line in lines
                if (line["round"], line["scaling"], line["cases_a_half"], line["projected"]) == (number, scaling, size, projected)
            ]
            mean = {key: float(np.mean([line[key] for line in some])) for key in ("same", "other", "recognised")}
            cells += [f"{mean['same']:.2f}", f"{mean['other']:.2f}", f"{100 * mean['recognised']:.0f} %"]
        named = "untuned" if number == UNTUNED else str(number)
        rows.append(table_row([named, scaling, str(size), str(some[0]["sites"]), *cells]))
    return "\n".join(rows)


def weights_table(distances: Sequence[Mapping[str, Any]]) -> str:
    """Rows of weights at κ = 1 and distances, a receiving site each."""
    rows = []
    for one in distances:
        sites = one["sites"]
        if not rows:
            rows = [table_row(["round", "site", *(f"weight of {site}" for site in sites), *(f"D to {site}" for site in sites)])]
            rows.append(table_row(["---:", "---", *["---:"] * (2 * len(sites))]))
        named = "untuned" if one["round"] == UNTUNED else str(one["round"])
        for site, weights, away in zip(sites, one["weights"], one["distance"], strict=True):
            rows.append(table_row([named, site, *(f"{value:.2f}" for value in weights), *(f"{value:.3f}" for value in away)]))
    return "\n".join(rows)


if __name__ == "__main__":
    main()
