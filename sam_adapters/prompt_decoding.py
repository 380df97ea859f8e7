"""Prompts of slices in, masks of the square input out: what serving and tuning both do between a slice and the network.

Pure functions; `decode_prompts` is differentiable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.preprocess import SliceFit
from sam_adapters.prompts import SlicePrompts


@dataclass(frozen=True)
class NetworkPrompts:
    """Prompts of one slice in pixel indices of the S x S input.

    Attributes:
        points: (N, 2) float32 x and y; N may be 0.
        labels: (N,) int64, 1 or 0.
        box: (4,) float32 x0, y0, x1, y1, inclusive, or None.
        mask: (m, m) float32 logits, or None.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    box: NDArray[np.float32] | None
    mask: NDArray[np.float32] | None

    @property
    def kind(self) -> tuple[int, bool, bool]:
        """Number of points, box or not, mask or not: slices of one kind go through the decoder together."""
        return len(self.labels), self.box is not None, self.mask is not None


def to_network(prompts: SlicePrompts, fit: SliceFit) -> NetworkPrompts:
    """Carry prompts from the slice's pixels to the input's.

    A point stays the same place: pixel x has its centre at x + 1/2. A box keeps its outer edges, so that an inclusive box around a
    structure is the inclusive box around the resized structure.

    Raises:
        PromptError: a prompt lies outside the slice or is malformed.
    """
    prompts.check(fit.size)
    down, across = fit.steps
    points = np.array([((x + 0.5) * across - 0.5, (y + 0.5) * down - 0.5) for x, y, _ in prompts.points], np.float32).reshape(-1, 2)
    labels = np.array([label for _, _, label in prompts.points], np.int64)
    box = None
    if prompts.box is not None:
        x0, y0, x1, y1 = prompts.box
        box = np.array([x0 * across, y0 * down, (x1 + 1) * across - 1, (y1 + 1) * down - 1], np.float32)
        box[2:] = np.maximum(box[:2], box[2:])  # a thin box in a shrunk slice
    return NetworkPrompts(points, labels, box, prompts.mask)


def decode_prompts(network: PromptableNetwork, embeddings: Tensor, prompts: Sequence[NetworkPrompts]) -> tuple[Tensor, Tensor]:
    """Masks for a batch of slices, each with prompts of its own kind; every slice gets exactly what it gets alone.

    Args:
        embeddings: (B, 256, e, e), on the network's device.
        prompts: B prompt sets.

    Returns:
        Logits (B, 1, m, m) and predicted IoU (B, 1), as `PromptableNetwork.decode`.
    """
    kinds: dict[tuple[int, bool, bool], list[int]] = {}
    for row, item in enumerate(prompts):
        kinds.setdefault(item.kind, []).append(row)
    device = embeddings.device
    parts = []
    for (count, _, _), rows in kinds.items():
        chosen = [prompts[row] for row in rows]
        parts.append(
            network.decode(
                embeddings if len(kinds) == 1 else embeddings[torch.tensor(rows, device=device)],
                points=_stack([item.points for item in chosen], device) if count else None,
                labels=_stack([item.labels for item in chosen], device) if count else None,
                boxes=_stack([item.box for item in chosen], device),
                masks=_stack([None if item.mask is None else item.mask[None] for item in chosen], device),
            )
        )
    if len(parts) == 1:
        return parts[0]
    order = torch.argsort(torch.tensor([row for rows in kinds.values() for row in rows], device=device))
    return torch.cat([logits for logits, _ in parts])[order], torch.cat([iou for _, iou in parts])[order]


def _stack(arrays: Sequence[NDArray[np.float32] | NDArray[np.int64] | None], device: torch.device) -> Tensor | None:
    """The arrays of one kind of slices as one tensor; None where the kind has none."""
    present = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(present)).to(device) if present else None
