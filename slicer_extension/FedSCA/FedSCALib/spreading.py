"""Propagation and whole volumes: a job on the server whose slices are drawn as they come, and one step of the history. Main thread only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from FedSCALib.client import Client
from FedSCALib.desk import CANCEL, Desk
from FedSCALib.errors import CaseGone, FedSCAError, SessionExpired
from FedSCALib.history import SliceKey, Step
from FedSCALib.packets import Job
from FedSCALib.prompting import Prompting
from FedSCALib.snapshot import Snapshot
from FedSCALib.translate import tr
from FedSCALib.wire import apply_change

KIND = "spread"


@dataclass
class Running:
    """The job under way; `before`: the label as it was when the job was asked for."""

    job: str
    label: str
    axis: str
    step: Step
    before: Snapshot
    seen: int = 0


class Spreading:
    """At most one job at a time."""

    def __init__(self, desk: Desk, prompting: Prompting) -> None:
        self._desk = desk
        self._prompting = prompting
        self._running: Optional[Running] = None

    @property
    def running(self) -> bool:
        return self._running is not None

    def propagate(self) -> None:
        """Carry the mask of the slice in view on to its neighbours."""
        desk, state = self._desk, self._desk.state
        work = self._prompting.known(state.axis, state.index)
        if work is None or work.result is None:
            desk.notify("info", tr("Segment this slice with a prompt first: that mask is then carried on to its neighbours."))
            return
        previous, key = work.result, (state.label, state.axis, state.index)
        mask = self._prompting.edited(key)
        self._begin(tr("Propagating"), key, lambda client, cancelled, _: client.propagate(previous, mask, cancelled))

    def volume(self) -> None:
        """Let the model segment every slice without prompts."""
        state = self._desk.state
        case = state.case
        if case is None:
            self._desk.notify("info", tr("Open a case first."))
            return
        self._begin(
            tr("Segmenting the volume"),
            (state.label, state.axis, state.index),
            lambda client, cancelled, _: client.volume(case, state.axis, state.index, state.label, cancelled),
        )

    def cancel(self) -> bool:
        """End the job; what is drawn stays (undo takes it away)."""
        desk, running = self._desk, self._running
        count = desk.jobs.cancel(KIND)
        desk.not_busy(KIND)
        desk.not_again(KIND)
        self._running = None
        desk.update(progress=None)
        if running is not None:
            job = running.job
            desk.call(CANCEL, lambda client, _c, _r: client.cancel_job(job), quiet=True, lane=CANCEL)
        return bool(count) or running is not None

    def _begin(self, text: str, key: SliceKey, work: Any) -> None:
        desk, state = self._desk, self._desk.state
        label, axis, index = key
        if self._running is not None:
            desk.notify("info", tr("Another propagation is running: wait for it, or press Esc."))
            return
        segment = next((segment for segment in state.labels if segment.name == label), None)
        if state.review or segment is None or segment.locked:
            desk.notify("warning", tr("The label is locked, or you are reviewing without the model."))
            return

        before = Snapshot(desk.canvas, label)

        def done(job: str) -> None:
            prompts, here = self._prompting.on(axis, index, label), self._prompting.known(axis, index, label)
            result = here.result if here is not None else None
            step = Step(key, prompts, prompts, (), result, result)
            self._prompting.history.push(step)
            self._running = Running(job, label, axis, step, before)
            self._poll(text)

        def call(client: Client, cancelled: Any, report: Any) -> str:
            job: str = work(client, cancelled, report)
            if cancelled.is_set():  # nobody else would ever know which job that was
                client.cancel_job(job)
            return job

        def again() -> None:
            if desk.state.case == state.case:
                self._begin(text, key, work)

        def failed(error: Exception) -> bool:
            if isinstance(error, SessionExpired):
                desk.notify("info", tr("The server no longer keeps this mask. Click once more on the slice, then propagate."))
                return True
            return False

        desk.call(KIND, call, done, failed=failed, busy=text, again=again, latest_only=True, lane=KIND)

    def _poll(self, text: str) -> None:
        running = self._running
        if running is None:
            return

        def work(client: Client, cancelled: Any, _report: Any) -> Job:
            return client.job(running.job, running.seen, cancel=cancelled)

        def failed(error: Exception) -> bool:
            if isinstance(error, CaseGone):
                self._end(tr("The server no longer knows this propagation (it was restarted): what it had found is drawn."), "warning")
                return True
            return False

        self._desk.call(KIND, work, lambda job: self._take(job, text), failed=failed, busy=text, again=lambda: self._poll(text), lane=KIND)

    def _take(self, job: Job, text: str) -> None:
        running, desk = self._running, self._desk
        if running is None or running.job != job.id:
            return
        if not self._prompting.history.holds(running.step):  # it was undone: what still comes is not wanted
            self.cancel()
            return
        try:
            for item in job.slices:
                running.seen = max(running.seen, item.number)
                geometry = desk.canvas.geometry()
                if geometry is None:
                    raise FedSCAError(tr("The case was closed."))
                answer = apply_change(np.zeros(geometry.slice_shape(running.axis), bool), item.change_box, item.pixels)
                if self._prompting.on(running.axis, item.index, running.label).empty:  # never over a slice that has prompts of its own
                    key, seen = (running.label, running.axis, item.index), running.before.on(running.axis, item.index)
                    running.step = self._prompting.take_slice(key, answer, item.result, running.step, seen)
        except FedSCAError as error:  # the label was locked meanwhile, say
            self.cancel()
            self._end(error.message, "error")
            return
        desk.update(progress=job.done / job.total if job.total else None)
        self._prompting.look()
        if not job.ended or running.seen < job.done:
            self._poll(text)
        elif job.state == "failed":
            self._end(job.detail or tr("The server could not finish this."), "error")
        else:
            self._end(tr("{count} slices were filled.").format(count=job.done), "info")

    def _end(self, text: str, kind: str) -> None:
        self._running = None
        self._desk.not_busy(KIND)
        self._desk.update(progress=None, busy="")
        self._desk.notify(kind, text)
