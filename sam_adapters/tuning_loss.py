"""The loss of one training slice under one kind of prompt: what tuning descends and what the gradient probe measures. No state.

Prompts are made in the frame of the network's square input, from the target as the network sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.losses import segmentation_loss
from sam_adapters.preprocess import SliceFit
from sam_adapters.prompt_decoding import decode_prompts, to_network
from sam_adapters.prompts import SlicePrompts, tight_box
from sam_adapters.settings import PROMPT_KINDS, PromptKind
from sam_adapters.simulated_prompts import (
    apply_box_jitter,
    corrective_click,
    deepest_point,
    draw_box_jitter,
    draw_interior_point,
)
from sam_adapters.tuning_slices import TrainingSlice


@dataclass(frozen=True)
class SliceTensors:
    """Target and valid part of a training slice on the device, (1, 1, S, S) each."""

    target: Tensor
    valid: Tensor


def slice_tensors(one: TrainingSlice, device: torch.device) -> SliceTensors:
    """Move a slice's target to the device and mark what is not padding."""
    valid = torch.zeros((1, 1, *one.target.shape))
    valid[..., : one.filled[0], : one.filled[1]] = 1
    return SliceTensors(torch.from_numpy(one.target)[None, None].to(device), valid.to(device))


def first_prompts(one: TrainingSlice, kind: PromptKind, rng: np.random.Generator) -> SlicePrompts:
    """The prompts that a person would start with: a box drawn by hand, a click near the middle, or nothing.

    Kind `mask` starts with a box or a click, either as likely. A slice without target has nothing to point at: it gets no prompt.
    """
    mask = one.mask()
    if kind == "none" or not mask.any():
        return SlicePrompts()
    if kind == "box" or (kind == "mask" and rng.random() < 0.5):
        return SlicePrompts(box=apply_box_jitter(tight_box(mask), draw_box_jitter(rng), one.filled))
    x, y = draw_interior_point(mask, rng)
    return SlicePrompts(points=((float(x), float(y), 1),))


def next_prompts(
    first: SlicePrompts, low_res: Tensor, logits: Tensor, one: TrainingSlice, kind: PromptKind, rng: np.random.Generator
) -> SlicePrompts | None:
    """What a person would add after seeing the answer to `first`; None where the kind asks for one answer only.

    Kind `point`: a corrective click more. Kind `mask`: a corrective click, and the answer's own logits as previous mask.

    Args:
        low_res: the answer, (1, 1, m, m).
        logits: the same on the input square, (1, 1, S, S).
    """
    if kind not in ("point", "mask"):
        return None
    rows, columns = one.filled
    answer: NDArray[np.bool_] = (logits[0, 0, :rows, :columns] > 0).cpu().numpy()
    click = corrective_click(answer, one.mask(), rng)
    if click is None and kind == "point":
        return None
    added = replace(first, points=(*first.points, (float(click[0]), float(click[1]), click[2]))) if click else first
    if kind == "point":
        return added
    return replace(added, mask=low_res[0, 0].detach().float().cpu().numpy())


def prompt_loss(
    network: PromptableNetwork, embedding: Tensor, prompts: SlicePrompts, tensors: SliceTensors
) -> tuple[Tensor, Tensor, Tensor]:
    """Decode one slice; returns the loss (scalar, float32), the logits (1, 1, m, m), and the logits on the input square (1, 1, S, S)."""
    size = network.image_size
    low_res, _ = decode_prompts(network, embedding, [to_network(prompts, SliceFit((size, size), size))])
    logits = network.upscale(low_res)
    return segmentation_loss(logits, tensors.target, tensors.valid)[0], low_res, logits


def sample_loss(network: PromptableNetwork, embedding: Tensor, one: TrainingSlice, kind: PromptKind, rng: np.random.Generator) -> Tensor:
    """Mean loss of the answers to the simulated prompts of one kind: one answer, or two where a correction follows. Scalar, float32.

    Args:
        embedding: (1, 256, e, e) of the slice, with its gradient.
    """
    tensors = slice_tensors(one, embedding.device)
    prompts = first_prompts(one, kind, rng)
    loss, low_res, logits = prompt_loss(network, embedding, prompts, tensors)
    if prompts.empty:
        return loss
    correction = next_prompts(prompts, low_res, logits, one, kind, rng)
    if correction is None:
        return loss
    second, _, _ = prompt_loss(network, embedding, correction, tensors)
    return (loss + second) / 2


def mean_prompt_loss(network: PromptableNetwork, embedding: Tensor, one: TrainingSlice, kinds: Sequence[PromptKind], seed: int) -> Tensor:
    """Mean of `sample_loss` over kinds of prompt, each drawn from its own generator. Scalar, float32."""
    losses = [sample_loss(network, embedding, one, kind, np.random.default_rng([seed, PROMPT_KINDS.index(kind)])) for kind in kinds]
    return torch.stack(losses).mean()


def fixed_prompt_loss(network: PromptableNetwork, embedding: Tensor, one: TrainingSlice) -> Tensor:
    """Mean loss of the two ideal prompts, the tight box and the deepest point: nothing is drawn. Scalar, float32.

    Raises:
        PromptError: the slice has no target.
    """
    tensors = slice_tensors(one, embedding.device)
    mask = one.mask()
    box = SlicePrompts(box=tight_box(mask))
    x, y = deepest_point(mask)
    click = SlicePrompts(points=((float(x), float(y), 1),))
    return (prompt_loss(network, embedding, box, tensors)[0] + prompt_loss(network, embedding, click, tensors)[0]) / 2
