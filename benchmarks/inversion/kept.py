"""Arrays that take long to compute, kept in files, so that a measurement that was stopped goes on where it was."""

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_adapters import atomic


class Kept:
    """A folder of arrays by name. The folder belongs to one setting of the measurement: another one needs another folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def array(self, name: str, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The array of that name, computed if it is not there."""
        path = self._folder / f"{name}.npy"
        if not path.exists():
            buffer = io.BytesIO()
            np.save(buffer, compute())
            atomic.write_bytes(path, buffer.getvalue())
        return np.asarray(np.load(path), np.float32)

    def rows(self, name: str, count: int, row: Callable[[int], NDArray[np.floating]]) -> NDArray[np.float32]:
        """Rows 0 .. count - 1, each computed and kept on its own, (count, n)."""
        found = []
        for number in range(count):
            compute = functools.partial(row, number)
            found.append(self.array(f"{name}-{number:04d}", lambda compute=compute: compute().astype(np.float32)))  # type: ignore[misc]
        return np.stack(found)
