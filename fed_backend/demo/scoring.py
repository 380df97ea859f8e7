"""What the scripted radiologist draws from the truth, and how a mask is scored. Pure functions on arrays.

Kept apart from the hospitals' own evaluation on purpose: the figures of the demo are an independent measurement from outside.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

ScoreKind = Literal["box", "point", "none"]

Mask = NDArray[np.bool_]


def dice(prediction: Mask, truth: Mask) -> float:
    """Dice overlap 2|A∩B| / (|A|+|B|) of two boolean arrays of one shape; two empty ones agree perfectly (1).

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"The mask has shape {prediction.shape}, the truth {truth.shape}: both must lie on the image's grid.")
    total = int(prediction.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2.0 * int((prediction & truth).sum()) / total


def slice_box(truth: Mask) -> tuple[int, int, int, int]:
    """Tight inclusive box x0, y0, x1, y1 of a slice (rows, columns) that is not empty."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def deepest_point(truth: Mask) -> tuple[int, int]:
    """(x, y) of the pixel of a slice that lies farthest from the outside; the first in row order where several tie.

    The picture's edge counts as outside.
    """
    padded = np.pad(truth, 1).astype(np.uint8)
    image = sitk.GetImageFromArray(padded)
    distance = sitk.GetArrayFromImage(
        sitk.SignedMaurerDistanceMap(image, insideIsPositive=True, squaredDistance=False, useImageSpacing=False)
    )
    inside = np.where(padded > 0, distance, -np.inf)
    row, column = np.unravel_index(int(np.argmax(inside)), padded.shape)
    return int(column) - 1, int(row) - 1


def target_slices(truth: Mask, limit: int | None = None) -> list[int]:
    """Slices k that hold the target, in order; with `limit` only the ones with the largest area (ties: the lower k)."""
    areas = truth.sum(axis=(1, 2))
    present = [int(k) for k in np.flatnonzero(areas)]
    if limit is not None and len(present) > limit:
        present = sorted(sorted(present, key=lambda k: (-int(areas[k]), k))[:limit])
    return present


def slice_prompts(truth: Mask, slices: Sequence[int], kind: ScoreKind) -> list[dict[str, Any]]:
    """The `slices` parameter of an infer request: per slice a tight box, the deepest point, or nothing."""
    prompts: list[dict[str, Any]] = []
    for k in slices:
        prompt: dict[str, Any] = {"index": int(k)}
        if kind == "box":
            prompt["box"] = list(slice_box(truth[k]))
        elif kind == "point":
            prompt["foreground"] = [list(deepest_point(truth[k]))]
        prompts.append(prompt)
    return prompts


def fill_the_box(truth: Mask, slices: Sequence[int]) -> Mask:
    """What filling every slice's tight box gives: the score that a box prompt gets without looking at the image."""
    filled = np.zeros_like(truth)
    for k in slices:
        x0, y0, x1, y1 = slice_box(truth[k])
        filled[k, y0 : y1 + 1, x0 : x1 + 1] = True
    return filled


def slices_dice(prediction: Mask, truth: Mask, slices: Sequence[int]) -> float:
    """Dice over the volume made of the given slices."""
    if prediction.shape != truth.shape:
        raise ValueError(f"The mask has shape {prediction.shape}, the truth {truth.shape}: both must lie on the image's grid.")
    chosen = list(slices)
    return dice(prediction[chosen], truth[chosen])


def mean(values: Mapping[str, float] | Sequence[float]) -> float | None:
    """Mean of the values, None if there are none."""
    numbers = list(values.values()) if isinstance(values, Mapping) else list(values)
    return float(np.mean(numbers)) if numbers else None
