"""The patients of the attack, drawn by the demo's virtual hospitals, and what an attacker knows of such pictures beforehand.

No patient's data. The attacker owns pictures of other patients from the same scanner (same protocol), which is the most he could have:
their mean and principal components are his prior, and every reconstruction is compared with what that alone gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_backend.demo.virtual_hospitals import draw_case, protocol, virtual_hospital
from sam_adapters.case_loading import SkippedCase, load_cases
from sam_adapters.cases import LabelledCase
from sam_adapters.evaluation import largest_slices
from sam_adapters.label_log import label_file_sha256
from sam_adapters.preprocess import prepare_slice
from sam_adapters.tuning_slices import TrainingSlice, training_slice

HOSPITAL = 1
"""`lakeside`: magnitude noise, shading, bright lesions."""
SHAPE = (6, 96, 96)


def labelled_patients(folder: Path, count: int, *, seed: int) -> list[LabelledCase]:
    """Draw a hospital of `count` patients into `folder`, as files, each with its label."""
    hospital = virtual_hospital(folder, HOSPITAL, seed=seed, train=count, val=0, test=0, size=SHAPE)
    return [
        LabelledCase(name, hospital.patients[name], image, hospital.truths[name], label_file_sha256(hospital.truths[name]))
        for name, image in hospital.images.items()
    ]


def probed_slices(cases: Sequence[LabelledCase], size: int) -> list[TrainingSlice]:
    """The slice of each case that a gradient probe looks at, as the network sees it: its largest, in a square of side `size`.

    Raises:
        ValueError: a case cannot be read.
    """
    found = []
    for loaded in load_cases(cases, window="auto"):
        if isinstance(loaded, SkippedCase):
            raise ValueError(f"{loaded.case}: {loaded.reason}")
        found.append(training_slice(loaded, largest_slices(loaded.target, 1)[0], size))
    return found


def other_patients(count: int, size: int, *, seed: int) -> NDArray[np.float32]:
    """Pictures of the attacker's own patients, three slices of each, (3 * count, size * size), values 0..1."""
    style, rows = protocol(HOSPITAL, seed), []
    for number in range(count):
        drawn = draw_case(style, np.random.default_rng([seed, HOSPITAL, 1_000_000 + number]), SHAPE)
        rows += [prepare_slice(drawn.image[index], size).pixels[0].ravel() for index in largest_slices(drawn.truth, 3)]
    return np.stack(rows)


@dataclass(frozen=True)
class Prior:
    """Pictures as mean + z · basis with z standard normal.

    Attributes:
        mean: (S * S,).
        basis: (k, S * S), principal components times their standard deviation, strongest first.
    """

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]

    @classmethod
    def of(cls, pictures: NDArray[np.float32], components: int) -> "Prior":
        """Mean and the first principal components of pictures (n, S * S), n > components."""
        mean = pictures.mean(axis=0, dtype=np.float64)
        _, strength, rows = np.linalg.svd(pictures - mean, full_matrices=False)
        return cls(mean, rows[:components] * (strength[:components, None] / np.sqrt(len(pictures) - 1)))

    def picture(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Pixels (S * S,) of coefficients (k,)."""
        return self.mean + z @ self.basis

    def coefficients(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Coefficients (k,) of the nearest picture that the basis can show."""
        return np.asarray((pixels.ravel() - self.mean) @ self.basis.T / (self.basis**2).sum(axis=1))


def with_pixels(one: TrainingSlice, pixels: NDArray[np.floating]) -> TrainingSlice:
    """The slice with other pixels (S * S,), grey, and the same target."""
    side = one.target.shape[0]
    grey = np.asarray(pixels, np.float32).reshape(1, side, side)
    return TrainingSlice(np.broadcast_to(grey, (3, side, side)), one.target, one.filled)


def with_target(one: TrainingSlice, target: NDArray[np.float32]) -> TrainingSlice:
    """The slice with another target (S, S)."""
    return TrainingSlice(one.pixels, target, one.filled)


def copied(one: TrainingSlice, decibels: float, *, seed: int) -> TrainingSlice:
    """The slice as somebody may hold it who has no exact copy: with noise that leaves a PSNR of `decibels`."""
    noise = np.random.default_rng(seed).normal(size=one.target.shape) * 10 ** (-decibels / 20)
    return with_pixels(one, one.pixels[0] + noise)
