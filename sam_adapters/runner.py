"""Who computes: the same network through different engines, behind two calls. `segmenter.Segmenter` decides when; a runner only computes.

Runners keep no results between calls and take no locks: the segmenter makes sure that one encode, and one decode, runs at a time.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.prompt_decoding import NetworkPrompts, decode_prompts

FEATURES_DTYPE = torch.float16
"""Type in which embeddings are kept: half the memory. The features of a SAM encoder leave a layer norm, far inside float16's range."""

BATCH_CPU = 1  # on a CPU a larger batch is no faster, and a click would wait longer
BATCH_CUDA = 8


class Runner(Protocol):
    """An engine that holds one network.

    Attributes:
        name: engine, device and precision of the encoder, e.g. `openvino-cpu-bfloat16`; shown to people.
        overlapping: whether a decode may run while an encode does. False where two calls at once would hurt both (torch's threads on a
            CPU spin while they wait, and starve each other).
        batch: slices that go through the encoder at once.
    """

    name: str
    overlapping: bool
    batch: int

    def encode(self, pixels: NDArray[np.float32]) -> Tensor:
        """(B, 3, S, S) in 0..1 to features (B, 256, e, e) of `FEATURES_DTYPE`, on the engine's device.

        Raises:
            EncodeInterruptedError: `interrupt` was called meanwhile, and the engine can be interrupted.
        """

    def interrupt(self) -> None:
        """End the encode that runs now, soon, if the engine can; from any thread. Nothing happens when none runs."""

    def decode(self, features: Sequence[Tensor], prompts: Sequence[NetworkPrompts]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """B features (256, e, e) with a prompt set each to low-resolution logits (B, m, m) and predicted IoU (B,)."""


class TorchRunner:
    """Eager PyTorch, on a CPU or a CUDA device.

    Args:
        network: already on its device, in evaluation mode.
        bf16: bfloat16 autocast of the encoder; the decoder stays in float32: it is quick, and its logits are what people see.
    """

    def __init__(self, network: PromptableNetwork, device: torch.device, *, bf16: bool) -> None:
        self._network = network
        self._device = device
        self._bf16 = bf16
        self.name = f"torch-{device.type}-{'bfloat16' if bf16 else 'float32'}"
        self.overlapping = False
        self.batch = BATCH_CUDA if device.type == "cuda" else BATCH_CPU

    def encode(self, pixels: NDArray[np.float32]) -> Tensor:
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            return self._network.encode(torch.from_numpy(pixels).to(self._device)).to(FEATURES_DTYPE)

    def interrupt(self) -> None:
        """PyTorch goes on."""

    def decode(self, features: Sequence[Tensor], prompts: Sequence[NetworkPrompts]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            stacked = torch.stack([item.to(self._device) for item in features]).float()
            low_res, iou = decode_prompts(self._network, stacked, prompts)
            return low_res[:, 0].cpu().numpy(), iou[:, 0].cpu().numpy()
