"""Rounds side by side: the same figures as one after the other, nothing computed twice, and no process left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.federated import command, parallel
from benchmarks.federated.configuration import PRESETS
from benchmarks.federated.parallel import next_trial, side_by_side, usual_jobs
from benchmarks.federated.trial import Trial
from benchmarks.federated.workbench import Workbench
from sam_adapters.errors import SettingError
from tests.benchmarks.test_federated_run import arguments, make_hospital
from tests.fed_backend.schedule.test_processes import gone
from tests.monailabel_app.server_process import wait_until

DEADLINE = 120.0


def trial(folder: Path, seed: int, method: str = "local") -> Trial:
    return Trial(folder / f"{method}-{seed}", method, seed, PRESETS["tiny"], [])


class DyingTrial(Trial):
    """Ends its process."""

    def run(self, number: int, bench: Workbench) -> dict[str, Any]:
        os._exit(9)


class RefusedTrial(Trial):
    """Finds an error."""

    def run(self, number: int, bench: Workbench) -> dict[str, Any]:
        raise SettingError("This is refused.")


class EndlessTrial(Trial):
    """Says which process it runs in, and stays."""

    def run(self, number: int, bench: Workbench) -> dict[str, Any]:
        self.folder.with_suffix(".pid").write_text(str(os.getpid()), encoding="utf-8")
        threading.Event().wait(DEADLINE)
        return {}


def test_seeds_first_then_trials_of_a_seed(tmp_path: Path) -> None:
    one, other, late = trial(tmp_path, 0), trial(tmp_path, 0, "fedsca"), trial(tmp_path, 1)
    todo = {one: [1, 2], other: [1, 2], late: [1, 2]}
    assert next_trial(todo, []) is one
    assert next_trial(todo, [one]) is late
    assert next_trial(todo, [one, late]) is other
    assert next_trial({one: [2], other: [], late: [1]}, [one, late]) is None, "the rounds of a trial follow each other"
    assert next_trial({one: [], other: [2], late: []}, [one]) is other


def test_one_round_for_each_core_unless_a_gpu_or_torch_takes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(3)))
    monkeypatch.setattr(parallel.torch.cuda, "is_available", lambda: False)
    assert [usual_jobs(threads) for threads in (0, 1, 2, 8)] == [1, 3, 1, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert usual_jobs(1) == parallel.MOST_JOBS
    monkeypatch.setattr(parallel.torch.cuda, "is_available", lambda: True)
    assert usual_jobs(1) == 1


@pytest.mark.slow
def test_the_figures_are_those_of_one_process(tmp_path: Path) -> None:
    for number, name in enumerate("AB"):
        make_hospital(tmp_path / "hospitals" / name, 100 * number)
    wanted = ("--methods", "local,fedsca", "--rounds", "1", "--seeds", "0", "--jobs")
    found = {}
    for jobs in ("1", "2"):
        out = tmp_path / f"jobs-{jobs}.json"
        command.main([*arguments(tmp_path / "hospitals", out), *wanted, jobs])
        result = json.loads(out.read_text(encoding="utf-8"))
        assert result["complete"]
        found[jobs] = {(unit["seed"], unit["method"]): (unit["scores"], unit["weights"]) for unit in result["units"]}
    assert len(found["1"]) == 2
    assert found["2"] == found["1"]


def test_what_another_process_computes_is_waited_for(tmp_path: Path) -> None:
    """Two holders of one lock: threads, because `flock` tells open files apart, not processes."""
    bench, kept = Workbench(tmp_path), tmp_path / "result"
    computes, go_on, second = threading.Event(), threading.Event(), []

    def first() -> None:
        with bench._computed_once(kept) as missing:
            assert missing
            computes.set()
            assert go_on.wait(DEADLINE)
            kept.mkdir()

    def other() -> None:
        with bench._computed_once(kept) as missing:
            second.append(missing)

    threads = [threading.Thread(target=first), threading.Thread(target=other)]
    threads[0].start()
    assert computes.wait(DEADLINE)
    threads[1].start()
    assert not second
    go_on.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert second == [False]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "message"), [(DyingTrial, "fewer --jobs"), (RefusedTrial, "This is refused")])
def test_a_process_that_dies_and_an_error_end_the_run(tmp_path: Path, kind: type[Trial], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        list(side_by_side([kind(tmp_path / "a", "local", 0, PRESETS["tiny"], [])], tmp_path / "memo", jobs=1, threads=1))


@pytest.mark.slow
def test_no_process_outlives_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.benchmarks.test_parallel import *\n"
        "home = Path(sys.argv[1])\n"
        "list(side_by_side([EndlessTrial(home / 'c', 'local', 0, PRESETS['tiny'], [])], home / 'memo', jobs=1, threads=1))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        told = tmp_path / "c.pid"
        worker = int(wait_until(lambda: told.exists() and told.read_text(encoding="utf-8"), DEADLINE, what="the worker"))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(DEADLINE)
    wait_until(lambda: gone(worker), DEADLINE, what="the worker's end")
