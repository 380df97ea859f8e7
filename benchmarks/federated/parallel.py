"""Rounds of several trials at once, each computed in a process of its own.

The parent decides what is computed next and alone writes the result file. A worker holds one network; it gets one round of one trial at a
time and leaves it in the trial's folder. The rounds of a trial follow each other. Trials of different seeds run side by side where there
are any, because they share no tuning; what two trials of one seed share is computed by whoever comes first, while the other waits for it
(`Workbench`). A worker ends itself when its parent is gone.
"""

import logging
import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from benchmarks.federated.trial import Trial
from benchmarks.federated.workbench import Workbench
from sam_adapters.errors import SettingError

MOST_JOBS = 4
"""Processes at most where nobody asks for more: each needs 1 to 2 GiB."""

Finished = tuple[Trial, int, dict[str, Any]]
"""A trial, the number of one of its rounds, and the round's unit."""

_workbench: list[Workbench] = []
"""A worker's own."""


def usual_jobs(threads: int) -> int:
    """How many rounds are computed at once where nobody says: as many as the processor has cores for; one on a GPU.

    Args:
        threads: CPU threads of each; 0 for torch's default, which is all of them.
    """
    if torch.cuda.is_available() or threads == 0:
        return 1
    return max(1, min(MOST_JOBS, len(os.sched_getaffinity(0)) // threads))


def one_by_one(trials: Sequence[Trial], bench: Workbench, begins: Callable[[Trial, int], None]) -> Iterator[Finished]:
    """Every missing round, in order, in this process; `begins` is called before each."""
    for trial in trials:
        for number in trial.missing():
            begins(trial, number)
            yield trial, number, trial.run(number, bench)


def side_by_side(trials: Sequence[Trial], memo: Path, *, jobs: int, threads: int) -> Iterator[Finished]:
    """Every missing round, as `jobs` processes finish them.

    Args:
        memo: the workbench's folder, shared by all.
        threads: CPU threads of each process; 0 for torch's default.

    Raises:
        SettingError: a process died.
        FedscaError: what a round raises, once the rounds beside it are done.
    """
    todo = {trial: trial.missing() for trial in trials}
    running: dict[Future[dict[str, Any]], tuple[Trial, int]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(memo, threads)) as pool:
        try:
            while any(todo.values()) or running:
                while len(running) < jobs and (trial := next_trial(todo, [one for one, _ in running.values()])):
                    number = todo[trial].pop(0)
                    running[pool.submit(_run, trial, number)] = trial, number
                # no deadline: a round takes as long as it takes, and a process that dies ends the wait
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield (*running.pop(future), future.result())
        except BrokenProcessPool as error:
            raise SettingError("A process of the benchmark died, perhaps of too little memory: run it again with fewer --jobs.") from error


def next_trial(todo: dict[Trial, list[int]], running: Sequence[Trial]) -> Trial | None:
    """Whose next round to compute: of the seed that fewest processes work on the first trial; None if all must wait."""
    busy = Counter(trial.seed for trial in running)
    ready = [trial for trial, missing in todo.items() if missing and trial not in running]
    return min(ready, key=lambda trial: busy[trial.seed], default=None)


def _prepare(memo: Path, threads: int) -> None:
    logging.getLogger("flwr").setLevel(logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if threads:
        torch.set_num_threads(threads)
    _workbench.append(Workbench(memo))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(trial: Trial, number: int) -> dict[str, Any]:
    return trial.run(number, _workbench[0])
