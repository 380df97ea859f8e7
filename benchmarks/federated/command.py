"""Does the federation help? Every method on the same hospitals, with the same base, order of cases and budget.

    fedsca bench federated --root DIR --out F.json [--preset cpu|thorough|quick|full] [--experiment NAME] [--methods A,B] [--seeds 0,1,2]

DIR holds <site>/studies and <site>/split.json. The same command again goes on where it was stopped; finished rounds are kept in the work
folder. Where that is gone, F.json is enough: methods and seeds that are whole in it are not computed again, and what it has of other
experiments stays in it. Experiments of one budget on the same hospitals can share a work folder: what one has tuned and scored the other
need not.
Test cases are used for the figures only. `fedsca bench report F.json` makes tables and plots of the result.
"""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")

import torch

from benchmarks.federated.configuration import EXPERIMENTS, PRESETS, Arm, Configuration, arms, completed
from benchmarks.federated.hospitals import Hospital, find_hospitals, read_hospital, test_cases, training_cases, validation_cases
from benchmarks.federated.known_units import Key, KnownUnits, key_of
from benchmarks.federated.parallel import MOST_JOBS, Finished, one_by_one, side_by_side, usual_jobs
from benchmarks.federated.trial import METHODS, Trial
from benchmarks.federated.work_folder import CONFIGURATION_FILE, trial_folder
from benchmarks.federated.workbench import Workbench
from benchmarks.machine import machine
from sam_adapters import atomic
from sam_adapters.errors import FedscaError, SettingError
from sam_adapters.file_lock import try_lock

SCHEMA_VERSION = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and write the result after every round."""
    options = _parser().parse_args(arguments)
    logging.getLogger("flwr").setLevel(logging.WARNING)
    try:
        run = Run(options)
        with _alone(run.work):
            run.go()
    except FedscaError as error:
        sys.exit(f"{error}")


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Be the only benchmark in the work folder.

    Raises:
        SettingError: there is another.
    """
    with (work / "bench.lock").open("w", encoding="utf-8") as stream:
        if not try_lock(stream.fileno()):
            raise SettingError(f"Another benchmark uses {work}: wait for its end, or name another --work.")
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedsca bench federated", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of hospitals")
    parser.add_argument("--out", type=Path, required=True, help="result file")
    parser.add_argument("--work", type=Path, help="where finished rounds are kept (default: a folder beside the result, named .work)")
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default="cpu",
        help="budget (default: cpu, 128 px and subsets; thorough: the same with four times the tuning; quick: thorough at 56 px)",
    )
    parser.add_argument("--experiment", choices=sorted(EXPERIMENTS), default="main", help="which question (default: main)")
    parser.add_argument("--methods", help=f"instead of the experiment's own, some of {', '.join(METHODS)}; comma-separated")
    parser.add_argument("--arm", action="append", metavar="NAME", help="only the experiment's arm of this name; can be given several times")
    parser.add_argument("--guest", type=Path, help="one hospital more, of another folder: another organ (experiment guest)")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated (default: 0,1,2)")
    parser.add_argument(
        "--jobs",
        type=_jobs,
        default=0,
        metavar="N",
        help=f"rounds computed at once, each by a process of 1 to 2 GiB (default: one for each core, at most {MOST_JOBS}; one on a GPU)",
    )
    parser.add_argument("--rounds", type=int, help="instead of the preset's")
    parser.add_argument("--kinds", help="kinds of prompt trained and tested, some of box,point,none (default: the preset's)")
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="any other value of the budget, as JSON"
    )
    return parser


def _jobs(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} processes, expected 1 or more")
    return value


class Run:
    """One call of the command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out: Path = options.out.resolve()
        self.work: Path = (options.work or self.out.with_suffix(".work")).resolve()
        self.seeds = [int(text) for text in options.seeds.split(",")]
        self.hospitals = find_hospitals(options.root.resolve())
        if options.guest:
            self.hospitals.append(read_hospital(options.guest.resolve()))
        self.base = _configuration(options)
        names = tuple(hospital.name for hospital in self.hospitals)
        methods = tuple(options.methods.split(",")) if options.methods else None
        self.arms = _chosen(arms(options.experiment, names, methods), options.arm)
        self.about = {"preset": options.preset, "experiment": options.experiment, "root": options.root.name}
        budget = {"configuration": self.base.to_dict(), "root": self.about["root"], "sites": self._sites()}
        self.known = KnownUnits.read(self.out, budget)
        self.work.mkdir(parents=True, exist_ok=True)
        self._check_same()
        self.machines, self.here = self.known.machines_with(machine())
        if self.base.threads:
            torch.set_num_threads(self.base.threads)
        self.memo = self.work / "memo"
        self.jobs: int = options.jobs or usual_jobs(self.base.threads)
        self._now = ""
        self._taken: dict[Key, list[dict[str, Any]]] = {}

    def go(self) -> None:
        """Every missing round, seed by seed, so that a table of fewer seeds is whole early."""
        trials = [
            (arm, Trial(trial_folder(self.work, arm.name, seed, method), method, seed, self._of(arm), self.hospitals))
            for seed in self.seeds
            for arm in self.arms
            for method in arm.methods
        ]
        self._taken = {_key(arm, trial): units for arm, trial in trials if (units := self._to_take(arm, trial))}
        if self._taken:
            print(f"{len(self._taken)} of {len(trials)} trials are in {self.out.name} already.", flush=True)
        todo = {trial: arm.name for arm, trial in trials if _key(arm, trial) not in self._taken}
        rounds = sum(len(trial.missing()) for trial in todo)
        begun = time.monotonic()
        self._write(trials)
        for done, (trial, number, unit) in enumerate(self._finished_rounds(todo), start=1):
            left = (time.monotonic() - begun) / done * (rounds - done)
            dice = [case["dice"] for site in unit["scores"].values() for kind, cases in site.items() if kind != "filled" for case in cases]
            print(
                f"{time.strftime('%H:%M:%S')} {_line(todo[trial], trial, number)}: {unit['seconds']:.0f} s, mean Dice "
                f"{sum(dice) / max(1, len(dice)):.3f}; {done}/{rounds} rounds, about {left / 60:.0f} min left",
                flush=True,
            )
            self._write(trials)
        print(f"{self.out}: complete, {len(trials)} trials.", flush=True)

    def _finished_rounds(self, todo: dict[Trial, str]) -> Iterator[Finished]:
        """Compute what is missing of these trials, given with the names of their arms."""
        trials = [trial for trial in todo if trial.missing()]
        if self.jobs == 1 or len(trials) < 2:
            bench = Workbench(self.memo, self._note)
            return one_by_one(trials, bench, lambda trial, number: self._begins(todo[trial], trial, number))
        jobs = min(self.jobs, len(trials))
        print(f"Computing in {jobs} processes; a line for each round that is finished.", flush=True)
        return side_by_side(trials, self.memo, jobs=jobs, threads=self.base.threads)

    def _begins(self, arm: str, trial: Trial, number: int) -> None:
        self._now = _line(arm, trial, number)

    def _of(self, arm: Arm) -> Configuration:
        return self.base.changed(arm.changes)

    def _to_take(self, arm: Arm, trial: Trial) -> list[dict[str, Any]]:
        """The units of a trial of which nothing lies in the work folder and everything in the result file."""
        untouched = len(trial.missing()) == trial.rounds
        return self.known.of(_key(arm, trial), trial.rounds) if untouched else []

    def _note(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\033[K{self._now}: {text}", end="", file=sys.stderr, flush=True)

    def _check_same(self) -> None:
        """Refuse to go on with another configuration or other hospitals: figures of two budgets must not meet in one table."""
        path = self.work / CONFIGURATION_FILE
        value = {"configuration": self.base.to_dict(), "root": self.about["root"], "sites": [hospital.name for hospital in self.hospitals]}
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else value
        known["configuration"] = completed(known["configuration"])
        if known != value:
            raise SettingError(f"{self.work} was begun with another configuration (see {CONFIGURATION_FILE} in it): name another --work.")
        atomic.write_json(path, value)

    def _write(self, trials: list[tuple[Arm, Trial]]) -> None:
        units = [unit for arm, trial in trials for unit in self._taken.get(_key(arm, trial)) or self._kept(arm, trial)]
        wanted = {_key(arm, trial) for arm, trial in trials}
        others = [unit for unit in self.known.units if key_of(unit) not in wanted]
        atomic.write_json(
            self.out,
            {
                "schema": SCHEMA_VERSION,
                **self.about,
                "machines": self.machines,
                "configuration": self.base.to_dict(),
                "arms": {**self.known.arms, **{arm.name: dict(arm.changes) for arm in self.arms}},
                "seeds": sorted({*self.seeds, *(unit["seed"] for unit in others)}),
                "sites": self._sites(),
                "complete": all(_key(arm, trial) in self._taken or not trial.missing() for arm, trial in trials),
                "units": units + others,
            },
        )

    def _kept(self, arm: Arm, trial: Trial) -> list[dict[str, Any]]:
        """The units of the work folder. What the result file knows of one already says on which machine it was computed."""
        found = []
        for number in range(1, trial.rounds + 1):
            path = trial.unit_file(number)
            if path.exists():
                unit = {"arm": arm.name, **json.loads(path.read_text(encoding="utf-8"))}
                found.append({**unit, "machine": self.known.machine_of(unit, self.here)})
        return found

    def _sites(self) -> dict[str, dict[str, int]]:
        return {hospital.name: self._counts(hospital) for hospital in self.hospitals}

    def _counts(self, hospital: Hospital) -> dict[str, int]:
        return {
            "train": len(training_cases(hospital, self.base, self.seeds[0])),
            "validation": len(validation_cases(hospital, self.base, self.seeds[0])),
            "test": len(test_cases(hospital, self.base)),
            "train_there": len(hospital.train),
            "test_there": len(hospital.test),
        }


def _chosen(found: list[Arm], names: Sequence[str] | None) -> list[Arm]:
    """The arms of these names; all without names.

    Raises:
        SettingError: the experiment has no such arm.
    """
    if unknown := sorted(set(names or ()) - {arm.name for arm in found}):
        known = ", ".join(repr(arm.name) for arm in found)
        raise SettingError(f"There is no arm {', '.join(map(repr, unknown))} in this experiment: expected some of {known}.")
    return [arm for arm in found if not names or arm.name in names]


def _line(arm: str, trial: Trial, number: int) -> str:
    return f"{arm}, seed {trial.seed}, {trial.method}, round {number}"


def _key(arm: Arm, trial: Trial) -> Key:
    return arm.name, trial.method, trial.seed


def _configuration(options: argparse.Namespace) -> Configuration:
    changes: dict[str, Any] = {key: json.loads(value) for key, value in options.set}
    if options.rounds:
        changes["rounds"] = options.rounds
    if options.kinds:
        changes["kinds"] = tuple(options.kinds.split(","))
    return PRESETS[options.preset].changed(changes)


if __name__ == "__main__":
    main()
