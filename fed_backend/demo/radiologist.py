"""The scripted radiologist of one hospital: knows the truth, and touches the hospital through its REST interface only.

One radiologist works in one thread. Every wait has a deadline and ends at once when the demo stops.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fed_backend.demo.errors import DemoError, RestError
from fed_backend.demo.hospital import Hospital, read_truth
from fed_backend.demo.plan import GATE_SLICES, DemoPlan, HospitalPlan
from fed_backend.demo.rest_client import HospitalServer, InferReply
from fed_backend.demo.result import DiceEntry, LabelEntry, TuningEntry, ValidationEntry
from fed_backend.demo.scoring import ScoreKind, dice, fill_the_box, mean, slice_prompts, slices_dice, target_slices

INTERACTIVE, AUTOMATIC = "sam", "sam_auto"
WHO = "scripted-radiologist"
ENDED = ("finished", "failed", "stopped", "interrupted")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TuningView:
    """What a server's status says about local tuning.

    Attributes:
        id: number of the last tuning, 0 before the first.
        busy: one is running or queued.
        status: of the last one.
        labels: labelled training cases when it started.
        version: what it made, empty if nothing.
        done, steps: progress in optimiser steps.
        reason: why it ended as it did, in a sentence; may be empty.
    """

    id: int
    busy: bool
    status: str
    labels: int
    version: str
    done: int
    steps: int
    reason: str = ""


def tuning_view(status: Mapping[str, Any]) -> TuningView:
    """Read the part of `GET /fedsca/status` that is about tuning."""
    tuning = status.get("tuning") or {}
    last, progress = tuning.get("last") or {}, tuning.get("progress") or {}
    return TuningView(
        id=int(last.get("id") or 0),
        busy=bool(tuning.get("running")) or bool(tuning.get("waiting")),
        status=str(last.get("status") or "none"),
        labels=int(last.get("labels") or 0),
        version=str(last.get("version") or ""),
        done=int(progress.get("step") or 0),
        steps=int(progress.get("steps") or last.get("steps") or 0),
        reason=str(progress.get("reason") or ""),
    )


class Radiologist:
    """Works at one hospital.

    Args:
        server: the hospital's server.
        hospital: its cases, with the truth.
        plan: what to do.
        stopping: set when the demo stops.
        progress: told in a few words what is going on.
        strategy: how the server chooses the next training case.
        poll: seconds between two looks at the server's status while waiting.
    """

    def __init__(
        self,
        server: HospitalServer,
        hospital: Hospital,
        plan: DemoPlan,
        *,
        stopping: threading.Event,
        progress: Progress = lambda _text: None,
        strategy: str = "first",
        poll: float = 0.5,
    ) -> None:
        self._server = server
        self.hospital = hospital
        self._plan = plan
        self._mine: HospitalPlan = plan.of(hospital.name)
        self._stopping = stopping
        self._progress = progress
        self._strategy = strategy
        self._poll = poll
        self._truths: dict[str, NDArray[np.bool_]] = {}
        self._last_tuning = 0
        self.dice: list[DiceEntry] = []
        self.labels: list[LabelEntry] = []
        self.tunings: list[TuningEntry] = []
        self.masks: dict[str, NDArray[np.bool_]] = {}
        """Box-prompted masks of the first test case, phase -> mask: for the gallery of virtual data."""

    # -- measuring ---------------------------------------------------------------------------------------------------------------

    def test_slices(self, case: str) -> list[int]:
        """The slices of a test case on which box and point prompts are scored."""
        return target_slices(self._truth(case), self._plan.test_slices)

    def score(self, phase: str, version: str = "active") -> None:
        """Measure test Dice with the given version; if that version was measured before, its figures are repeated and marked so."""
        serving = self.active_version() if version == "active" else version
        if any(entry["version"] == serving for entry in self.dice):
            self._repeat(phase, serving)
            return
        for kind in self._plan.kinds:
            cases: dict[str, float] = {}
            for number, case in enumerate(self._mine.test, start=1):
                self._progress(f"test case {number}/{len(self._mine.test)}, {kind}")
                reply, cases[case] = self._scored(case, kind, self.test_slices(case), version)
                if reply.version != serving:
                    raise DemoError(f"{self.hospital.name}: version {serving} was asked for, the server used {reply.version}.")
                if kind == "box" and number == 1:
                    self.masks[phase] = reply.mask
            self.dice.append({"phase": phase, "kind": kind, "version": serving, "mean": mean(cases), "cases": cases, "reused": False})
        self._progress("scored")

    def _repeat(self, phase: str, version: str) -> None:
        first = [entry for entry in self.dice if entry["version"] == version and not entry["reused"]]
        self.dice += [{**entry, "phase": phase, "reused": True} for entry in first]
        self._progress("same version as before")

    def _scored(self, case: str, kind: ScoreKind, slices: Sequence[int], version: str) -> tuple[InferReply, float]:
        """Segment one case and score it: box and point on the prompted slices, no prompt on the whole volume."""
        truth = self._truth(case)
        if kind == "none":
            reply = self._server.infer(AUTOMATIC, case, {"version": version})
            return reply, dice(reply.mask, truth)
        reply = self._server.infer(INTERACTIVE, case, {"version": version, "slices": slice_prompts(truth, slices, kind)})
        return reply, slices_dice(reply.mask, truth, slices)

    def fill_the_box(self) -> float | None:
        """Mean Dice over the scored test cases of filling the prompt's box."""
        scores = {}
        for case in self._mine.test:
            truth, slices = self._truth(case), self.test_slices(case)
            scores[case] = slices_dice(fill_the_box(truth, slices), truth, slices)
        return mean(scores)

    def validate(self) -> ValidationEntry:
        """Validation Dice of the untuned base and the active version, from outside, on the largest slices of every labelled case."""
        active = self.active_version()
        cases = [entry["case"] for entry in self.labels if entry["part"] == "val"]
        figures: dict[str, dict[str, float]] = {"base": {}, active: {}}
        kinds: tuple[ScoreKind, ...] = ("box", "point")
        for version in figures:
            for kind in kinds:
                scores = {}
                for number, case in enumerate(cases, start=1):
                    self._progress(f"validation case {number}/{len(cases)}, {version[:8]}, {kind}")
                    _, scores[case] = self._scored(case, kind, target_slices(self._truth(case), GATE_SLICES), version)
                average = mean(scores)
                if average is not None:
                    figures[version][kind] = average
        self._progress("done")
        return {"cases": len(cases), "version": active, "base": figures["base"], "active": figures[active]}

    # -- labelling ---------------------------------------------------------------------------------------------------------------

    def wave(self, number: int) -> None:
        """Label this wave's cases: the validation cases first (before the first wave), then training cases as the server proposes them."""
        if number == 1:
            for count, mine in enumerate(self._mine.val, start=1):
                self._progress(f"labelling validation case {count}/{len(self._mine.val)}")
                self._label(mine, number, "validation first")
        wanted = self._mine.waves[number - 1]
        labelled = 0
        while labelled < wanted:
            if (case := self._server.next_case(self._strategy)) is None:
                break
            if case in self.hospital.split.test:
                raise DemoError(f"{self.hospital.name}: the server proposed test case {case} for labelling.")
            labelled += case in self.hospital.split.train
            self._progress(f"labelling training case {labelled}/{wanted}")
            self._label(case, number, self._strategy)

    def _label(self, case: str, wave: int, chosen_by: str) -> None:
        """Prompt, look at what comes back, hand in the corrected label."""
        self._check_stopping()
        started = time.monotonic()
        truth = self._truth(case)
        slices = target_slices(truth, self._plan.level.label_slices)
        scores: dict[str, float | None] = {"box": None, "point": None}
        version = ""
        if slices:
            for kind in ("box", "point"):
                reply, scores[kind] = self._scored(case, "box" if kind == "box" else "point", slices, "active")
                version = reply.version
        answer = self._server.submit(case, self.hospital.truths[case], {"version": version, "client_id": WHO})
        finding = answer.get("fedsca") or {}
        if finding.get("usable") is False:
            raise DemoError(f"{self.hospital.name}: the label of {case} was not accepted: {finding.get('problem')}")
        part: Literal["train", "val"] = "val" if case in self.hospital.split.val else "train"
        self.labels.append(
            {
                "case": case,
                "part": part,
                "wave": wave,
                "chosen_by": chosen_by,
                "version": version,
                "box": scores["box"],
                "point": scores["point"],
                "seconds": time.monotonic() - started,
            }
        )

    # -- waiting -----------------------------------------------------------------------------------------------------------------

    def active_version(self) -> str:
        """What the server says is active: `base` or a version id."""
        return str(self._server.status()["active"])

    def wait_for_tuning(self, wave: int, *, seconds: float, start_seconds: float = 60.0) -> None:
        """Wait until the tuning that this wave's labels started has ended, its gate included.

        Raises:
            DemoError: it did not start within `start_seconds`, took longer than `seconds`, or failed.
        """
        if not self._mine.waves[wave - 1]:
            self._progress("no training case left to label")
            return
        begun = time.monotonic()
        seen = self._last_tuning
        while True:
            view = tuning_view(self._server.status())
            if view.id > seen and not view.busy and view.status in ENDED:
                break
            waited = time.monotonic() - begun
            if view.id <= seen and not view.busy and waited > start_seconds:
                raise DemoError(f"{self.hospital.name}: the saved labels of wave {wave} started no tuning within {start_seconds:.0f} s.")
            if waited > seconds:
                raise DemoError(f"{self.hospital.name}: local tuning {wave} did not end within {seconds:.0f} s.")
            self._progress(_tuning_words(view, seen))
            self._check_stopping(self._poll)
        self._last_tuning = view.id
        self.tunings.append(
            {"wave": wave, "status": view.status, "labels": view.labels, "version": view.version, "seconds": time.monotonic() - begun}
        )
        if view.status != "finished":
            raise DemoError(f"{self.hospital.name}: local tuning {wave} ended as {view.status}. {view.reason}")
        self._progress("tuned")

    def wait_until_served(self, version: str, *, seconds: float = 30.0) -> None:
        """Wait until the server itself serves `version`, as it must without a restart."""
        deadline = time.monotonic() + seconds
        while (serving := self.active_version()) != version:
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{self.hospital.name}: version {version} is active after the round, but the server still serves {serving}."
                )
            self._check_stopping(self._poll)

    def _check_stopping(self, wait: float = 0.0) -> None:
        if self._stopping.wait(wait):
            raise DemoError("The demo is being stopped.")

    def _truth(self, case: str) -> NDArray[np.bool_]:
        if case not in self._truths:
            try:
                self._truths[case] = read_truth(self.hospital.truths[case])
            except KeyError as error:
                raise RestError(f"{self.hospital.name}: the server knows a case {case!r} that is not in the data.") from error
        return self._truths[case]


def _tuning_words(view: TuningView, seen: int) -> str:
    if view.id <= seen:
        return "tuning is starting" if view.busy else "waiting for tuning to start"
    if view.steps and view.done < view.steps:
        return f"tuning, step {view.done}/{view.steps}"
    return "gate: comparing versions"
