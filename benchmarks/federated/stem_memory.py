"""What the frozen layers before the first adapter make of a slice, computed once in a process and not once for every method.

Every method of a seed is tuned, probed and scored on the same slices, and the stem of the encoder depends on no adapter. Two tenths of an
encoding are the stem's. Results do not change by a bit: what is kept is what the stem gave, under all of its input. CPU only; on a GPU the
copying would cost more. One thread.
"""

import hashlib
from functools import partial, wraps

import torch
from torch import Tensor

from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.tuning_slices import StemCache

MAX_BYTES = 1 << 30
"""What a process keeps of one base at most: 500 slices of LiteMedSAM at 128 pixels, more than a seed of the preset `cpu` looks at."""


def remember_stems(network: type[PromptableNetwork], max_bytes: int = MAX_BYTES) -> None:
    """Let all networks of this class and the same weights in this process share one memory. A second call for a class changes nothing."""
    stem = network.encode_stem
    if hasattr(stem, "__wrapped__"):
        return
    kept: dict[tuple[str, str], StemCache] = {}

    @wraps(stem)
    def remembered(self: PromptableNetwork, pixels: Tensor) -> Tensor:
        if pixels.device.type != "cpu":
            return stem(self, pixels)
        # the first network of these weights computes for all: their stems are the same
        cache = kept.setdefault((self.name, self.sha256), StemCache(partial(stem, self), max_bytes))
        with torch.inference_mode(False):  # whose tensors no later tuning could use
            return cache.features(_key(pixels), pixels.clone())

    network.encode_stem = remembered  # type: ignore[method-assign]


def _key(pixels: Tensor) -> str:
    digest = hashlib.sha256(pixels.detach().contiguous().numpy().data)
    digest.update(f"{tuple(pixels.shape)} {torch.is_autocast_enabled('cpu')}".encode())
    return digest.hexdigest()
