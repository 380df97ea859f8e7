"""The one network of a run, and what it has computed already: tunings and scores are kept under everything they depend on.

Methods that start a round from the same adapters on the same cases get the same result without computing it twice; this is exact, because
`tune` follows from its inputs alone. Files appear atomically, so a killed run leaves nothing half done.

Several processes may share the kept results: each result has a lock, held while it is computed, so whoever comes second waits and finds it.
A process holds one such lock at a time; the kernel drops it with its holder.
"""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmarks.federated.configuration import Configuration
from benchmarks.federated.local_norms import NORMS_FILE, norms_of, save_norms
from benchmarks.federated.scoring import TestCase, score
from benchmarks.federated.stem_memory import remember_stems
from sam_adapters import atomic
from sam_adapters.adapter_files import WEIGHTS_FILE
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.cases import LabelledCase
from sam_adapters.file_lock import locked
from sam_adapters.loading import load_adapted, write_untuned
from sam_adapters.segmenter import Segmenter, resolve_device
from sam_adapters.settings import SiteSettings
from sam_adapters.tuning import TuningSettings, tune

LOCKS = "locks"
COMPUTING_SECONDS = 6 * 3600.0
"""How long a process waits for a result that another one computes."""


@dataclass(frozen=True)
class Tuned:
    """Folder of the tuned adapters, seconds that the tuning took when it was computed, and its last loss."""

    folder: Path
    seconds: float
    loss: float


class Workbench:
    """Tunes and scores adapters given as folders; None stands for the untuned ones."""

    def __init__(self, memo: Path, progress: Callable[[str], None] = lambda text: None) -> None:
        (memo / LOCKS).mkdir(parents=True, exist_ok=True)
        self._memo = memo
        self._progress = progress
        self._networks: dict[str, AdaptedNetwork] = {}

    def network(self, settings: SiteSettings, folder: Path | None) -> AdaptedNetwork:
        """The network with the adapters of `folder`. There is one for each layout and seed, and the next call changes it."""
        key = json.dumps([settings.base, settings.image_size, settings.rank, settings.shared_depth, settings.shared_decoder, settings.seed])
        if key not in self._networks:
            self._networks = {key: load_adapted(settings)}
            remember_stems(type(self._networks[key].network))
        return with_adapters(self._networks[key], folder)

    def untuned(self, settings: SiteSettings) -> Path:
        """A folder with the adapters that every tuning starts from."""
        done = self._memo / _key("untuned", _layout(settings))
        with self._computed_once(done) as missing:
            if missing:
                with new_folder(done) as folder:
                    write_untuned(settings, folder)
        return done

    def tuned(
        self,
        settings: SiteSettings,
        start: Path | None,
        cases: Sequence[LabelledCase],
        *,
        seed: int,
        steps: int,
        proximal: float = 0.0,
        norms: bool = False,
    ) -> Tuned:
        """The adapters of `start` after the product's tuning on `cases`.

        Args:
            seed: of everything drawn: the order of cases and the prompts.
            proximal: μ of FedProx's pull back to `start`.
            norms: train the layer norms too, for FedBN.
        """
        wanted = TuningSettings(
            steps=steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=seed,
            prompt_kinds=settings.tune_kinds,
            label_value=settings.label_value,
            bf16=settings.bf16,
            window=settings.window,
        )
        key = _key("tuned", asdict(wanted), _digest(start), _layout(settings), _named(cases), proximal, *(["norms"] if norms else []))
        done = self._memo / key
        with self._computed_once(done) as missing:
            if missing:
                self._tune(done, settings, start, cases, wanted, proximal, norms)
        about = json.loads((done / "about.json").read_text(encoding="utf-8"))
        return Tuned(done, about["seconds"], about["loss"])

    def _tune(
        self,
        done: Path,
        settings: SiteSettings,
        start: Path | None,
        cases: Sequence[LabelledCase],
        wanted: TuningSettings,
        proximal: float,
        norms: bool,
    ) -> None:
        """Tune, into the folder `done`."""
        begun = time.monotonic()
        adapted = self.network(settings, start)
        with norms_of(adapted, start, train=norms), _pulled_back(adapted, proximal), new_folder(done) as folder:
            result = tune(
                adapted, cases, wanted, device=settings.device, progress=lambda now: self._progress(f"step {now.step}/{now.steps}")
            )
            adapted.save(folder)
            if norms:
                save_norms(adapted, folder)
            about = {"seconds": time.monotonic() - begun, "loss": result.losses[-1], "skipped": [one.case for one in result.skipped]}
            (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")

    def scores(
        self, settings: SiteSettings, folder: Path | None, cases: Sequence[TestCase], kinds: Sequence[str], about: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """The scores of adapters on test cases; `about` names everything that the cases and their prompts depend on."""
        key = _key("scores", _digest(folder), _layout(settings), list(kinds), about)
        path = self._memo / f"{key}.json"
        with self._computed_once(path) as missing:
            if missing:
                self._progress("scoring")
                atomic.write_json(path, self._score(settings, folder, cases, kinds))
        value: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        return value

    def _score(
        self, settings: SiteSettings, folder: Path | None, cases: Sequence[TestCase], kinds: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        adapted = self.network(settings, folder)
        adapted.merge()
        try:
            with norms_of(adapted, folder):
                return score(Segmenter(adapted, version="bench", device=settings.device, bf16=settings.bf16), cases, kinds)
        finally:
            adapted.unmerge()

    @contextmanager
    def _computed_once(self, kept: Path) -> Iterator[bool]:
        """Whether a result is missing; if so, nobody else computes it inside the block."""
        if kept.exists():
            yield False
            return
        with locked(self._memo / LOCKS / kept.name, timeout=COMPUTING_SECONDS):
            yield not kept.exists()


def with_adapters(adapted: AdaptedNetwork, folder: Path | None) -> AdaptedNetwork:
    """The network, now with the adapters of `folder`; None for the untuned ones."""
    if folder is None:
        adapted.reset()
    else:
        adapted.load(folder)
    return adapted


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that appears at `path` when the block ends well, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=path.parent))
    try:
        yield scratch
        scratch.replace(path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _pulled_back(adapted: AdaptedNetwork, strength: float) -> Iterator[None]:
    """FedProx (Li et al., MLSys 2020): adds μ (w - w₀) to the gradient of every trained weight, after the clipping of the gradient."""
    if strength == 0:
        yield
        return
    anchors = {id(parameter): parameter.detach().clone() for parameter in adapted.trainable_parameters()}

    def pull(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                anchor = anchors.get(id(parameter))
                if anchor is not None and parameter.grad is not None:
                    parameter.grad.add_(parameter.detach() - anchor.to(parameter.device), alpha=strength)

    handle = register_optimizer_step_pre_hook(pull)
    try:
        yield
    finally:
        handle.remove()


def _digest(folder: Path | None) -> str:
    if folder is None:
        return "untuned"
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes())
    if (folder / NORMS_FILE).exists():
        digest.update((folder / NORMS_FILE).read_bytes())
    return digest.hexdigest()


def _layout(settings: SiteSettings) -> list[Any]:
    device = resolve_device(settings.device).type
    decoder = ["decoder"] if settings.shared_decoder else []  # kept results of before this setting stay valid
    return [settings.base, settings.image_size, settings.rank, settings.shared_depth, settings.seed, settings.window, device, *decoder]


def _named(cases: Sequence[LabelledCase]) -> list[list[str]]:
    return [[str(case.image), case.label_sha256] for case in cases]


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def site_settings(configuration: Configuration, name: str, seed: int, *, shared_depth: float | None = None) -> SiteSettings:
    """A site's settings as the product has them. All sites start from the same local A: their seed is the run's."""
    kinds = tuple(configuration.kinds)
    return SiteSettings(
        name=name,
        image_size=configuration.image_size,
        rank=configuration.rank,
        shared_depth=configuration.shared_depth if shared_depth is None else shared_depth,
        shared_decoder=configuration.shared_decoder and shared_depth is None,
        label_value=configuration.label_value,
        tune_steps=configuration.steps,
        batch_size=configuration.batch_size,
        learning_rate=configuration.learning_rate,
        seed=seed,
        tune_kinds=kinds,  # type: ignore[arg-type]
        gate_kinds=kinds,  # type: ignore[arg-type]
        gate_slices_per_case=configuration.test_slices or 3,
        threads=configuration.threads,
    )
