"""One local tuning of a site from beginning to end: read the labels, tune, add the version, let the gate decide.

Processes: one tuning at a time per site, under an flock on <site>/work/tuning.lock, which the kernel releases when its holder dies.
Everybody may read <site>/work/tuning.json (progress) at any time: it is replaced atomically, at most `PROGRESS_HERTZ` times a second.
A tuning that is killed leaves a checkpoint; the next one goes on from it if labels, settings and starting version are still the same.
Threads: one.
"""

import fcntl
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sam_adapters import atomic
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.case_loading import SkippedCase
from sam_adapters.cases import LabelledCase, labelled_cases, split_cases
from sam_adapters.errors import TuningError
from sam_adapters.gate import run_gate
from sam_adapters.gate_rule import GateDecision
from sam_adapters.loading import load_adapted
from sam_adapters.provenance import Provenance, utc_now
from sam_adapters.registry import Registry, Version, id_or_base
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.tuning import TuningProgress, TuningResult, TuningSettings, tune

logger = logging.getLogger(__name__)

PROGRESS_HERTZ = 2.0
Status = Literal["running", "finished", "stopped", "failed"]
Stage = Literal["reading labels", "tuning", "gate", "done"]
_LIBRARIES = ("torch", "transformers", "peft", "numpy", "SimpleITK", "fedsca-label")


@dataclass
class Progress:
    """What <site>/work/tuning.json holds; every value fits JSON.

    Attributes:
        status: `running`, or how the last tuning ended.
        stage: what it is doing.
        step: optimiser steps done, of `steps`.
        loss: mean loss of the last step.
        seconds_left: estimate for the optimiser steps left.
        gate_done: case scorings done by the gate, of `gate_cases`.
        labels: labelled training cases.
        skipped: case -> why it could not be used.
        version: the version it made.
        verdict: the gate's.
        dice: the version's mean Dice on the validation cases.
        reason: the gate's reason, or what went wrong.
        pid: the process.
        started, updated: UTC, ISO 8601.
    """

    status: Status = "running"
    stage: Stage = "reading labels"
    step: int = 0
    steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None
    gate_done: int = 0
    gate_cases: int = 0
    labels: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    version: str | None = None
    verdict: str | None = None
    dice: float | None = None
    reason: str | None = None
    pid: int = field(default_factory=os.getpid)
    started: str = field(default_factory=lambda: utc_now().isoformat())
    updated: str = ""


@dataclass(frozen=True)
class TuningOutcome:
    """How a local tuning ended.

    Attributes:
        status: `finished`, or `stopped` (a checkpoint is kept, and nothing else has changed).
        version: the version it made; None when it was stopped.
        decision: the gate's; None when it was stopped.
        skipped: cases that could not be used, with reasons.
    """

    status: Literal["finished", "stopped"]
    version: Version | None
    decision: GateDecision | None
    skipped: tuple[SkippedCase, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary."""
        return {
            "status": self.status,
            "version": self.version.id if self.version else None,
            "verdict": self.decision.verdict if self.decision else None,
            "reason": self.decision.reason if self.decision else None,
            "figures": dict(self.decision.figures) if self.decision else {},
            "skipped": {one.case: one.reason for one in self.skipped},
        }


def run_local_tuning(
    site: SiteDirectory,
    settings: SiteSettings,
    *,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TuningOutcome:
    """Tune on the site's labelled training cases, from the version that is learnt from (or the base), and let the gate decide.

    The gate compares with what is active when it runs, be that still the version that was started from or not.

    Args:
        progress: called after each step and scored case, besides the progress file.
        stop: asked before each optimiser step. The gate, once begun, is gone through with.

    Raises:
        TuningError: another tuning is running, there is nothing to tune on, or the loss is no longer finite.
        FedscaError: the base, the version that it starts from, the registry or a setting cannot be used.
    """
    with _only_tuning(site), Registry(site) as registry:
        report = _Report(site.tuning_progress_file, progress)
        try:
            outcome = _tune_and_decide(site, settings, registry, report, stop)
        except BaseException as error:
            report.finish("failed", str(error) or type(error).__name__)
            raise
        report.finish(outcome.status, outcome.decision.reason if outcome.decision else "Stopped; the next tuning goes on from here.")
        return outcome


def _tune_and_decide(
    site: SiteDirectory, settings: SiteSettings, registry: Registry, report: "_Report", stop: Callable[[], bool] | None
) -> TuningOutcome:
    train = split_cases(labelled_cases(site, settings), site, settings).train
    report.change(labels=len(train), steps=settings.tune_steps)
    if not train:
        raise TuningError("There are no labelled training cases: label some, or see split.json for cases that only validate or test.")
    number = registry.start_tuning(len(train), settings.tune_steps)
    try:
        parent = registry.learnt_from()
        adapted = load_adapted(settings, registry.folder(parent.id) if parent else None)
        result = _tune(site, settings, adapted, train, parent, report, stop)
        if result.stopped:
            registry.finish_tuning(number, "stopped")
            return TuningOutcome("stopped", None, None, result.skipped)
        version = _add_version(site, settings, registry, adapted, parent, result)
        site.tuning_checkpoint_file.unlink(missing_ok=True)
        report.change(stage="gate", version=version.id)
        decision = run_gate(
            site, settings, version.id, adapted=adapted, progress=lambda done, total: report.change(gate_done=done, gate_cases=total)
        )
    except BaseException:
        registry.finish_tuning(number, "failed")
        raise
    registry.finish_tuning(number, "finished", version.id)
    report.change(verdict=decision.verdict, dice=decision.figures.get("overall", {}).get("candidate"))
    return TuningOutcome("finished", version, decision, result.skipped)


def _tune(
    site: SiteDirectory,
    settings: SiteSettings,
    adapted: AdaptedNetwork,
    train: Sequence[LabelledCase],
    parent: Version | None,
    report: "_Report",
    stop: Callable[[], bool] | None,
) -> TuningResult:
    def advance(now: TuningProgress) -> None:
        report.change(stage="tuning", step=now.step, loss=round(now.loss, 6), seconds_left=round(now.seconds_left, 1))

    result = tune(
        adapted,
        train,
        TuningSettings.from_site(settings, seed=tuning_seed(settings.seed, id_or_base(parent))),
        device=settings.device,
        checkpoint=site.tuning_checkpoint_file,
        progress=advance,
        stop=stop,
    )
    for one in result.skipped:
        logger.warning("Case %s is left out of the tuning: %s", one.case, one.reason)
    report.change(skipped={one.case: one.reason for one in result.skipped})
    return result


def _add_version(
    site: SiteDirectory, settings: SiteSettings, registry: Registry, adapted: AdaptedNetwork, parent: Version | None, result: TuningResult
) -> Version:
    """Put the tuned adapters into the registry, with all that is needed to make them again."""
    tail = result.losses[-min(8, len(result.losses)) :]
    provenance = Provenance(
        kind="local",
        base=adapted.schema.base,
        schema_id=adapted.schema.id,
        site=settings.name,
        parents=(parent.id,) if parent else (),
        cases=len(result.cases),
        labels={case.case: case.label_sha256 for case in result.cases},
        metrics={"steps": result.steps, "loss_first": result.losses[0], "loss_last": sum(tail) / len(tail), "seconds": result.seconds},
        settings={
            **settings.to_dict(),
            "tuning_seed": tuning_seed(settings.seed, id_or_base(parent)),
            "libraries": library_versions(),
        },
    )
    folder = Path(tempfile.mkdtemp(prefix="tuned-", dir=site.work))
    try:
        adapted.save(folder)
        return registry.add(folder, provenance)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tuning_seed(seed: int, parent: str) -> int:
    """The seed of a tuning that starts from `parent`, 0 .. 2^31 - 1: another draw after each version, the same one again after a kill."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{parent}".encode()).digest()[:4], "big") >> 1


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on; a library that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def _only_tuning(site: SiteDirectory) -> Iterator[None]:
    """Be the only tuning of the site, or raise TuningError."""
    descriptor = os.open(site.work / "tuning.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TuningError("Another local tuning of this site is running: wait for it, or stop it.") from error
        yield
    finally:
        os.close(descriptor)


class _Report:
    """Keeps the progress and writes it to its file, not too often."""

    def __init__(self, path: Path, listener: Callable[[Progress], None] | None) -> None:
        self._path = path
        self._listener = listener
        self._now = Progress()
        self._written = float("-inf")
        self.change()

    def change(self, **values: Any) -> None:
        """Take over new values; a new stage is written at once."""
        at_once = values.get("stage", self._now.stage) != self._now.stage
        for name, value in values.items():
            setattr(self._now, name, value)
        if at_once or time.monotonic() - self._written >= 1 / PROGRESS_HERTZ:
            self._write()
        if self._listener is not None:
            self._listener(self._now)

    def finish(self, status: Status, reason: str) -> None:
        """Write how it ended."""
        self._now.status, self._now.stage, self._now.reason, self._now.seconds_left = status, "done", reason, None
        self._write()

    def _write(self) -> None:
        self._now.updated = utc_now().isoformat()
        atomic.write_json(self._path, asdict(self._now))
        self._written = time.monotonic()
