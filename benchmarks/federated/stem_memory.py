"""What the frozen layers before the first adapter make of a slice, computed once in a process and not once for every method.

Every method of a seed is tuned, probed and scored on the same slices, and the stem of the encoder depends on no adapter. Two tenths of an
encoding are the stem's. Results do not change by a bit: what is kept is what the stem gave, under all of its input. CPU only; on a GPU the
copying would cost more. One thread.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from sam_adapters.bases.network import PromptableNetwork

MAX_BYTES = 1 << 30
"""What a process keeps at most: 500 slices of LiteMedSAM at 128 pixels, more than a seed of the preset `cpu` looks at."""

Stem = Callable[[PromptableNetwork, Tensor], Tensor]


class StemMemory:
    """The features of the stem by network and pixels; those unused for longest make room."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def features(self, stem: Stem, network: PromptableNetwork, pixels: Tensor) -> Tensor:
        """`stem(network, pixels)`, computed or kept; without gradient, since nothing in the stem is trained."""
        if pixels.device.type != "cpu":
            return stem(network, pixels)
        key = _key(network, pixels)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        # outside inference mode, whose tensors no later tuning could use
        with torch.inference_mode(False), torch.no_grad():
            features = stem(network, pixels.clone())
        self._kept[key] = features
        self._bytes += features.nbytes
        while self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
        return features


def remember_stems(network: type[PromptableNetwork], memory: StemMemory | None = None) -> None:
    """Let all networks of this class in this process share one memory. The second call for a class changes nothing."""
    stem = network.encode_stem
    if hasattr(stem, "__wrapped__"):
        return
    kept = StemMemory() if memory is None else memory

    @wraps(stem)
    def remembered(self: PromptableNetwork, pixels: Tensor) -> Tensor:
        return kept.features(stem, self, pixels)

    network.encode_stem = remembered  # type: ignore[method-assign]


def _key(network: PromptableNetwork, pixels: Tensor) -> str:
    digest = hashlib.sha256(pixels.detach().contiguous().numpy().data)
    digest.update(f"{network.name} {network.sha256} {tuple(pixels.shape)} {torch.is_autocast_enabled('cpu')}".encode())
    return digest.hexdigest()
