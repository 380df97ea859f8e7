"""Embeddings of slices that were looked at, so that the second click on a slice does not run the encoder.

Least recently used out first, bounded in bytes. Thread-safe by a lock of its own, which is held for dictionary work only and never
while another lock is taken: it may be used from inside any other lock.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam_adapters.errors import SettingError

if TYPE_CHECKING:
    from sam_adapters.segmenter import Embedding

DEFAULT_BYTES = 512 * 2**20


@dataclass(frozen=True)
class SliceKey:
    """Names a slice by content: `content_hash` of the image, the slices' axis (k, j or i) and the slice's index."""

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


class EmbeddingCache:
    """Map from EmbeddingKey to Embedding, at most `max_bytes` large. One cache may serve several segmenters."""

    def __init__(self, max_bytes: int = DEFAULT_BYTES) -> None:
        if max_bytes < 0:
            raise SettingError(f"Embedding cache of {max_bytes} bytes, expected 0 (no cache) or more.")
        self.max_bytes = max_bytes
        self._entries: OrderedDict[EmbeddingKey, Embedding] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: EmbeddingKey) -> "Embedding | None":
        """The embedding, now the most recently used one; None if it is not there."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: EmbeddingKey, embedding: "Embedding") -> None:
        """Keep an embedding, dropping those that were not used for longest. One larger than the cache is not kept."""
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

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)
