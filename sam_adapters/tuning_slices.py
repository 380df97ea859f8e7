"""The slices that a tuning looks at, cut out of the cases and prepared for the network, and a bounded cache of their frozen features.

Memory: a prepared slice holds 4 bytes a pixel and channel (3 channels and the target at colour, 2 channels' worth at grey); a tuning holds
at most `MAX_POOL_BYTES` of them, and `StemCache` at most its own bound on top. Volumes are read one at a time and not kept.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam_adapters.case_loading import LoadedCase, SkippedCase, load_cases
from sam_adapters.cases import LabelledCase
from sam_adapters.preprocess import SliceFit, prepare_mask, prepare_slice
from sam_adapters.prompts import take_slice
from sam_adapters.tuning_plan import CaseSlices

MAX_POOL_BYTES = 512 * 2**20
MAX_STEM_BYTES = 512 * 2**20


@dataclass(frozen=True)
class TrainingSlice:
    """A slice in the frame of the network's square input.

    Attributes:
        pixels: (3, S, S) float32, 0..1; a grey slice's channels share their memory.
        target: (S, S) float32, the share of target in each pixel.
        filled: rows and columns of the square that hold image; the rest is padding.
    """

    pixels: NDArray[np.float32]
    target: NDArray[np.float32]
    filled: tuple[int, int]

    def mask(self) -> NDArray[np.bool_]:
        """The target as a binary mask of the filled part; the smallest target keeps at least one pixel."""
        rows, columns = self.filled
        inside = self.target[:rows, :columns]
        return np.asarray(inside > 0.5 * min(1.0, float(inside.max())), bool)


SliceKey = tuple[int, int]
"""Position of the case in the list of cases, index of the slice along k."""


def max_pool_slices(image_size: int) -> int:
    """How many prepared slices fit into `MAX_POOL_BYTES`, all being in colour; at least 2."""
    return max(2, MAX_POOL_BYTES // (4 * 4 * image_size**2))


def case_slices(loaded: LoadedCase) -> CaseSlices:
    """Which slices of a case have target."""
    has_target = loaded.target.any(axis=(1, 2))
    return CaseSlices(tuple(int(k) for k in np.flatnonzero(has_target)), tuple(int(k) for k in np.flatnonzero(~has_target)))


def index_cases(cases: Sequence[LabelledCase], label_value: int) -> tuple[list[CaseSlices], list[SkippedCase]]:
    """Which slices each case offers, in the order of `cases`; a case that cannot be used offers none and is reported."""
    found: list[CaseSlices] = []
    skipped: list[SkippedCase] = []
    for case, loaded in zip(cases, load_cases(cases, label_value), strict=True):
        slices = CaseSlices(())
        if isinstance(loaded, SkippedCase):
            skipped.append(loaded)
        else:
            slices = case_slices(loaded)
            if not slices.target:
                skipped.append(SkippedCase(case.case, "Its label holds no target."))
        found.append(slices)
    return found, skipped


def training_slice(loaded: LoadedCase, index: int, image_size: int) -> TrainingSlice:
    """Prepare one slice of a case."""
    pixels = take_slice(loaded.image.array, "k", index)
    prepared = prepare_slice(pixels, image_size)
    channels = prepared.pixels
    if pixels.ndim == 2:  # keep one channel; the three equal ones are a view of it
        channels = np.broadcast_to(channels[:1].copy(), channels.shape)
    target = prepare_mask(take_slice(loaded.target, "k", index), image_size)
    return TrainingSlice(channels, target, SliceFit(prepared.size, image_size).resized)


class StemCache:
    """What the frozen layers before the first adapter make of a slice, computed once while it stays within the memory bound.

    Every slice goes through alone, in cache or not, so that the bound changes nothing in the results. One thread.
    """

    def __init__(self, stem: Callable[[Tensor], Tensor], max_bytes: int = MAX_STEM_BYTES) -> None:
        """`stem`: (1, 3, S, S) pixels to features, batch first."""
        self._stem = stem
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def features(self, key: Hashable, pixels: Tensor) -> Tensor:
        """The stem's features of one slice, (1, …), without gradient."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        with torch.no_grad():
            features = self._stem(pixels)
        self._kept[key] = features
        self._bytes += features.nbytes
        while self._bytes > self._max_bytes and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes
        return features
