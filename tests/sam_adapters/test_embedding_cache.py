import dataclasses
import threading

import pytest
import torch

from sam_adapters.embedding_cache import EmbeddingCache, EmbeddingKey, SliceKey
from sam_adapters.errors import SettingError
from sam_adapters.preprocess import SliceFit
from sam_adapters.segmenter import Embedding

KEY = EmbeddingKey(SliceKey("hash", "k", 0), "base sha", "base", 64)


def embedding(values: int = 256) -> Embedding:
    return Embedding(torch.zeros(values), SliceFit((8, 8), 64))


def key(index: int) -> EmbeddingKey:
    return dataclasses.replace(KEY, slice=SliceKey("hash", "k", index))


def test_least_recently_used_goes_first() -> None:
    cache = EmbeddingCache(3 * 1024)  # three embeddings of 256 float32
    for index in range(3):
        cache.put(key(index), embedding())
    assert cache.get(key(0)) is not None
    cache.put(key(3), embedding())
    assert [cache.get(key(index)) is not None for index in range(4)] == [True, False, True, True]
    assert (len(cache), cache.nbytes) == (3, 3 * 1024)


def test_bytes_are_bounded_for_embeddings_of_any_size() -> None:
    cache = EmbeddingCache(3 * 1024)
    for index in range(3):
        cache.put(key(index), embedding())
    cache.put(key(3), embedding(512))
    assert [index for index in range(4) if cache.get(key(index))] == [2, 3]
    cache.put(key(3), embedding(64))  # replaced, not added
    assert cache.nbytes == 1024 + 256


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = EmbeddingCache(1024)
    cache.put(key(0), embedding())
    cache.put(key(1), embedding(257))
    assert cache.get(key(1)) is None
    assert cache.get(key(0)) is not None


@pytest.mark.parametrize("change", [{"base_sha256": "other"}, {"version": "other"}, {"image_size": 128}, {"slice": SliceKey("x", "k", 0)}])
def test_another_network_or_slice_never_reads_it(change: dict[str, object]) -> None:
    cache = EmbeddingCache()
    cache.put(KEY, embedding())
    assert cache.get(dataclasses.replace(KEY, **change)) is None


def test_clear_and_bad_size() -> None:
    cache = EmbeddingCache()
    cache.put(KEY, embedding())
    cache.clear()
    assert (len(cache), cache.nbytes, cache.get(KEY)) == (0, 0, None)
    with pytest.raises(SettingError, match="-1 bytes"):
        EmbeddingCache(-1)


def test_many_threads_keep_the_books() -> None:
    cache = EmbeddingCache(10 * 1024)

    def work(start: int) -> None:
        for index in range(200):
            cache.put(key((start + index) % 40), embedding())
            cache.get(key(index % 40))

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert (len(cache), cache.nbytes) == (10, 10 * 1024)
