"""The tuning that MONAI Label runs, in a process of its own, when enough labels were saved or `POST /train/sam` asks for it.

Processes: MONAI Label starts `python -m monailabel.interfaces.utils.app -m train`, which imports the app anew and calls this task; what it
tells the server goes through the site directory. MONAI Label's own tracking (MLflow) belongs to its BasicTrainTask and plays no part here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from monailabel.interfaces.tasks.train import TrainTask

from monailabel_app.configuration import AppConfiguration
from monailabel_app.site_status import read_progress
from monailabel_app.tuning_queue import CANCELLED

TUNING = "sam"
"""Name of the one train task, like the model that it tunes."""


class TuningTask(TrainTask):  # type: ignore[misc]  # monailabel is not typed
    """Tunes the adapters on the site's labels, then lets the gate decide."""

    def __init__(self, configuration: AppConfiguration) -> None:
        super().__init__("Tunes the adapters on this site's labelled cases; the gate decides whether the result serves")
        self._configuration = configuration

    def stats(self) -> dict[str, Any]:
        """Progress of the running or last tuning, in the names that MONAI Label's clients look for."""
        progress = read_progress(self._configuration.site)
        return {} if progress is None else train_stats(progress)

    def __call__(self, request: Mapping[str, Any], datastore: object) -> dict[str, Any]:
        """Run one tuning. Ends early, with a checkpoint, when the server that started it is gone.

        Raises:
            TuningError: there is nothing to tune on, or a tuning is running already.
        """
        if request.get(CANCELLED):
            return {"status": "stopped", "reason": "Cancelled before it began."}
        from sam_adapters.background_priority import yield_to_others
        from sam_adapters.local_tuning import run_local_tuning

        yield_to_others()  # MONAI Label calls this in a process of its own: clicks that the server answers meanwhile come first
        outcome = run_local_tuning(self._configuration.site, self._configuration.settings, stop=parent_is_gone())
        return outcome.to_dict()


def parent_is_gone() -> Callable[[], bool]:
    """A question to ask now and then: whether the process that started this one has ended since."""
    parent = os.getppid()
    return lambda: os.getppid() != parent


def train_stats(progress: Mapping[str, Any]) -> dict[str, Any]:
    """Progress as in work/tuning.json, with the names of MONAI Label's train_stats added: epoch, total_epochs, best_metric."""
    return {
        **progress,
        "epoch": progress.get("step", 0),
        "total_epochs": progress.get("steps", 0),
        "best_metric": progress.get("dice") or 0,
    }
