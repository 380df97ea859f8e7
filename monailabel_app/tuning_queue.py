"""Tunings that wait, run, and are started by themselves. MONAI Label runs them one after the other, each in a process of its own.

Threads: `_lock` makes one thread at a time decide, so that two labels saved at once do not queue two tunings.
Processes: MONAI Label's background tasks live in the server process only; what the tuning process does is read from the registry.
"""

import threading
from collections.abc import Callable
from typing import Any

from monailabel.utils.async_tasks import utils as background

from sam_adapters.policy import TuningPolicyDecision, tuning_decision
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings

TRAIN = "train"
CANCELLED = "cancelled"
"""Key of a train request that makes the tuning process end at once; see `cancel_waiting`."""


class TuningQueue:
    """Decides when a tuning starts, and asks MONAI Label for it.

    Args:
        start: asks for a tuning; returns at once.
        automatic: whether labels start tunings at all.
    """

    def __init__(self, registry: Registry, settings: SiteSettings, *, start: Callable[[], Any], automatic: bool) -> None:
        self._registry = registry
        self._settings = settings
        self._start = start
        self.automatic = automatic
        self._asked_at = 0
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Tunings that are queued and have not begun."""
        return sum(task["status"] == "SUBMITTED" for task in list(background.tasks(TRAIN)))

    @property
    def running(self) -> bool:
        """Whether this server is running a tuning process now."""
        return bool(background.processes(TRAIN))

    def decide(self, labelled_train_cases: int) -> TuningPolicyDecision:
        """Whether that many labelled training cases are reason for another tuning; starts nothing."""
        if self.waiting:
            return TuningPolicyDecision(False, "A tuning is queued already; it will use this label.")
        last = self._registry.last_tuning()
        # A queued tuning is in the registry only once its process has read the labels: until then, what was asked for counts.
        return tuning_decision(
            labelled_train_cases=labelled_train_cases,
            labelled_at_last_start=max(last.labels if last else 0, self._asked_at),
            threshold=self._settings.tune_after if self.automatic else 0,
            minimum=self._settings.tune_minimum,
            busy=False,
        )

    def consider(self, labelled_train_cases: int) -> TuningPolicyDecision:
        """Queue a tuning if the policy says so; behind one that is running, and never more than one."""
        with self._lock:
            decision = self.decide(labelled_train_cases)
            if decision.start:
                self._asked_at = labelled_train_cases
                self._start()
        return decision

    def cancel_waiting(self) -> int:
        """Make the queued tunings end as soon as they begin; returns how many. (MONAI Label can only stop the one that runs.)"""
        waiting = [task for task in list(background.tasks(TRAIN)) if task["status"] == "SUBMITTED"]
        for task in waiting:
            task["request"][CANCELLED] = True
        return len(waiting)
