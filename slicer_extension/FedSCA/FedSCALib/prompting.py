"""Prompts in, masks out: one request in flight a slice, the newest prompts win, undo and redo over both. Main thread only."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import Crop, Voxel
from FedSCALib.client import Client, SegmentRequest
from FedSCALib.composing import changed_on, compose, difference, rebase
from FedSCALib.desk import Desk
from FedSCALib.errors import FedSCAError, SessionExpired
from FedSCALib.history import History, SliceKey, Step, to_redo, to_undo
from FedSCALib.jobs import Ticket
from FedSCALib.kept_prompts import fits, from_json, to_json
from FedSCALib.packets import Segmented
from FedSCALib.prompts import Point, PromptSet, pixel_of
from FedSCALib.state import Signal
from FedSCALib.translate import tr
from FedSCALib.wire import Box, apply_change, bounds, pack

MOST_MASKS = 400
NONE = PromptSet()


@dataclass
class SliceWork:
    """One label on one slice while it is prompted.

    Attributes:
        drawn: what the slice held before the first prompt, (rows, columns).
        answer: the model's newest mask; `result` is its id on the server.
        fingerprint: of the segment after our last write: another one means that a person edited it.
        asked: the newest prompts have been sent, or are answered.
        seen: what the slice held at the oldest prompt that has no answer yet, or None: where the slice differs from it when an answer
            comes, a person has edited.
    """

    prompts: PromptSet = NONE
    drawn: Optional[NDArray[np.bool_]] = None
    answer: Optional[NDArray[np.bool_]] = None
    result: Optional[str] = None
    seen: Optional[NDArray[np.bool_]] = None
    fingerprint: bytes = b""
    mode: str = "replace"
    asked: bool = True
    ticket: Optional[Ticket] = None
    step: Optional[Step] = None
    since: float = field(default_factory=time.monotonic)


class Prompting:
    """The prompts and answers of the open case.

    Attributes:
        drew: emitted after prompts or masks were changed.
        version: the adapter version that gave the last answer, or "".
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.drew: Signal[None] = Signal()
        self.history = History()
        self.version = ""
        self._stroke: Optional[Step] = None
        self._work: Dict[SliceKey, SliceWork] = {}
        self._masks: "OrderedDict[str, Tuple[NDArray[np.uint8], Tuple[int, int]]]" = OrderedDict()

    # Prompts

    def on(self, axis: str, index: int, label: Optional[str] = None) -> PromptSet:
        """The prompts of a label (default: the chosen one) on a slice."""
        work = self._work.get((label or self._desk.state.label, axis, index))
        return work.prompts if work is not None else NONE

    def change(self, axis: str, index: int, prompts: PromptSet) -> None:
        """The chosen label's prompts on a slice are these now: remember the step, and ask."""
        desk = self._desk
        if not self._may_prompt():
            return
        key = (desk.state.label, axis, index)
        work = self._work.get(key)
        if work is None or (work.prompts.empty and work.result is None):
            work = self._work[key] = SliceWork(drawn=desk.canvas.slice_mask(*key), mode=desk.state.mode)
        work.step = Step(key, work.prompts, prompts, (), work.result, work.result)
        work.prompts, work.asked, work.since = prompts, False, desk.clock()
        self.history.push(work.step)
        if prompts.empty:
            self._clear(key, work)
        else:
            self._ask(key)
        self._drew()

    def add_point(self, ijk: Voxel, axis: str, positive: bool) -> None:
        """A click. One outside of the image says so, and asks nothing."""
        desk = self._desk
        geometry = desk.canvas.geometry()
        if geometry is None or not geometry.contains(ijk):
            desk.notify("warning", tr("That point lies outside of the image."))
            return
        index = pixel_of(axis, ijk)[0]
        self.change(axis, index, self.on(axis, index).with_point(Point(ijk, positive)))

    def reset(self, axis: str, index: int) -> None:
        """Take all prompts of a slice away, and their mask with them: it is as it was before the first."""
        if not self.on(axis, index).empty:
            self.change(axis, index, NONE)

    # A person's own strokes

    def paint(self, axis: str, index: int, box: Box, mask: NDArray[np.bool_], *, erase: bool, goes_on: bool) -> None:
        """Paint or erase pixels of the chosen label; a whole stroke is one step of the history. Says so where that is not possible."""
        desk = self._desk
        segment = desk.state.segment
        if desk.state.case is None or segment is None:
            desk.notify("info", tr("Open a case first.") if desk.state.case is None else tr("Choose or add a label first."))
            return
        if self._is_locked(segment.name):
            return
        key = (segment.name, axis, index)
        crop = desk.canvas.write(*key, box, mask, "subtract" if erase else "add")
        last = self._stroke if goes_on else None
        if last is not None and last.key == key and self.history.newest is last:
            self._stroke = self.history.extend(last, (crop,), None)
        elif bool((crop.before != crop.after).any()):
            prompts, work = self.on(axis, index), self._work.get(key)
            result = work.result if work is not None else None
            self._stroke = Step(key, prompts, prompts, (crop,), result, result, painted=True)
            self.history.push(self._stroke)
        elif not goes_on:
            self._stroke = None
        self._drew()

    # Undo

    def undo(self) -> None:
        """Take the last action back, prompts and mask; one on a locked label stays, and says so."""
        if self.history.newest is None or self._is_locked(self.history.newest.key[0]):
            return
        step = self.history.undo()
        if step is None:
            return
        if step.painted:
            self._repaint(step, forwards=False)
            return
        self._settle(step)
        for crop in reversed(step.crops):
            self._put(crop, forwards=False)
        self._forget_others(step)
        self._restore(step.key, step.prompts_before, step.result_before)
        before = self.history.last_prompt_of(step.key)
        if before is not None and not before.crops and not step.prompts_before.empty:
            self._work[step.key].step = before  # it was never answered: newer prompts had overtaken it
            self._work[step.key].asked = False
            self._ask(step.key)
        elif step.key in self._work:
            self._work[step.key].seen = None
        self._drew()

    def redo(self) -> None:
        """Do what was taken back again, unless its label is locked by now."""
        if self.history.next is None or self._is_locked(self.history.next.key[0]):
            return
        step = self.history.redo()
        if step is None:
            return
        if step.painted:
            self._repaint(step, forwards=True)
            return
        self._settle(step)
        for crop in step.crops:
            self._put(crop, forwards=True)
        self._restore(step.key, step.prompts_after, step.result_after)
        if not step.crops and not step.prompts_after.empty:
            self._work[step.key].step = step
            self._work[step.key].asked = False
            self._ask(step.key)
        self._drew()

    # Results of others (propagation)

    def take_slice(self, key: SliceKey, answer: NDArray[np.bool_], result: str, step: Step, seen: NDArray[np.bool_]) -> Step:
        """A slice that a job has found: written like an answer, part of the job's step. `seen`: what the slice held when the job began."""
        work = SliceWork(drawn=self._desk.canvas.slice_mask(*key), mode=self._desk.state.mode, seen=seen)
        self._work[key] = work
        grown = self.history.extend(step, self._write(key, work, answer, result, step), None)
        self._drew()
        return grown

    def known(self, axis: str, index: int, label: Optional[str] = None) -> Optional[SliceWork]:
        """The work of a label (default: the chosen one) on a slice, if it has an answer."""
        work = self._work.get((label or self._desk.state.label, axis, index))
        return work if work is not None and work.result is not None else None

    def edited(self, key: SliceKey) -> Optional[Dict[str, Any]]:
        """The slice's mask as a person left it, as the server takes it; None where nobody edited it since the last answer."""
        work = self._work.get(key)
        if work is None or work.result is None or self._desk.canvas.fingerprint(*key) == work.fingerprint:
            return None
        return self._as_mask(self._desk.canvas.slice_mask(*key))

    # All of it

    def to_json(self) -> List[Dict[str, Any]]:
        """All prompts of the case, for a draft."""
        return [to_json(key, work.prompts) for key, work in self._work.items() if not work.prompts.empty]

    def take(self, kept: List[Any]) -> None:
        """The prompts of a draft, answered already by the masks that came with it. What cannot be read, or lies elsewhere, is left out."""
        geometry = self._desk.canvas.geometry()
        names = {segment.name for segment in self._desk.canvas.segments()}
        for key, prompts in filter(None, map(from_json, kept)):
            if geometry is not None and key[0] in names and fits(geometry, key, prompts):
                work = SliceWork(prompts, drawn=self._desk.canvas.slice_mask(*key), mode=self._desk.state.mode)
                self._work[key] = work
        self._tell()

    def cancel(self) -> int:
        """End what is being asked, and what would be asked again by itself; prompts stay. Returns how many requests that were."""
        waiting = [key for key, work in self._work.items() if not work.asked or work.ticket is not None]
        for key in waiting:
            self._drop(key)
            self._work[key].asked, self._work[key].seen = True, None
        return len(waiting)

    def let_go(self) -> None:
        """The server is let go: what has no answer is asked for when there is one again."""
        for key, work in self._work.items():
            if work.ticket is not None:
                self._drop(key)
                work.asked = False

    def resend(self) -> None:
        """The connection is back: ask for everything that has no answer yet."""
        for key, work in list(self._work.items()):
            if not work.asked and work.ticket is None and not work.prompts.empty:
                self._ask(key)

    def clear(self) -> None:
        """Another case."""
        self.cancel()
        self._work.clear()
        self._masks.clear()
        self.history.clear()
        self.version = ""
        self._tell()

    # Inside

    def _may_prompt(self) -> bool:
        desk = self._desk
        segment = desk.state.segment
        if desk.state.case is None:
            desk.notify("info", tr("Open a case first."))
        elif desk.state.review:
            desk.notify("info", tr("You are reviewing without the model. Leave review to place prompts."))
        elif segment is None:
            desk.notify("info", tr("Choose or add a label first."))
        else:
            return not self._is_locked(segment.name)
        return False

    def _is_locked(self, label: str) -> bool:
        """Whether a label may not be changed; says so then."""
        locked = any(segment.name == label and segment.locked for segment in self._desk.canvas.segments())
        if locked:
            self._desk.notify("warning", tr("“{name}” is locked. Unlock it, or choose another label.").format(name=label))
        return locked

    def _ask(self, key: SliceKey) -> None:
        desk, work = self._desk, self._work.get(key)
        if work is None or work.ticket is not None or work.asked or desk.state.case is None or work.prompts.empty:
            return
        try:
            if work.seen is None:
                work.seen = desk.canvas.slice_mask(*key)
            request = self._request(key, work, desk.state.case)
        except FedSCAError as error:  # a person has removed the label, say: there is nothing to ask for
            work.asked = True
            desk.failure(error)
            return
        if desk.client is None:
            desk.notify("warning", tr("Connect to your hospital's server first."))
            return
        step, began = work.step, work.since
        work.asked = True

        def done(reply: Segmented) -> None:
            work.ticket = None
            if self._work.get(key) is work:
                self._answered(key, work, request, reply, step)
                desk.update(round_trip=desk.clock() - began)
                self._ask(key)  # newer prompts have come meanwhile

        def failed(error: Exception) -> bool:
            work.ticket = None
            if self._work.get(key) is not work:
                return True
            work.asked = False
            if isinstance(error, SessionExpired):
                work.result = None
                self._ask(key)
                return True
            return False

        def call(client: Client, cancelled: Any, _report: Any) -> Segmented:
            return client.segment(request, cancelled)

        work.ticket = desk.call(_kind(key), call, done, failed=failed, busy=tr("Segmenting"), again=self.resend)

    def _request(self, key: SliceKey, work: SliceWork, case: str) -> SegmentRequest:
        label, axis, index = key
        mask = None
        if (
            work.result is not None
            and self._desk.canvas.fingerprint(*key) != work.fingerprint
            and work.drawn is not None
            and work.answer is not None
        ):
            now = self._desk.canvas.slice_mask(*key)
            work.drawn = rebase(work.mode, work.drawn, work.answer, now)
            mask = self._as_mask(now) if work.mode == "replace" else None
        return SegmentRequest(case, axis, index, label, work.prompts, work.result, mask)

    def _answered(self, key: SliceKey, work: SliceWork, request: SegmentRequest, reply: Segmented, step: Optional[Step]) -> None:
        desk = self._desk
        try:
            if reply.against is None:
                start = np.zeros(reply.size, bool)
            else:
                known = self._mask(reply.against)
                if known is None:
                    raise SessionExpired(404, reply.against)
                start = known
            answer = apply_change(start, reply.change_box, reply.pixels)
            crops = self._write(key, work, answer, reply.result, step)
        except SessionExpired:
            work.result, work.asked = None, False
            return
        except FedSCAError as error:
            desk.failure(error)
            return
        self.version = reply.version
        if step is not None:
            grown = self.history.extend(step, crops, reply.result)
            if work.step is step:
                work.step = grown
        if desk.state.notice is not None and desk.state.notice.kind == "error":
            desk.update(notice=None)
        self._drew()

    def _write(self, key: SliceKey, work: SliceWork, answer: NDArray[np.bool_], result: str, step: Optional[Step]) -> Tuple[Crop, ...]:
        """Draw an answer to `step`. What was changed since that step, in whatever label and by whatever tool, stays: the answer knew
        nothing of it, and steps that share no pixel are undone exactly whichever came first."""
        canvas = self._desk.canvas
        now = canvas.slice_mask(*key)
        if now.shape != answer.shape:
            raise FedSCAError(
                tr("The server's mask has {rows} x {columns} pixels, the slice another size.").format(
                    rows=answer.shape[0], columns=answer.shape[1]
                )
            )
        drawn = work.drawn if work.drawn is not None else now
        wanted = compose(work.mode, drawn, answer)
        theirs = changed_on(self.history.crops_after(step), key[1], key[2], answer.shape)
        if work.seen is not None:
            theirs |= now != work.seen  # Slicer's Segment Editor draws without telling the history
        changed = difference(now, np.where(theirs, now, wanted))
        crops: List[Crop] = []
        if changed is not None:
            box, pixels = changed
            with self._drawing():
                crops.append(canvas.write(*key, box, pixels, "replace"))
        work.answer, work.result = answer, result
        if work.asked:  # else newer prompts wait, and what was painted since then stays in their answer too
            work.seen = None
        edited = bool((theirs & (now != wanted)).any())
        work.fingerprint = b"" if edited else canvas.fingerprint(*key)  # the next request tells the server of their edit
        self._keep(result, answer)
        return tuple(crops)

    def _clear(self, key: SliceKey, work: SliceWork) -> None:
        """The last prompt is gone: the slice holds what was drawn before the first, with a person's own edits."""
        self._drop(key)
        work.asked = True
        if work.answer is None or work.drawn is None or work.step is None:
            self._work.pop(key, None)
            return
        now = self._desk.canvas.slice_mask(*key)
        theirs = now != compose(work.mode, work.drawn, work.answer)  # pixels that a person changed
        changed = difference(now, np.where(theirs, now, work.drawn))
        if changed is not None:
            with self._drawing():
                crop = self._desk.canvas.write(*key, changed[0], changed[1], "replace")
            self.history.extend(work.step, (crop,), None)
        self._work.pop(key, None)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        """What is changed in here is no person's edit to the answers that are still to come, here and on slices that cross this one."""
        canvas = self._desk.canvas
        names = {segment.name for segment in canvas.segments()}
        waiting = [
            (key, work, work.seen, canvas.slice_mask(*key))
            for key, work in self._work.items()
            if work.seen is not None and key[0] in names  # a person may have removed one
        ]
        yield
        for key, work, seen, before in waiting:
            now = canvas.slice_mask(*key)
            work.seen = np.where(now != before, now, seen)

    def _settle(self, step: Step) -> None:
        """An answer on its way to a step that is undone or redone would come to the wrong place."""
        self._drop(step.key)

    def _drop(self, key: SliceKey) -> None:
        work = self._work.get(key)
        if work is not None and work.ticket is not None:
            self._desk.jobs.drop(work.ticket)
            work.ticket = None
            self._desk.not_busy(_kind(key))

    def _forget_others(self, step: Step) -> None:
        """What a propagation found on other slices is gone with it: the next click there must not go on from it."""
        for key in {(crop.label, crop.axis, crop.index) for crop in step.crops} - {step.key}:
            work = self._work.get(key)
            if work is not None and work.prompts.empty:
                del self._work[key]

    def _repaint(self, step: Step, *, forwards: bool) -> None:
        """Take a stroke back, or paint it again. What the server knows of the slice stays as it is."""
        for crop in step.crops if forwards else reversed(step.crops):
            self._put(crop, forwards=forwards, ours=False)
        self._drew()

    def _put(self, crop: Crop, *, forwards: bool, ours: bool = True) -> None:
        canvas = self._desk.canvas
        x0, y0, x1, y1 = crop.box
        now = canvas.slice_mask(crop.label, crop.axis, crop.index)[y0 : y1 + 1, x0 : x1 + 1]
        pixels, where = (to_redo if forwards else to_undo)(crop, now)
        if where.any():
            with self._drawing():
                canvas.put(crop.label, crop.axis, crop.index, crop.box, pixels, where)
        key = (crop.label, crop.axis, crop.index)
        if ours and key in self._work:
            self._work[key].fingerprint = canvas.fingerprint(*key)

    def _restore(self, key: SliceKey, prompts: PromptSet, result: Optional[str]) -> None:
        answer = self._mask(result) if result is not None else None
        work = self._work.get(key)
        if prompts.empty and answer is None:
            self._work.pop(key, None)
            return
        if work is None:
            work = self._work[key] = SliceWork(mode=self._desk.state.mode)
        if work.drawn is None or answer is None:
            now = self._desk.canvas.slice_mask(*key)
            work.drawn = now if answer is None else rebase(work.mode, np.zeros_like(now), answer, now)
        work.prompts, work.answer, work.result, work.asked = prompts, answer, result if answer is not None else None, True
        work.step = None
        work.fingerprint = self._desk.canvas.fingerprint(*key)

    def _as_mask(self, mask: NDArray[np.bool_]) -> Dict[str, Any]:
        box: Box = bounds(mask) or (0, 0, 0, 0)
        x0, y0, x1, y1 = box
        return {"box": list(box), "data": pack(mask[y0 : y1 + 1, x0 : x1 + 1])}

    def _keep(self, result: str, answer: NDArray[np.bool_]) -> None:
        self._masks[result] = (np.packbits(answer), (answer.shape[0], answer.shape[1]))
        self._masks.move_to_end(result)
        while len(self._masks) > MOST_MASKS:
            self._masks.popitem(last=False)

    def _mask(self, result: str) -> Optional[NDArray[np.bool_]]:
        kept = self._masks.get(result)
        if kept is None:
            return None
        bits, (rows, columns) = kept
        return np.asarray(np.unpackbits(bits, count=rows * columns).reshape(rows, columns).astype(bool))

    def _tell(self, **values: Any) -> None:
        state = self._desk.state
        self._desk.update(
            revision=state.revision + 1,
            can_undo=self.history.can_undo,
            can_redo=self.history.can_redo,
            can_propagate=self.known(state.axis, state.index) is not None,
            **values,
        )

    def _drew(self) -> None:
        self._tell(unsaved=True)
        self.drew.emit(None)

    def look(self) -> None:
        """Another slice or label is in view."""
        self._tell()


def _kind(key: SliceKey) -> str:
    return "segment " + " ".join(map(str, key))
