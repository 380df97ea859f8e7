"""A hospital's server in memory: proposes cases by name, segments by filling the box, starts a tuning after enough labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fed_backend.demo.hospital import Hospital, read_truth
from fed_backend.demo.rest_client import InferReply


class FakeServer:
    """What `HospitalServer` promises; every request is kept in `calls`."""

    def __init__(self, hospital: Hospital, *, tune_after: int = 2) -> None:
        self.hospital = hospital
        self.tune_after = tune_after
        self.calls: list[tuple[str, Any]] = []
        self.labelled: list[str] = []
        self.active = "base"
        self.tunings = 0
        self.outcome = "finished"
        self.offer_tests = False
        self._polls = 0

    def status(self) -> dict[str, Any]:
        self._polls += 1
        started = len([case for case in self.labelled if case in self.hospital.split.train]) // self.tune_after if self.tune_after else 0
        running = started > self.tunings
        if running and self._polls % 3 == 0:  # a tuning ends at the third look
            self.tunings, running = started, False
            self.active = f"{started:016x}"
        last = {"id": self.tunings, "status": self.outcome, "labels": 2 * self.tunings, "version": self.active} if self.tunings else None
        return {"active": self.active, "tuning": {"running": running, "waiting": 0, "progress": {"step": 1, "steps": 4}, "last": last}}

    def next_case(self, strategy: str) -> str | None:
        cases = self.hospital.split.train + (self.hospital.split.test if self.offer_tests else ())
        left = sorted(case for case in cases if case not in self.labelled)
        return left[-1 if self.offer_tests else 0] if left else None

    def infer(self, model: str, case: str, params: Mapping[str, Any]) -> InferReply:
        self.calls.append((model, {"case": case, **params}))
        mask = np.zeros_like(read_truth(self.hospital.truths[case]))
        for prompt in params.get("slices", []):
            if "box" in prompt:
                x0, y0, x1, y1 = prompt["box"]
                mask[prompt["index"], y0 : y1 + 1, x0 : x1 + 1] = True
        version = self.active if params["version"] == "active" else params["version"]
        return InferReply(mask, {"version": version})

    def submit(self, case: str, label: Path, params: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append(("submit", {"case": case, "label": label, **params}))
        self.labelled.append(case)
        return {"fedsca": {"usable": True}}
