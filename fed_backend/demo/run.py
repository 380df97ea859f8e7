"""The whole demo, in order: hospitals, servers, then stretches of work at the hospitals with a round between two of them, then the report.

Threads: the main thread starts and stops processes, runs the rounds and draws the display; one thread per hospital does that hospital's
stretch. A failure anywhere stops everything; what was measured until then is still reported, with the failure on top.
"""

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fed_backend import launch
from fed_backend.demo import phases, servers
from fed_backend.demo.checks import checks
from fed_backend.demo.context_leak import LeakFinding, overall, site_finding
from fed_backend.demo.display import Display
from fed_backend.demo.environment import environment
from fed_backend.demo.errors import DemoError
from fed_backend.demo.gallery import GalleryItem
from fed_backend.demo.hospital import Hospital, read_pixels, read_truth
from fed_backend.demo.hospital_log import HospitalLog
from fed_backend.demo.options import DemoOptions
from fed_backend.demo.phases import PhaseClock
from fed_backend.demo.plan import LADDER, VIRTUAL_LEVEL, DemoPlan, make_plan, take_stock
from fed_backend.demo.processes import Supervisor, terminate_as_interrupt
from fed_backend.demo.radiologist import Radiologist
from fed_backend.demo.real_hospitals import real_hospitals
from fed_backend.demo.report import write_report
from fed_backend.demo.rest_client import RestClient
from fed_backend.demo.result import SCHEMA, DemoResult, HospitalEntry, NoPromptEntry, RoundEntry
from fed_backend.demo.round_results import gate_entry, round_entry
from fed_backend.demo.scoring import ScoreKind
from fed_backend.demo.virtual_hospitals import virtual_hospital
from fed_backend.errors import FederationError
from fed_backend.round_report import read_round, round_files
from fed_backend.run_config import FederationSettings

TUNING_SECONDS = 1800.0
ROUND_SECONDS = 1800.0
PLANNED_SHARE = 0.75
"""Share of the time that is planned for; the rest is for what the cost model cannot know: a slower machine, other work on it. Virtual data
need none: their first rung is made for the default time."""


def run_demo(options: DemoOptions, display: Display) -> DemoResult:
    """Run the demo and write its report.

    Raises:
        DemoError: a part failed; the report says how far it came.
        KeyboardInterrupt: Ctrl-C or a signal; everything is stopped, and what was measured is reported.
    """
    demo = Demo(options, display)
    try:
        with terminate_as_interrupt():
            demo.prepare()
            demo.run()
    except (DemoError, KeyboardInterrupt) as error:
        demo.problems.append(str(error).partition("\n")[0] or "The demo was interrupted.")
        if demo.logs:
            demo.finish()
        raise
    return demo.finish()


class Demo:
    """State of one run; see the module for its threads."""

    def __init__(self, options: DemoOptions, display: Display) -> None:
        self.options = options
        self.display = display
        self.clock = PhaseClock()
        self.created = datetime.now(UTC).isoformat(timespec="seconds")
        self.hospitals: list[Hospital] = []
        self.findings: dict[str, LeakFinding] = {}
        self.logs: list[HospitalLog] = []
        self.rounds: list[RoundEntry] = []
        self.problems: list[str] = []
        self.plan: DemoPlan | None = None
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None

    # -- before anything runs ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Lay out the hospitals, test the images' frames, and plan."""
        options = self.options
        options.out.mkdir(parents=True, exist_ok=True)
        if options.data is None:
            self.hospitals = [virtual_hospital(options.out, number, seed=options.seed) for number in range(options.hospitals)]
        else:
            self.hospitals = real_hospitals(options.data, options.out)
        self.findings = {hospital.name: site_finding(hospital) for hospital in self.hospitals}
        self.plan = make_plan(
            [take_stock(hospital) for hospital in self.hospitals],
            rounds=options.rounds,
            seconds=options.minutes * 60 * (PLANNED_SHARE if options.data else 1.0),
            kinds=self.kinds,
            seed=options.seed,
            image_size=options.image_size,
            ladder=(VIRTUAL_LEVEL, *LADDER[-4:]) if options.data is None else LADDER,
            extra_settings={} if self.no_prompt_measured else {"tune_kinds": "box,point,mask"},
        )
        names = ", ".join(hospital.name for hospital in self.hospitals)
        self.display.say(f"{len(self.hospitals)} hospitals: {names}; {options.rounds} rounds; run folder {options.out}")
        self.display.say(f"Prompts: {', '.join(self.kinds)}. {self.no_prompt()['reason']}")
        tests = ", ".join(f"{plan.name} {len(plan.test)}" for plan in self.plan.hospitals)
        self.display.say(f"Test cases scored: {tests}; expected time about {self.plan.expected_seconds / 60:.0f} min")

    @property
    def no_prompt_measured(self) -> bool:
        """Whether segmentation without a prompt means anything on these images."""
        return not overall(list(self.findings.values())).leaks

    @property
    def kinds(self) -> tuple[ScoreKind, ...]:
        """Kinds of prompt that are scored."""
        return ("box", "point", "none") if self.no_prompt_measured else ("box", "point")

    def no_prompt(self) -> NoPromptEntry:
        """The finding about the images' frames in words and figures."""
        worst = overall(list(self.findings.values()))
        guess = f"a box guessed from the image's frame alone overlaps the label's box with a median IoU of {worst.iou:.2f}"
        constant = f"(a constant box: {worst.constant_iou:.2f})"
        if worst.leaks:
            reason = (
                f"The padding of these images gives the label's box away: {guess} {constant}. A result without a prompt would mean little."
            )
        else:
            reason = f"The frame of these images does not give the label away: {guess} {constant}."
        figures = {
            name: {"frame_iou": round(finding.iou, 3), "constant_iou": round(finding.constant_iou, 3), "cases": float(finding.cases)}
            for name, finding in self.findings.items()
        }
        return {"measured": not worst.leaks, "reason": reason, "figures": figures}

    # -- the run -----------------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Start everything, work, stop everything."""
        plan = self._plan()
        with contextlib.ExitStack() as stack:
            executor = stack.enter_context(_hospital_threads(len(self.hospitals)))
            supervisor = stack.enter_context(Supervisor(self.options.out / "logs"))
            self._executor = executor
            with self.clock.during(phases.START):
                self._start(supervisor, plan)
            self._parallel(supervisor, "Base, first labels, first tuning", lambda log: self._first_stretch(log))
            for number in range(1, plan.rounds + 1):
                with self.clock.during(f"exchange-{number}"):
                    self._round(supervisor, number)
                title = f"After round {number}" + (": scoring, labels, tuning" if number < plan.rounds else ": scoring, validation")
                self._parallel(supervisor, title, lambda log, number=number: self._later_stretch(log, number))  # type: ignore[misc]
            if self.options.keep:
                supervisor.keep()
            else:
                self.display.say("Stopping servers and nodes")

    def _start(self, supervisor: Supervisor, plan: DemoPlan) -> None:
        names = [hospital.name for hospital in self.hospitals]
        addresses = servers.choose_addresses(names)
        self.display.say("Starting MONAI Label servers, SuperLink and SuperNodes")
        started = servers.start_servers(supervisor, self.hospitals, plan, self.options, addresses)
        for hospital in self.hospitals:
            client = RestClient(addresses.server(hospital.name), hospital.name)
            radiologist = Radiologist(
                client,
                hospital,
                plan,
                stopping=supervisor.stopping,
                progress=lambda text, name=hospital.name: self.display.report(name, text),  # type: ignore[misc]
                strategy=self.options.strategy,
            )
            self.logs.append(HospitalLog(client, radiologist))
        servers.wait_for_servers(supervisor, started, {log.name: log.client for log in self.logs})
        servers.start_superlink(supervisor, self.options.out, addresses)
        for hospital in self.hospitals:
            servers.start_node(supervisor, hospital, addresses)
        self.display.say("; ".join(f"{name} {addresses.server(name)}" for name in names))

    def _first_stretch(self, log: HospitalLog) -> None:
        with self.clock.during(phases.BASE):
            log.radiologist.score(phases.BASE, "base")
        self._label_and_tune(log, 1)

    def _later_stretch(self, log: HospitalLog, number: int) -> None:
        """What a hospital does after round `number`: measure, then either the next wave or the last look at the validation cases."""
        plan = self._plan()
        with self.clock.during(f"round-{number}"):
            log.radiologist.score(f"round-{number}")
        if number < plan.rounds:
            self._label_and_tune(log, number + 1)
        else:
            with self.clock.during(phases.FINAL):
                log.validation = log.radiologist.validate()

    def _label_and_tune(self, log: HospitalLog, wave: int) -> None:
        with self.clock.during(f"work-{wave}"):
            log.radiologist.wave(wave)
            log.radiologist.wait_for_tuning(wave, seconds=TUNING_SECONDS)
            self._note_tuning(log, wave)
        if wave == 1 or self._plan().level.score_every_tuning:
            with self.clock.during(f"tuning-{wave}"):
                log.radiologist.score(f"tuning-{wave}")
        log.active = log.radiologist.active_version()
        self.display.report(log.name, "ready for the round")

    def _note_tuning(self, log: HospitalLog, wave: int) -> None:
        tuned = next((entry for entry in log.radiologist.tunings if entry["wave"] == wave), None)
        if tuned and tuned["version"]:
            log.read_gate(f"local tuning {wave}", tuned["version"])

    def _parallel(self, supervisor: Supervisor, title: str, work: Callable[[HospitalLog], None]) -> None:
        """Do `work` for every hospital at once; the first failure is raised, the others are told to stop."""
        if self._executor is None:
            raise DemoError("The demo has not been started.")
        self.display.say(title)
        with self.display.watching([log.name for log in self.logs]):
            futures = [self._executor.submit(work, log) for log in self.logs]
            while True:
                done, waiting = concurrent.futures.wait(futures, timeout=0.25, return_when=concurrent.futures.FIRST_EXCEPTION)
                _raise_first(done)
                if not waiting:
                    break
                supervisor.check()
                self.display.tick()

    def _round(self, supervisor: Supervisor, number: int) -> None:
        """Run one federated round through `flwr run`, then wait until every server serves what became active."""
        due = datetime.now(UTC).isoformat(timespec="seconds")
        self.display.say(f"Round {number} is due: every hospital has finished its labels and its tuning")
        home = servers.server_home(self.options.out)
        settings = FederationSettings(
            federation="fedsca-demo", base=self.options.base, min_sites=min(2, len(self.logs)), expected_sites=len(self.logs)
        )
        config = {**settings.to_run_config(), "state-dir": str((home / "state").resolve()), "rounds": 1}
        environment_ = {**launch.flower_environment(home / "flower"), **servers.ONE_THREAD}
        started, begun = datetime.now(UTC).isoformat(timespec="seconds"), self.clock.now
        with self.display.watching(["server"]):
            self.display.report("server", f"round {number}: updates, gradient probe, mixtures, gates")

            def progress() -> None:
                supervisor.check()
                self.display.tick()

            process = supervisor.run(
                f"round-{number}", launch.run_argv(config), seconds=ROUND_SECONDS, env=environment_, cwd=home, progress=progress
            )
        records = round_files(home / "state")
        if len(records) < number:
            raise process.failure(f"round {number} left no record")
        record = read_round(records[number - 1])
        if record.get("status") != "finished":
            raise DemoError(f"Round {number} was {record.get('status')}: {record.get('reason')} See {process.log}.")
        self.rounds.append(round_entry(record, due=due, started=started, seconds=self.clock.now - begun))
        for log in self.logs:
            self._note_round(log, record, number)

    def _note_round(self, log: HospitalLog, record: Any, number: int) -> None:
        gate = gate_entry(record, log.name)
        if gate is None:
            reasons = [item["reason"] for item in record.get("refusals") or [] if item.get("site") == log.name]
            self.problems.append(f"{log.name} took no part in round {number}: {'; '.join(map(str, reasons)) or 'no verdict was recorded.'}")
            return
        log.gates.append(gate)
        active = str(record["verdicts"][log.name].get("active_after") or "")
        if active:
            log.radiologist.wait_until_served(active)
            log.active = active

    # -- afterwards --------------------------------------------------------------------------------------------------------------

    def finish(self) -> DemoResult:
        """Put the result together, test the claims, write the report, show the tables."""
        result = self.result()
        result["checks"] = checks(result)
        page = write_report(self.options.out, result, self.gallery())
        self.display.results(result)
        self.display.say(f"Report: {page}")
        return result

    def result(self) -> DemoResult:
        """Everything that was measured."""
        options, plan = self.options, self._plan()
        kind = "virtual" if options.data is None else "folder"
        name = f"{len(self.hospitals)} virtual hospitals" if options.data is None else options.data.resolve().name
        return {
            "schema": SCHEMA,
            "created": self.created,
            "seconds": self.clock.now,
            "data": {"kind": kind, "name": name},
            "options": {
                key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items() if value is not None
            },
            "plan": plan.to_dict(),
            "environment": environment(options.base, options.image_size),
            "no_prompt": self.no_prompt(),
            "phases": self.clock.entries(),
            "hospitals": [_hospital_entry(log, plan) for log in self.logs],
            "rounds": self.rounds,
            "checks": [],
            "problems": self.problems,
        }

    def gallery(self) -> list[GalleryItem]:
        """One test slice per virtual hospital; nothing for real data."""
        return [item for log in self.logs if (item := _gallery_item(log)) is not None] if self.options.data is None else []

    def _plan(self) -> DemoPlan:
        if self.plan is None:
            raise DemoError("The demo has not been prepared.")
        return self.plan


def _hospital_entry(log: HospitalLog, plan: DemoPlan) -> HospitalEntry:
    radiologist, hospital = log.radiologist, log.radiologist.hospital
    mine = plan.of(hospital.name)
    parts = [entry["part"] for entry in radiologist.labels]
    return {
        "name": hospital.name,
        "note": hospital.note,
        "address": log.client.address,
        "cases": {
            "train": len(hospital.split.train),
            "val": len(hospital.split.val),
            "test": len(hospital.split.test),
            "labelled_train": parts.count("train"),
            "labelled_val": parts.count("val"),
        },
        "scored_test_cases": list(mine.test),
        "test_slices": sum(len(radiologist.test_slices(case)) for case in mine.test),
        "fill_the_box": radiologist.fill_the_box(),
        "dice": radiologist.dice,
        "labels": radiologist.labels,
        "tunings": radiologist.tunings,
        "gates": log.gates,
        "validation": log.validation,
        "active_version": log.active,
    }


def _gallery_item(log: HospitalLog) -> GalleryItem | None:
    """The largest slice of the first test case, with the masks of the base and of the last version that was measured."""
    masks, hospital = log.radiologist.masks, log.radiologist.hospital
    if phases.BASE not in masks:
        return None
    case = next(iter(entry["cases"] for entry in log.radiologist.dice))
    name = next(iter(case))
    truth = read_truth(hospital.truths[name])
    k = int(truth.sum(axis=(1, 2)).argmax())
    before, after = masks[phases.BASE], list(masks.values())[-1]
    return GalleryItem(hospital.name, name, k, "box prompt", read_pixels(hospital.images[name])[k], truth[k], before[k], after[k])


def _raise_first(futures: Sequence["concurrent.futures.Future[None]"] | set["concurrent.futures.Future[None]"]) -> None:
    for future in futures:
        error = future.exception()
        if error is not None:
            if isinstance(error, DemoError | FederationError):
                raise DemoError(str(error)) from error
            raise error


@contextlib.contextmanager
def _hospital_threads(count: int) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """A pool of threads that nobody waits for when the demo is cut short: their servers are gone by then, so they end by themselves."""
    executor = concurrent.futures.ThreadPoolExecutor(count, thread_name_prefix="hospital")
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
