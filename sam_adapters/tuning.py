"""Local tuning: AdamW on the adapters of one network, on a site's labelled slices, with simulated prompts of every kind.

One thread, one process. Where torch computes deterministically (the CPU), the result follows from the cases, the settings and the
starting adapter alone; a tuning that was killed and goes on from its checkpoint ends with exactly the same weights.

Memory, besides the network: at most `tuning_slices.MAX_POOL_BYTES` of prepared slices, `tuning_slices.MAX_STEM_BYTES` of frozen features,
and the activations of one slice (on CUDA, of one batch). The activations grow with the square of the image size: LiteMedSAM needs about
0.4 GiB at 128 pixels and 1.3 GiB at 256, SAM ViT-B about 8 GiB at 1024. Batch size does not change it on the CPU: gradients are added up.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.case_loading import SkippedCase, load_cases
from sam_adapters.cases import LabelledCase
from sam_adapters.errors import TuningError
from sam_adapters.segmenter import resolve_device
from sam_adapters.settings import PROMPT_KINDS, PromptKind, SiteSettings
from sam_adapters.tuning_checkpoint import TuningState, load_checkpoint, save_checkpoint
from sam_adapters.tuning_loss import mean_prompt_loss
from sam_adapters.tuning_plan import Sample, draw_plan
from sam_adapters.tuning_slices import SliceKey, StemCache, TrainingSlice, index_cases, max_pool_slices, training_slice

CLIP_NORM = 1.0
"""Gradients are scaled down to this norm; a single odd case cannot throw the adapters off."""
FINAL_RATE = 0.05
"""Fraction of the learning rate at the last step: with so few steps, what the last batches happened to be must not show in the result."""


@dataclass(frozen=True)
class TuningSettings:
    """Settings of one tuning.

    Attributes:
        steps: optimiser steps.
        batch_size: slices a step.
        learning_rate: AdamW's.
        seed: seed of everything drawn.
        prompt_kinds: kinds of prompt that each slice is shown with.
        label_value: label value that is the target; 0 for every value above 0.
        bf16: bfloat16 autocast on the CPU; on CUDA it is used where the device has it.
        window: range of values that the network sees, see `intensity_window`.
        checkpoint_every: steps between checkpoints.
    """

    steps: int
    batch_size: int = 2
    learning_rate: float = 3e-3
    seed: int = 0
    prompt_kinds: tuple[PromptKind, ...] = PROMPT_KINDS
    label_value: int = 0
    bf16: bool = False
    window: str = ""
    checkpoint_every: int = 5

    @classmethod
    def from_site(cls, settings: SiteSettings, *, seed: int | None = None) -> "TuningSettings":
        """The tuning part of a site's settings."""
        return cls(
            steps=settings.tune_steps,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            seed=settings.seed if seed is None else seed,
            prompt_kinds=settings.tune_kinds,
            label_value=settings.label_value,
            bf16=settings.bf16,
            window=settings.window,
        )


@dataclass(frozen=True)
class TuningProgress:
    """How far a tuning is after a step.

    Attributes:
        step: steps done, of `steps`.
        loss: mean loss of the last step.
        seconds_left: estimate from the steps of this run.
    """

    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class TuningResult:
    """How a tuning ended; the network holds the tuned adapters.

    Attributes:
        steps: steps done.
        losses: mean loss of each step.
        cases: the cases that were seen.
        skipped: the cases that could not be used, with reasons.
        stopped: True when `stop` ended it early; then a checkpoint was written.
        resumed_at: steps that had been done by an earlier run.
        seconds: of this run.
    """

    steps: int
    losses: tuple[float, ...]
    cases: tuple[LabelledCase, ...]
    skipped: tuple[SkippedCase, ...]
    stopped: bool
    resumed_at: int
    seconds: float


def tune(
    adapted: AdaptedNetwork,
    cases: Sequence[LabelledCase],
    settings: TuningSettings,
    *,
    device: str | torch.device = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[TuningProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> TuningResult:
    """Tune the adapters of a network, in place.

    Args:
        adapted: starts from what it holds; is moved to `device` and left in evaluation mode.
        cases: what to train on. Cases that cannot be used are reported in the result.
        checkpoint: file to go on from, if it belongs to this very tuning, and to write every few steps; it is left there.
        progress: called after each step.
        stop: asked before each step.

    Raises:
        TuningError: no case can be used, or the loss is no longer finite.
        SettingError: the device is not there.
    """
    begun = time.monotonic()
    place = resolve_device(device)
    adapted.network.to(place)
    plan, skipped = _plan(adapted.network.image_size, cases, settings)
    run = _Run(adapted, settings, place, _cut_slices(cases, plan, adapted.network.image_size, settings))
    fingerprint = _fingerprint(adapted, cases, settings, place)
    state = load_checkpoint(checkpoint, fingerprint, run.parameters, run.optimizer) if checkpoint else None
    losses = list(state.losses) if state else []
    resumed_at, stopped = len(losses), False
    adapted.set_training(True)
    try:
        started = time.monotonic()
        for number in range(resumed_at, settings.steps):
            if stop is not None and stop():
                stopped = True
                break
            losses.append(run.step(plan[number], number))
            done = number + 1
            if checkpoint and done % settings.checkpoint_every == 0 and done < settings.steps:
                save_checkpoint(checkpoint, fingerprint, TuningState(done, tuple(losses)), run.parameters, run.optimizer)
            if progress is not None:
                left = (time.monotonic() - started) / (done - resumed_at) * (settings.steps - done)
                progress(TuningProgress(done, settings.steps, losses[-1], left))
    finally:
        adapted.set_training(False)
    if checkpoint and len(losses) > resumed_at:
        save_checkpoint(checkpoint, fingerprint, TuningState(len(losses), tuple(losses)), run.parameters, run.optimizer)
    seen = tuple(cases[number] for number in sorted({sample.case for batch in plan for sample in batch}))
    return TuningResult(len(losses), tuple(losses), seen, tuple(skipped), stopped, resumed_at, time.monotonic() - begun)


def rate(number: int, steps: int) -> float:
    """Fraction of the learning rate at step `number` (from 0): 1 in the first half, then falling evenly to `FINAL_RATE` at the last."""
    half = steps // 2
    if number < half or steps - 1 <= half:
        return 1.0
    return 1 - (1 - FINAL_RATE) * (number - half) / (steps - 1 - half)


class _Run:
    """The moving parts of one tuning: parameters, optimiser, slices, features."""

    def __init__(
        self, adapted: AdaptedNetwork, settings: TuningSettings, device: torch.device, slices: dict[SliceKey, TrainingSlice]
    ) -> None:
        self.network = adapted.network
        self.settings = settings
        self.parameters: list[nn.Parameter] = adapted.trainable_parameters()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.learning_rate, weight_decay=0.0)
        self.device = device
        self.slices = slices
        self.stems = StemCache(self.network.encode_stem)
        self.bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else settings.bf16

    def step(self, batch: Sequence[Sample], number: int) -> float:
        """One optimiser step; returns the mean loss."""
        self.optimizer.zero_grad(set_to_none=True)
        # On a CPU a batch is no faster than its slices one by one, which need less memory; the gradient is the same.
        parts = [[sample] for sample in batch] if self.device.type == "cpu" else [list(batch)]
        total = 0.0
        for part in parts:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                loss = self._losses(part).sum() / len(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = float(nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise TuningError(f"Loss or gradient is no longer finite at step {number + 1}: lower learning_rate, or check the images.")
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate(number, self.settings.steps)
        self.optimizer.step()
        return total

    def _losses(self, samples: Sequence[Sample]) -> Tensor:
        """The loss of each sample, (len(samples),), with gradient."""
        slices = [self.slices[sample.case, sample.slice] for sample in samples]
        stems = [self._stem((sample.case, sample.slice), one) for sample, one in zip(samples, slices, strict=True)]
        embeddings = self.network.encode_from_stem(torch.cat(stems))
        return torch.stack(
            [
                mean_prompt_loss(self.network, embeddings[row : row + 1], one, sample.kinds, sample.seed)
                for row, (sample, one) in enumerate(zip(samples, slices, strict=True))
            ]
        )

    def _stem(self, key: SliceKey, one: TrainingSlice) -> Tensor:
        return self.stems.features(key, torch.from_numpy(np.ascontiguousarray(one.pixels))[None].to(self.device))


def _plan(image_size: int, cases: Sequence[LabelledCase], settings: TuningSettings) -> tuple[list[tuple[Sample, ...]], list[SkippedCase]]:
    found, skipped = index_cases(cases, settings.label_value)
    if not any(one.target for one in found):
        reasons = "; ".join(f"{one.case}: {one.reason}" for one in skipped[:3]) or "there are no labelled training cases"
        raise TuningError(f"No labelled training case can be used ({reasons}). Label some cases, or repair these.")
    plan = draw_plan(
        found,
        steps=settings.steps,
        batch_size=settings.batch_size,
        kinds=settings.prompt_kinds,
        seed=settings.seed,
        max_slices=max_pool_slices(image_size),
    )
    return plan, skipped


def _cut_slices(
    cases: Sequence[LabelledCase], plan: Sequence[Sequence[Sample]], image_size: int, settings: TuningSettings
) -> dict[SliceKey, TrainingSlice]:
    """Read the planned cases once more, one at a time, and keep the planned slices."""
    wanted: dict[int, set[int]] = {}
    for batch in plan:
        for sample in batch:
            wanted.setdefault(sample.case, set()).add(sample.slice)
    numbers = sorted(wanted)
    slices: dict[SliceKey, TrainingSlice] = {}
    chosen = [cases[number] for number in numbers]
    for number, loaded in zip(numbers, load_cases(chosen, settings.label_value, settings.window), strict=True):
        if isinstance(loaded, SkippedCase):
            raise TuningError(f"Case {loaded.case} changed while the tuning started ({loaded.reason}): start it again.")
        depth = loaded.target.shape[0]
        if max(wanted[number]) >= depth:
            raise TuningError(f"Case {loaded.source.case} changed while the tuning started (now {depth} slices): start it again.")
        for index in sorted(wanted[number]):
            slices[number, index] = training_slice(loaded, index, image_size)
    return slices


def _fingerprint(adapted: AdaptedNetwork, cases: Sequence[LabelledCase], settings: TuningSettings, device: torch.device) -> str:
    """sha256 over everything the result depends on: settings, cases and labels, network and starting adapter."""
    value: dict[str, Any] = {
        "settings": asdict(settings),
        "cases": [(case.case, case.label_sha256) for case in cases],
        "schema": adapted.schema.id,
        "image_size": adapted.network.image_size,
        "device": device.type,
    }
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode())
    for parameter in adapted.trainable_parameters():
        digest.update(np.ascontiguousarray(parameter.detach().cpu().numpy()).data)
    return digest.hexdigest()
