"""When a tuning is queued: on a real registry, with MONAI Label's list of background tasks played by the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from monailabel.utils.async_tasks import utils as background

from monailabel_app.tuning_queue import TuningQueue
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory


class Desk:
    """A queue whose tunings are MONAI Label task entries without a process."""

    def __init__(self, root: Path, *, automatic: bool = True) -> None:
        self.registry = Registry(SiteDirectory.open(root))
        settings = SiteSettings(tune_after=3, tune_minimum=2)
        self.queue = TuningQueue(self.registry, settings, start=self.start, automatic=automatic)
        self.tasks: list[dict[str, Any]] = []
        background.background_tasks["train"] = self.tasks

    def start(self) -> None:
        self.tasks.append({"status": "SUBMITTED", "request": {"model": "sam"}})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield Desk(tmp_path)
    background.background_tasks.clear()


def test_enough_labels_queue_one_tuning(desk: Desk) -> None:
    assert [desk.queue.consider(count).start for count in (1, 2, 3, 4, 6)] == [False, False, True, False, False]
    assert len(desk.tasks) == 1


def test_labels_saved_during_a_tuning_queue_the_next_one_behind_it(desk: Desk) -> None:
    desk.queue.consider(3)
    desk.tasks[0]["status"] = "RUNNING"  # its process has not told the registry yet
    assert [desk.queue.consider(count).start for count in (4, 5, 6, 7, 9)] == [False, False, True, False, False]
    assert desk.queue.waiting == 1


def test_what_the_registry_knows_counts_after_a_restart(desk: Desk) -> None:
    number = desk.registry.start_tuning(labels=5, steps=10)
    desk.registry.finish_tuning(number, "finished")
    assert [desk.queue.consider(count).start for count in (5, 7, 8)] == [False, False, True]


def test_switched_off_it_starts_nothing_and_says_so(tmp_path: Path) -> None:
    decision = Desk(tmp_path, automatic=False).queue.consider(50)
    assert not decision.start
    assert "switched off" in decision.reason


def test_waiting_tunings_can_be_cancelled(desk: Desk) -> None:
    desk.queue.consider(3)
    assert desk.queue.cancel_waiting() == 1
    assert desk.tasks[0]["request"]["cancelled"] is True
