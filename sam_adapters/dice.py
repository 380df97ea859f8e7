"""The Dice coefficient of binary masks, exactly counted. numpy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of two masks; counts of several slices add up to those of the volume they make.

    Attributes:
        both: voxels in both masks.
        predicted: voxels in the prediction.
        target: voxels in the target.
    """

    both: int = 0
    predicted: int = 0
    target: int = 0

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(self.both + other.both, self.predicted + other.predicted, self.target + other.target)

    @property
    def dice(self) -> float:
        """2 |P ∩ T| / (|P| + |T|), in 0..1; two empty masks agree: 1."""
        total = self.predicted + self.target
        return 2 * self.both / total if total else 1.0


def overlap(prediction: NDArray[Any], target: NDArray[Any]) -> Overlap:
    """Counts of two masks of one shape; every value other than 0 is inside.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"Prediction of shape {list(prediction.shape)}, expected the target's {list(target.shape)}.")
    inside, wanted = prediction != 0, target != 0
    return Overlap(int(np.count_nonzero(inside & wanted)), int(np.count_nonzero(inside)), int(np.count_nonzero(wanted)))


def dice(prediction: NDArray[Any], target: NDArray[Any]) -> float:
    """Dice coefficient of two masks of one shape, in 0..1; see `Overlap.dice`."""
    return overlap(prediction, target).dice
