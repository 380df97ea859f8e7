"""What jobs do: propagation and whole volumes, as iterators of steps for `slice_jobs`. Each step is a slice, or a batch on a GPU."""

from collections.abc import Callable, Iterator
from typing import Any

from monailabel_app.engine import Engine
from monailabel_app.mask_wire import change_between, mask_box
from monailabel_app.prefetcher import cache_slices
from monailabel_app.result_store import Result, ResultOrigin, ResultStore
from monailabel_app.slice_jobs import Step
from monailabel_app.slice_order import outwards
from sam_adapters.embedding_cache import SliceKey
from sam_adapters.images import MedicalImage
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import SlicePrompts, slice_count, take_slice
from sam_adapters.propagation import Neighbour, propagate
from sam_adapters.segmenter import Decoded, Segmenter

CACHE_SHARE = 0.5
"""A job of more slices than this part of the cache keeps puts no embeddings there: they would push out the slices people work on."""


def propagation_work(
    engine: Engine, results: ResultStore, origin: ResultOrigin, image: MedicalImage, start: int, known: Neighbour, within: range
) -> Iterator[Step]:
    """Fill the slices around `start`; see `propagation.propagate`."""
    segmenter = engine.segmenter(origin.version)
    keys = _key_of(segmenter, origin, len(within))
    for index, decoded in propagate(segmenter, image.array, origin.axis, start, known, within, key_of=keys):
        yield [_slice(results, origin, index, decoded)]


def volume_work(engine: Engine, results: ResultStore, origin: ResultOrigin, image: MedicalImage, start: int) -> Iterator[Step]:
    """Segment every slice without prompts, from `start` outwards."""
    segmenter = engine.segmenter(origin.version)
    count = slice_count(image.array.shape, origin.axis)
    keys, order = _key_of(segmenter, origin, count), outwards(start, count)
    for first in range(0, count, segmenter.batch):
        indices = order[first : first + segmenter.batch]
        slices = [take_slice(image.array, origin.axis, index) for index in indices]
        embeddings = segmenter.encode_many(slices, keys=[keys(index) for index in indices], priority=Priority.VOLUME)
        decoded = segmenter.decode_many([(embedding, SlicePrompts()) for embedding in embeddings], priority=Priority.VOLUME)
        yield [_slice(results, origin, index, answer) for index, answer in zip(indices, decoded, strict=True)]


def described(name: str, result: Result, against: Result | None) -> dict[str, Any]:
    """What replies say of a result's mask: its area and box, and what changed against another (None: against an empty mask)."""
    mask = result.mask
    change = change_between(None if against is None else against.mask, mask)
    return {
        "result": name,
        "index": result.index,
        "iou": round(result.iou, 4),
        "area": int(mask.sum()),
        "box": mask_box(mask),
        "change": None if change is None else vars(change),
    }


def _slice(results: ResultStore, origin: ResultOrigin, index: int, decoded: Decoded) -> dict[str, Any]:
    result = origin.result(index, decoded)
    return described(results.put(result), result, None)


def _key_of(segmenter: Segmenter, origin: ResultOrigin, count: int) -> Callable[[int], SliceKey | None]:
    """Names a slice in the cache if it is there already or the whole job fits; see `CACHE_SHARE`."""

    def key_of(index: int) -> SliceKey | None:
        key = SliceKey(origin.content_hash, origin.axis, index)
        fits = segmenter.cache is not None and count <= CACHE_SHARE * cache_slices(segmenter.cache)
        return key if fits or segmenter.cached(key) else None

    return key_of
