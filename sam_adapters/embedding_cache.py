"""Embeddings of slices that were looked at, so that the second click on a slice does not run the encoder.

In memory: least recently used out first, bounded in bytes. Behind it, if one is given, a disk tier (`embedding_disk`). Thread-safe by a
lock of its own, which is held for dictionary work only, never during a read of the disk and never while another lock is taken: the cache
may be used from inside any other lock.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from sam_adapters.embedding_disk import EmbeddingDisk
from sam_adapters.errors import SettingError
from sam_adapters.preprocess import SliceFit

DEFAULT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Embedding:
    """A slice as the encoder sees it.

    Attributes:
        features: (256, e, e) of `runner.FEATURES_DTYPE`, on the segmenter's device; never changed after it is made.
        fit: where the slice lies in the network's square input.
    """

    features: Tensor
    fit: SliceFit

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self.features.nbytes


@dataclass(frozen=True)
class SliceKey:
    """Names a slice by content: `content_hash` of the image, the slices' axis (k, j or i) and the slice's index.

    The hash is that of the image as the network sees it: another intensity window (`intensity_window.windowed`) is another hash.
    """

    content_hash: str
    axis: str
    index: int


@dataclass(frozen=True)
class EmbeddingKey:
    """A slice seen through one network: a new adapter version never reads an old version's embedding."""

    slice: SliceKey
    base_sha256: str
    version: str
    image_size: int

    @property
    def text(self) -> str:
        """All of it as one text, the key on the disk."""
        return "|".join(
            map(str, (self.base_sha256, self.version, self.image_size, self.slice.content_hash, self.slice.axis, self.slice.index))
        )


class EmbeddingCache:
    """Map from EmbeddingKey to Embedding, at most `max_bytes` large. One cache may serve several segmenters.

    Attributes:
        hits: answers from memory since the start.
        disk_hits: answers from the disk.
        misses: questions without an answer.
    """

    def __init__(self, max_bytes: int = DEFAULT_BYTES, disk: EmbeddingDisk | None = None) -> None:
        if max_bytes < 0:
            raise SettingError(f"Embedding cache of {max_bytes} bytes, expected 0 (no cache) or more.")
        self.max_bytes = max_bytes
        self.hits = self.disk_hits = self.misses = 0
        self._disk = disk
        self._entries: OrderedDict[EmbeddingKey, Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding, now the most recently used one; None if it is not there."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
                self.hits += 1
                return found
        stored = None if self._disk is None else self._disk.get(key.text)
        with self._lock:
            if stored is None:
                self.misses += 1
                return None
            self.disk_hits += 1
        features, (rows, columns) = stored
        embedding = Embedding(features, SliceFit((rows, columns), key.image_size))
        self._remember(key, embedding)
        return embedding

    def in_memory(self, key: EmbeddingKey) -> Embedding | None:
        """The embedding if it is in memory; not counted as a question or a use."""
        with self._lock:
            return self._entries.get(key)

    def put(self, key: EmbeddingKey, embedding: Embedding) -> None:
        """Keep an embedding, dropping those that were not used for longest. One larger than the cache is not kept."""
        self._remember(key, embedding)
        if self._disk is not None:
            self._disk.put(key.text, embedding.features, embedding.fit.size)

    def _remember(self, key: EmbeddingKey, embedding: Embedding) -> None:
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old.nbytes
            if embedding.nbytes > self.max_bytes:
                return
            self._entries[key] = embedding
            self._bytes += embedding.nbytes
            while self._bytes > self.max_bytes:
                _, dropped = self._entries.popitem(last=False)
                self._bytes -= dropped.nbytes

    def figures(self) -> dict[str, int]:
        """What it holds and how it did so far, JSON-ready."""
        with self._lock:
            return {
                "slices": len(self._entries),
                "bytes": self._bytes,
                "max_bytes": self.max_bytes,
                "hits": self.hits,
                "disk_hits": self.disk_hits,
                "misses": self.misses,
            }

    def clear(self) -> None:
        """Drop everything in memory."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held in memory now."""
        with self._lock:
            return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
