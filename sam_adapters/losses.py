"""The loss of a mask in logits against a target, as pure functions: soft Dice + binary cross-entropy.

All tensors are (B, 1, h, w). `valid` is 1 where the input square holds image and 0 in its padding, which never counts. Targets may be
fractions: a target that was reduced to the input square keeps the covered part of each pixel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

DICE_SMOOTHING = 1.0
"""Pixels added to both sides of the Dice fraction: an empty target has a loss of nearly 0 for an empty prediction."""


def soft_dice_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - (2 Σpt + s) / (Σp + Σt + s) for each sample, p = sigmoid(logits), s = `DICE_SMOOTHING`; shape (B,), 0..1.

    Milletari et al., V-Net, 3DV 2016, without squares in the denominator.
    """
    probability = torch.sigmoid(logits) * valid
    wanted = target * valid
    axes = (1, 2, 3)
    both = (probability * wanted).sum(axes)
    return 1 - (2 * both + DICE_SMOOTHING) / (probability.sum(axes) + wanted.sum(axes) + DICE_SMOOTHING)


def cross_entropy_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean binary cross-entropy over the valid pixels of each sample, in nats; shape (B,)."""
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    axes = (1, 2, 3)
    return each.sum(axes) / valid.sum(axes).clamp(min=1)


def segmentation_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Soft Dice + cross-entropy of each sample, in float32 whatever the type of `logits`; shape (B,)."""
    logits = logits.float()
    return soft_dice_loss(logits, target, valid) + cross_entropy_loss(logits, target, valid)
