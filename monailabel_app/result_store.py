"""Results that a client may refer to again: for the next click, for undo and redo. Bounded in bytes, kept apart by their owner.

Threads: one lock, held for dictionary work only and never while another is taken.
"""

import secrets
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monailabel_app.app_errors import NotFoundError
from monailabel_app.image_sources import ImageSource
from sam_adapters.prompts import Axis
from sam_adapters.segmenter import Decoded

ID_BYTES = 16
"""Random bytes of an id: 128 bits cannot be guessed."""


@dataclass(frozen=True)
class Result:
    """One mask of one slice, for one label.

    Attributes:
        owner: the user who asked for it.
        source: the image, as the request named it.
        content_hash: the image's content; see `MedicalImage`.
        axis, index: the slice.
        label: the segment's name.
        version: adapter version that made it.
        engine: what computed it, e.g. `torch-cpu-float32`.
        size: rows and columns of the slice.
        bits: the mask, one bit a pixel, row by row, highest bit first.
        low_res: (m, m) float16 logits, the previous mask of the next click.
        iou: the network's own estimate of the mask's IoU with the truth.
    """

    owner: str
    source: ImageSource
    content_hash: str
    axis: Axis
    index: int
    label: str
    version: str
    engine: str
    size: tuple[int, int]
    bits: bytes
    low_res: NDArray[np.float16]
    iou: float

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns)."""
        rows, columns = self.size
        return np.unpackbits(np.frombuffer(self.bits, np.uint8), count=rows * columns).reshape(self.size).astype(np.bool_)

    @property
    def logits(self) -> NDArray[np.float32]:
        """(m, m), as `SlicePrompts.mask` takes them."""
        return self.low_res.astype(np.float32)

    @property
    def nbytes(self) -> int:
        """Memory that it holds, roughly."""
        return len(self.bits) + self.low_res.nbytes + 1024


@dataclass(frozen=True)
class ResultOrigin:
    """What all results of one request or job share; see `Result`."""

    owner: str
    source: ImageSource
    content_hash: str
    axis: Axis
    label: str
    version: str
    engine: str

    def result(self, index: int, decoded: Decoded) -> Result:
        """The result for one slice of it."""
        mask = decoded.mask
        bits = np.packbits(mask).tobytes()
        low_res = np.clip(decoded.low_res, -60000, 60000).astype(np.float16)
        return Result(**vars(self), index=index, size=(mask.shape[0], mask.shape[1]), bits=bits, low_res=low_res, iou=decoded.iou)


class ResultStore:
    """Results by id, at most `max_bytes` of them.

    What was not used for longest goes first, and always from the owner who holds most: one person's whole volume does not push out
    another's clicks.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._results: OrderedDict[str, Result] = OrderedDict()
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def put(self, result: Result) -> str:
        """Keep a result; returns its new id, which cannot be guessed."""
        name = secrets.token_hex(ID_BYTES)
        with self._lock:
            self._results[name] = result
            self._held[result.owner] += result.nbytes
            while self._held.total() > self.max_bytes and len(self._results) > 1:
                self._drop_one()
        return name

    def get(self, name: str, owner: str) -> Result:
        """A result of this owner, now the most recently used one.

        Raises:
            NotFoundError: there is none, it has expired, or it is somebody else's: the three look the same.
        """
        with self._lock:
            found = self._results.get(name)
            if found is None or found.owner != owner:
                raise NotFoundError(
                    f"There is no result {name[:40]!a} of yours here, or it has expired: send the prompts again without it."
                )
            self._results.move_to_end(name)
            return found

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return self._held.total()

    def __len__(self) -> int:
        with self._lock:
            return len(self._results)

    def _drop_one(self) -> None:
        owner = self._held.most_common(1)[0][0]
        name = next(name for name, result in self._results.items() if result.owner == owner)
        dropped = self._results.pop(name)
        self._held[owner] -= dropped.nbytes
        if not self._held[owner]:
            del self._held[owner]
