"""The disk tier of the embedding cache: embeddings outlive a restart, and more of them fit than into memory.

One file an embedding, named by the sha256 of its key: a safetensors file that repeats the key and the checksum of its content, so that a
file of another key, or one that a power cut tore, is not used but removed. Least recently used out first, bounded in bytes. It holds
nothing that could not be made again, but what it holds is derived from images: keep its folder as private as they are.

Threads: `get` may be called from any thread and reads at once. `put` hands over to one daemon thread, which alone writes and removes
files; when it is more than `QUEUE` embeddings behind, further ones are not kept. A folder belongs to one process at a time.
"""

import hashlib
import json
import logging
import os
import queue
import threading
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sam_adapters import atomic

logger = logging.getLogger(__name__)

QUEUE = 32
_SUFFIX = ".safetensors"
_TENSOR = "features"


class EmbeddingDisk:
    """Map from a key (any text) to features with a few numbers that describe them, at most `max_bytes` of files in `folder`."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._queue: queue.Queue[tuple[str, Tensor, tuple[int, ...]]] = queue.Queue(QUEUE)
        self._sizes = {path.name: path.stat().st_size for path in self._by_age()}
        self._thread = threading.Thread(target=self._write_forever, name="fedsca-embeddings", daemon=True)
        self._thread.start()

    def get(self, key: str) -> tuple[Tensor, tuple[int, ...]] | None:
        """Features and their numbers as they were put; None if they are not there, or not whole."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        found = _decode(data, key)
        if found is None:
            path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            os.utime(path)  # now the most recently used one
        return found

    def put(self, key: str, features: Tensor, numbers: tuple[int, ...]) -> None:
        """Keep features, soon; not at all when the disk is too slow to follow."""
        with suppress(queue.Full):
            self._queue.put_nowait((key, features.cpu(), numbers))

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was put is written, at most `timeout` seconds; whether it was."""
        with self._queue.all_tasks_done:
            return self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, timeout)

    @property
    def nbytes(self) -> int:
        """Bytes in files now."""
        return sum(self._sizes.copy().values())

    def _path(self, key: str) -> Path:
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + _SUFFIX)

    def _write_forever(self) -> None:
        while True:
            key, features, numbers = self._queue.get()
            try:
                self._write(key, features, numbers)
            except OSError as error:
                logger.warning("An embedding was not kept on the disk (%s).", error)
            finally:
                self._queue.task_done()

    def _write(self, key: str, features: Tensor, numbers: tuple[int, ...]) -> None:
        path = self._path(key)
        data = _encode(key, features, numbers)
        if len(data) > self.max_bytes:
            return
        self._make_room(len(data) - self._sizes.get(path.name, 0))
        atomic.write_bytes(path, data)
        self._sizes[path.name] = len(data)

    def _make_room(self, needed: int) -> None:
        if self.nbytes + needed <= self.max_bytes:
            return
        self._sizes = {path.name: path.stat().st_size for path in self._by_age()}  # `get` may have removed some
        for path in self._by_age():
            if self.nbytes + needed <= self.max_bytes:
                return
            path.unlink(missing_ok=True)
            self._sizes.pop(path.name, None)

    def _by_age(self) -> list[Path]:
        """The embedding files, least recently used first."""
        times: list[tuple[float, Path]] = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(FileNotFoundError):
                times.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(times)]


def _encode(key: str, features: Tensor, numbers: tuple[int, ...]) -> bytes:
    content: bytes = save({_TENSOR: features.contiguous()})
    header = json.dumps({"key": key, "numbers": numbers, "sha256": hashlib.sha256(content).hexdigest()}).encode()
    return len(header).to_bytes(8, "little") + header + content


def _decode(data: bytes, key: str) -> tuple[Tensor, tuple[int, ...]] | None:
    """The content of a file, None when it is not whole or belongs to another key."""
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        content = data[8 + length :]
        if header["key"] != key or header["sha256"] != hashlib.sha256(content).hexdigest():
            return None
        return load(content)[_TENSOR], tuple(int(number) for number in header["numbers"])
    except (ValueError, KeyError, TypeError, SafetensorError):
        return None
