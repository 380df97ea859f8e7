"""A network whose gradient is known to give the picture away: the attack and its figures must succeed on it, or they prove nothing.

A perceptron's first layer gives its input away exactly: with h = W x + b, ∂L/∂W = ∂L/∂h xᵀ and ∂L/∂b = ∂L/∂h, so that every row of the
one divided by the other is x (Phong et al., IEEE TIFS 2018).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sam_adapters.losses import segmentation_loss

_WIDTH = 12  # with 64 x 64 pixels 49,164 values, about as many as the shared B


class Perceptron:
    """Pixels, a smooth hidden layer, logits; with the loss of a known target."""

    def __init__(self, target: NDArray[np.float32], *, seed: int = 0) -> None:
        """`target`: (S, S)."""
        torch.manual_seed(seed)
        self._target = torch.from_numpy(target)[None, None].double()
        self._first = nn.Linear(target.size, _WIDTH).double()
        self._rest = nn.Sequential(nn.Softplus(), nn.Linear(_WIDTH, target.size)).double()

    def gradient(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Gradient with respect to the first layer's weights and offsets, (12 * S * S + 12,), for pixels (S * S,)."""
        flat = torch.from_numpy(np.array(pixels, np.float64)).view(1, -1)
        logits = self._rest(self._first(flat)).view(self._target.shape)
        loss = segmentation_loss(logits, self._target.float(), torch.ones_like(self._target.float()))[0]
        weight, offset = torch.autograd.grad(loss, [self._first.weight, self._first.bias])
        return np.asarray(torch.cat([weight.flatten(), offset]).numpy())


def read_off(gradient: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pixels (S * S,) that a gradient of `Perceptron` tells exactly."""
    weight, offset = gradient[:-_WIDTH].reshape(_WIDTH, -1), gradient[-_WIDTH:]
    row = int(np.abs(offset).argmax())
    return np.asarray(weight[row] / offset[row])
