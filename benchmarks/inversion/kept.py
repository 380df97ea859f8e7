"""Arrays that take long to compute, kept in files, so that a measurement that was stopped goes on where it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class Kept:
    """A folder of arrays by name. The folder belongs to one setting of the measurement: another one needs another folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def array(self, name: str, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The array of that name, computed if it is not there."""
        path = self._folder / f"{name}.npy"
        if not path.exists():
            temporary = path.with_suffix(".part")
            with temporary.open("wb") as file:
                np.save(file, compute())
            temporary.replace(path)
        return np.asarray(np.load(path), np.float32)

    def rows(self, name: str, count: int, row: Callable[[int], NDArray[np.floating]]) -> NDArray[np.float32]:
        """Rows 0 .. count - 1, each computed and kept on its own, (count, n)."""
        return np.stack(
            [self.array(f"{name}-{number:04d}", lambda number=number: np.asarray(row(number), np.float32)) for number in range(count)]
        )
