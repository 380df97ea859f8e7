"""Undo and redo over prompts and masks together. Pure: what to write comes out, nothing is written here.

Undoing puts back only the pixels that are still as the step left them: what a person painted over them since then stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, List, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from FedSCALib.canvas import Crop
from FedSCALib.prompts import PromptSet

MOST_STEPS = 200
MOST_BYTES = 256 * 2**20

SliceKey = Tuple[str, str, int]
"""label, axis, index"""


@dataclass(frozen=True, eq=False)
class Step:
    """One action: a slice's prompts before and after it, what it changed in the segments, the server's result it went from and to.

    `painted`: a person's own stroke, which is no answer of the server.
    """

    key: SliceKey
    prompts_before: PromptSet
    prompts_after: PromptSet
    crops: Tuple[Crop, ...] = ()
    result_before: Optional[str] = None
    result_after: Optional[str] = None
    painted: bool = False

    @property
    def nbytes(self) -> int:
        return sum(crop.before.nbytes + crop.after.nbytes for crop in self.crops)


@dataclass
class History:
    """The steps of one case, bounded in number and bytes; the oldest are forgotten first."""

    done: List[Step] = field(default_factory=list)
    undone: List[Step] = field(default_factory=list)

    @property
    def can_undo(self) -> bool:
        return bool(self.done)

    @property
    def can_redo(self) -> bool:
        return bool(self.undone)

    @property
    def newest(self) -> Optional[Step]:
        """What `undo` would take back."""
        return self.done[-1] if self.done else None

    @property
    def next(self) -> Optional[Step]:
        """What `redo` would do again."""
        return self.undone[-1] if self.undone else None

    def push(self, step: Step) -> None:
        """A new action; what was undone before it can no longer be redone."""
        self.undone.clear()
        self.done.append(step)
        total = sum(item.nbytes for item in self.done)
        while len(self.done) > 1 and (len(self.done) > MOST_STEPS or total > MOST_BYTES):
            total -= self.done.pop(0).nbytes

    def extend(self, step: Step, crops: Tuple[Crop, ...], result: Optional[str]) -> Step:
        """The answer to an action comes later: it belongs to that action's step. A step that is gone (undone, forgotten) takes nothing.

        Returns:
            The step as it is now.
        """
        grown = replace(step, crops=(*step.crops, *crops), result_after=result or step.result_after)
        self.done = [grown if item is step else item for item in self.done]
        return grown

    def holds(self, step: Step) -> bool:
        """Whether a step is done (and not undone or forgotten)."""
        return any(item is step for item in self.done)

    def last_prompt_of(self, key: SliceKey) -> Optional[Step]:
        """The newest step about a slice that is not a stroke."""
        return next((step for step in reversed(self.done) if step.key == key and not step.painted), None)

    def crops_after(self, step: Optional[Step]) -> List[Crop]:
        """What the steps newer than this one have changed. Of a step that is not held, or None: nothing."""
        place = next((number for number, item in enumerate(self.done) if item is step), len(self.done))
        return [crop for later in self.done[place + 1 :] for crop in later.crops]

    def undo(self) -> Optional[Step]:
        """The step to take back, or None."""
        if not self.done:
            return None
        step = self.done.pop()
        self.undone.append(step)
        return step

    def redo(self) -> Optional[Step]:
        """The step to do again, or None."""
        if not self.undone:
            return None
        step = self.undone.pop()
        self.done.append(step)
        return step

    def clear(self) -> None:
        self.done.clear()
        self.undone.clear()


def to_undo(crop: Crop, now: NDArray[Any]) -> Tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels to put back, and where, given what the box holds now: only where the step's own change is still there."""
    return crop.before, np.asarray((crop.before != crop.after) & (now == crop.after))


def to_redo(crop: Crop, now: NDArray[Any]) -> Tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The same forwards."""
    return crop.after, np.asarray((crop.before != crop.after) & (now == crop.before))
