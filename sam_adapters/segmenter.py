"""Slices and prompts in, masks out: numpy at both ends, the network in between.

Threads: a Segmenter may be used from several threads. `Turns` holds two locks, one for encoder and one for decoder calls, that may be
shared by all segmenters of a machine; each is held for one call, never while slices are prepared or masks resized, and a thread holds
one of them at a time. They are granted by priority, so a click waits for at most the one batch that is in flight, whatever else is
queued; an engine that can be interrupted gives that up too, and does it again when nobody clicks. `Turns` has a mutex of its own for the
interruption, taken inside the encode lock and held for a moment. The embedding cache has locks of its own, which are
never held while one of these is asked for.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.embedding_cache import Embedding, EmbeddingCache, EmbeddingKey, SliceKey
from sam_adapters.errors import EncodeInterruptedError, PromptError, SegmentationCancelledError, SettingError
from sam_adapters.preprocess import PreparedSlice, prepare_slice, restore_logits
from sam_adapters.priority_lock import Priority, PriorityLock
from sam_adapters.prompt_decoding import to_network
from sam_adapters.prompts import Axis, SlicePrompts, put_slice, slice_count, slice_size, take_slice
from sam_adapters.runner import Runner, TorchRunner

MOST_INTERRUPTIONS = 10
"""An encode that clicks have ended so often is left in peace: prefetching and volumes go on, slowly, however much is clicked."""


@dataclass(frozen=True)
class Decoded:
    """A mask for one slice.

    Attributes:
        logits: (h, w) float32 on the slice's own pixels; above 0 is target.
        iou: the network's own estimate of the mask's IoU with the truth.
        low_res: (m, m) float32 logits, to be passed on as `SlicePrompts.mask` with the next click.
    """

    logits: NDArray[np.float32]
    iou: float
    low_res: NDArray[np.float32]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(h, w): where the target is more likely than not."""
        return self.logits > 0


@dataclass(frozen=True)
class VolumeResult:
    """A segmented volume.

    Attributes:
        mask: (k, j, i) uint8, 1 on the target; slices that were not asked for are 0.
        iou: estimated IoU by slice.
        uncertainty: mean binary entropy over a slice's pixels, in bits (0 certain, 1 nothing known), by slice.
    """

    mask: NDArray[np.uint8]
    iou: dict[int, float]
    uncertainty: dict[int, float]


class Turns:
    """Whose turn it is to use a machine's processor: one encoder call and one decoder call at a time.

    Attributes:
        encode, decode: the two locks.
    """

    def __init__(self) -> None:
        self.encode = PriorityLock()
        self.decode = PriorityLock()
        self._mutex = threading.Lock()
        self._interrupt: Callable[[], None] | None = None

    @contextmanager
    def click(self) -> Iterator[None]:
        """Somebody waits for one answer, of an encode and a decode perhaps: nothing less urgent is begun meanwhile, and an encode in flight
        that can be interrupted is."""
        with self.encode.only_clicks(), self.decode.only_clicks():
            with self._mutex:
                if self._interrupt is not None:
                    self._interrupt()
            yield

    @contextmanager
    def encoding(self, priority: Priority, interrupt: Callable[[], None] | None) -> Iterator[None]:
        """One encoder call. `interrupt` ends it early when somebody clicks; None for a call that must not be ended.

        Raises:
            EncodeInterruptedError: somebody clicked before it began.
        """
        with self.encode.turn(priority):
            with self._mutex:
                if interrupt is not None and self.encode.clicks_only:
                    raise EncodeInterruptedError("Somebody clicked.")
                self._interrupt = interrupt
            try:
                yield
            finally:
                with self._mutex:
                    self._interrupt = None


class Segmenter:
    """An adapted network that serves one adapter version.

    Args:
        adapted: the network; it is moved to `device` and belongs to this segmenter from then on.
        version: the adapter version that it holds, `base` for the untuned base. Part of the cache's key.
        device: `cpu`, `cuda`, `cuda:<n>` or `auto` (CUDA if there is one).
        cache: shared or own embedding cache; None keeps no embeddings.
        bf16: bfloat16 autocast of the encoder on the CPU too; on CUDA it is used wherever the device has it.
        turns: shared with the other segmenters of this machine; None for locks of its own.

    Attributes:
        turns: whose turn it is; `turns.click()` around all the work for one click.
        runner: the engine that computes; PyTorch, until another that holds the same network and adapters is put into its place.

    Raises:
        SettingError: the device is not there.
    """

    def __init__(
        self,
        adapted: AdaptedNetwork,
        *,
        version: str = "base",
        device: str | torch.device = "cpu",
        cache: EmbeddingCache | None = None,
        bf16: bool = False,
        turns: Turns | None = None,
    ) -> None:
        self.adapted = adapted
        self.version = version
        self.cache = cache
        self.device = resolve_device(device)
        half = torch.cuda.is_bf16_supported(including_emulation=False) if self.device.type == "cuda" else bf16
        adapted.network.to(self.device)
        adapted.set_training(False)
        self.turns = turns or Turns()
        self.runner: Runner = TorchRunner(adapted.network, self.device, bf16=half)

    @property
    def engine_name(self) -> str:
        """What computes now, e.g. `torch-cpu-float32`."""
        return self.runner.name

    @property
    def compiled(self) -> bool:
        """Whether something else than eager PyTorch computes."""
        return not isinstance(self.runner, TorchRunner)

    @property
    def batch(self) -> int:
        """Slices that go through the encoder at once."""
        return self.runner.batch

    @property
    def base(self) -> str:
        """Name of the base network."""
        return self.adapted.network.name

    @property
    def image_size(self) -> int:
        """Side of the network's square input in pixels."""
        return self.adapted.network.image_size

    def encode(self, slice_pixels: NDArray[Any], *, key: SliceKey | None = None, priority: Priority = Priority.CLICK) -> Embedding:
        """Embedding of one slice (h, w) or (h, w, 3); taken from the cache if `key` names a slice that is in it.

        Raises:
            ImageError: the slice cannot be used.
        """
        return self.encode_many([slice_pixels], keys=[key], priority=priority)[0]

    def encode_many(
        self,
        slices: Sequence[NDArray[Any]],
        *,
        keys: Sequence[SliceKey | None] | None = None,
        priority: Priority = Priority.CLICK,
    ) -> list[Embedding]:
        """Embeddings of several slices, in batches. Raises as `encode`."""
        names = [self._key(key) for key in keys] if keys is not None else [None] * len(slices)
        found = [self._cached(name) for name in names]
        missing = [place for place, embedding in enumerate(found) if embedding is None]
        for start in range(0, len(missing), self.batch):
            places = missing[start : start + self.batch]
            made = self._encode_batch([slices[place] for place in places], [names[place] for place in places], priority)
            for place, embedding in zip(places, made, strict=True):
                found[place] = embedding
        return [embedding for embedding in found if embedding is not None]

    def cached(self, key: SliceKey) -> bool:
        """Whether the next `encode` of this slice is spared the encoder."""
        name = self._key(key)
        return self._in_memory(name) is not None

    def decode(self, embedding: Embedding, prompts: SlicePrompts, *, priority: Priority = Priority.CLICK) -> Decoded:
        """A mask for one slice; empty prompts leave the network to segment on its own.

        Raises:
            PromptError: a prompt lies outside the slice or is malformed.
        """
        return self.decode_many([(embedding, prompts)], priority=priority)[0]

    def decode_many(self, items: Sequence[tuple[Embedding, SlicePrompts]], *, priority: Priority = Priority.CLICK) -> list[Decoded]:
        """Masks for several slices at once, each exactly what it is alone up to rounding. Raises as `decode`."""
        decoded: list[Decoded] = []
        for start in range(0, len(items), self.batch):
            decoded += self._decode_batch(items[start : start + self.batch], priority)
        return decoded

    def _encode_batch(self, slices: Sequence[NDArray[Any]], names: Sequence[EmbeddingKey | None], priority: Priority) -> list[Embedding]:
        prepared = [prepare_slice(pixels, self.image_size) for pixels in slices]
        for attempt in range(MOST_INTERRUPTIONS + 1):
            may_end = priority > Priority.CLICK and attempt < MOST_INTERRUPTIONS
            try:
                with self.turns.encoding(priority, self.runner.interrupt if may_end else None):
                    return self._encode_missing(prepared, names)
            except EncodeInterruptedError:
                continue
        raise AssertionError("an encode that nobody may interrupt was interrupted")

    def _encode_missing(self, prepared: Sequence[PreparedSlice], names: Sequence[EmbeddingKey | None]) -> list[Embedding]:
        # whoever had the turn before may have made the very same: a click on a slice that was being prefetched
        found = [self._in_memory(name) for name in names]
        places = [place for place, embedding in enumerate(found) if embedding is None]
        if places:
            features = self.runner.encode(np.stack([prepared[place].pixels for place in places]))
            for row, place in enumerate(places):
                found[place] = Embedding(features[row].clone(), prepared[place].fit)
                self._keep(names[place], found[place])
        return [embedding for embedding in found if embedding is not None]

    def _decode_batch(self, items: Sequence[tuple[Embedding, SlicePrompts]], priority: Priority) -> list[Decoded]:
        prompts = [to_network(prompts, embedding.fit) for embedding, prompts in items]
        side = 4 * self.adapted.network.embedding_size
        for item in prompts:
            if item.mask is not None and item.mask.shape != (side, side):
                raise PromptError(f"Previous mask of shape {list(item.mask.shape)}, expected [{side}, {side}]: pass `low_res` on.")
        runner = self.runner
        with (self.turns.decode if runner.overlapping else self.turns.encode).turn(priority):
            low_res, scores = runner.decode([embedding.features for embedding, _ in items], prompts)
        logits = self.adapted.network.upscale(torch.from_numpy(low_res)[:, None])[:, 0].numpy()
        return [
            Decoded(restore_logits(logits[row], embedding.fit), float(scores[row]), low_res[row])
            for row, (embedding, _) in enumerate(items)
        ]

    def _cached(self, name: EmbeddingKey | None) -> Embedding | None:
        return self.cache.get(name) if self.cache is not None and name is not None else None

    def _in_memory(self, name: EmbeddingKey | None) -> Embedding | None:
        return self.cache.in_memory(name) if self.cache is not None and name is not None else None

    def _keep(self, name: EmbeddingKey | None, embedding: Embedding | None) -> None:
        if self.cache is not None and name is not None and embedding is not None:
            self.cache.put(name, embedding)

    def _key(self, key: SliceKey | None) -> EmbeddingKey | None:
        if key is None:
            return None
        return EmbeddingKey(key, self.adapted.network.sha256, self.version, self.image_size)


def segment_volume(
    segmenter: Segmenter,
    array: NDArray[Any],
    prompts: Mapping[int, SlicePrompts] | None,
    *,
    axis: Axis = "k",
    content_hash: str | None = None,
    priority: Priority = Priority.VOLUME,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> VolumeResult:
    """Segment a volume slice by slice.

    Args:
        array: (k, j, i), or (k, j, i, 3) for a colour picture.
        prompts: by slice index: only these slices are segmented. None: every slice, without prompts.
        axis: what the slices are perpendicular to.
        content_hash: names the image in the embedding cache; None keeps its embeddings out of it.
        priority: how urgent its calls of the network are.
        progress: called with slices done and slices in all, from this thread.
        cancelled: asked before each batch.

    Raises:
        PromptError: a slice or prompt outside the volume. ImageError: values that cannot be used.
        SegmentationCancelledError: `cancelled` said so; nothing is returned then.
    """
    wanted = {index: SlicePrompts() for index in range(slice_count(array.shape, axis))} if prompts is None else dict(prompts)
    size = slice_size(array.shape, axis)
    for index, item in wanted.items():
        take_slice(array, axis, index)
        item.check(size)
    mask = np.zeros(array.shape[:3], np.uint8)
    iou: dict[int, float] = {}
    uncertainty: dict[int, float] = {}
    order = sorted(wanted)
    for start in range(0, len(order), segmenter.batch):
        if cancelled is not None and cancelled():
            raise SegmentationCancelledError(f"Segmentation was cancelled after {start} of {len(order)} slices.")
        indices = order[start : start + segmenter.batch]
        keys = [None if content_hash is None else SliceKey(content_hash, axis, index) for index in indices]
        embeddings = segmenter.encode_many([take_slice(array, axis, index) for index in indices], keys=keys, priority=priority)
        decoded = segmenter.decode_many(
            [(embedding, wanted[index]) for embedding, index in zip(embeddings, indices, strict=True)], priority=priority
        )
        for index, answer in zip(indices, decoded, strict=True):
            put_slice(mask, axis, index, answer.mask)
            iou[index], uncertainty[index] = answer.iou, mean_entropy(answer.logits)
        if progress is not None:
            progress(start + len(indices), len(order))
    return VolumeResult(mask, iou, uncertainty)


def mean_entropy(logits: NDArray[np.float32]) -> float:
    """Mean over all pixels of the binary entropy of sigmoid(logits), in bits: 0 where the network is sure, 1 at logit 0."""
    distance = np.abs(logits.astype(np.float64))  # entropy is even in the logit
    small = np.exp(-distance)  # at most 1: nothing overflows
    entropy = np.log1p(small) + distance * small / (1 + small)
    return float(entropy.mean() / np.log(2))


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device that a setting names; `auto` is CUDA where there is one, else the CPU.

    Raises:
        SettingError: there is no such device here.
    """
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise SettingError(f"Device {device!r} is unknown, expected auto, cpu, cuda or cuda:<n>.") from error
    if resolved.type not in ("cpu", "cuda"):
        raise SettingError(f"Device {device!r} is not supported, expected auto, cpu, cuda or cuda:<n>.")
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise SettingError(f"Device {device!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices. Use auto or cpu.")
    return resolved
