"""The same clicks for every way of answering them: slices of one image, each with a point or a box."""

from dataclasses import dataclass

import numpy as np

from sam_adapters.images import MedicalImage
from sam_adapters.prompts import Axis, SlicePrompts, slice_count, slice_size


@dataclass(frozen=True)
class Click:
    """A point (even numbers) or a box (odd numbers) on one slice along `axis`."""

    axis: Axis
    index: int
    x: int
    y: int
    box: bool

    @property
    def prompts(self) -> SlicePrompts:
        """As the segmenter takes it."""
        if not self.box:
            return SlicePrompts(points=((float(self.x), float(self.y), 1),))
        return SlicePrompts(box=(float(max(self.x - 40, 0)), float(max(self.y - 40, 0)), float(self.x), float(self.y)))

    def body(self, case: str) -> dict[str, object]:
        """As `POST /fedsca/segment` takes it (along k)."""
        body: dict[str, object] = {"image": case, "axis": self.axis, "index": self.index}
        if not self.box:
            return {**body, "foreground": [[self.x, self.y, self.index]]}
        return {**body, "roi": [max(self.x - 40, 0), self.x, max(self.y - 40, 0), self.y, self.index, self.index]}


def spread_clicks(image: MedicalImage, count: int, seed: int, *, first: float = 0.1, last: float = 0.9) -> list[Click]:
    """`count` clicks on different slices along k, evenly from `first` to `last` of the volume, in a seeded order."""
    rng = np.random.default_rng(seed)
    slices = slice_count(image.array.shape, "k")
    rows, columns = slice_size(image.array.shape, "k")
    indices = np.unique(np.linspace(first * (slices - 1), last * (slices - 1), count).round().astype(int))
    if len(indices) < count:
        raise ValueError(
            f"{count} different slices are asked for, but the image has {slices} along k: measure with fewer or a larger case."
        )
    return [
        Click("k", int(index), int(columns * rng.uniform(0.25, 0.4)), int(rows * rng.uniform(0.45, 0.6)), number % 2 == 1)
        for number, index in enumerate(rng.permutation(indices))
    ]
