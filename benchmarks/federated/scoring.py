"""Dice and HD95 of a network on a hospital's test cases, by MONAI's metrics. Prompts are drawn once, the same for every method.

    box     the target's tight box, each side off by up to a tenth of it (as tuning jitters it)
    point   one click drawn from the target's core
    none    no prompt
    filled  no network: everything inside that box, to be printed beside every box figure

Dice is of the scored slices of a case taken together. HD95 is in the plane, in the case's real spacing, the mean over its scored slices; a
slice for which nothing was predicted counts with the diagonal of the image, because no distance is defined.
"""

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.meandice import compute_dice
from numpy.typing import NDArray

from sam_adapters.case_loading import load_case
from sam_adapters.cases import LabelledCase
from sam_adapters.evaluation import largest_slices
from sam_adapters.prompts import SlicePrompts, take_slice, tight_box
from sam_adapters.segmenter import Segmenter
from sam_adapters.simulated_prompts import apply_box_jitter, draw_box_jitter, draw_interior_point

Mask = NDArray[np.bool_]
FILLED = "filled"


@dataclass(frozen=True)
class TestSlice:
    """Pixels (h, w[, 3]), target (h, w), and what is asked: kind -> prompts; box as (x0, y0, x1, y1)."""

    pixels: NDArray[Any]
    target: Mask
    prompts: dict[str, SlicePrompts]
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class TestCase:
    """The scored slices of one case and the spacing (rows, columns)."""

    name: str
    slices: tuple[TestSlice, ...]
    spacing: tuple[float, float]


def read_test_case(
    case: LabelledCase,
    spacing: tuple[float, float],
    *,
    kinds: Sequence[str],
    slices: int,
    label_value: int,
    window: str,
    seed: int,
    inverted: bool = False,
) -> TestCase:
    """Cut out the scored slices and draw their prompts, from seed, case and slice alone."""
    loaded = load_case(case, label_value, window)
    array = loaded.image.array
    if inverted:
        array = array.max() - array + array.min()
    chosen = [
        _test_slice(take_slice(array, "k", k), take_slice(loaded.target, "k", k), kinds, [seed, zlib.crc32(case.case.encode()), k])
        for k in largest_slices(loaded.target, slices or None)
    ]
    return TestCase(case.case, tuple(chosen), spacing)


def _test_slice(pixels: NDArray[Any], target: Mask, kinds: Sequence[str], seed: list[int]) -> TestSlice:
    rng = np.random.default_rng(seed)
    rows, columns = target.shape
    box = apply_box_jitter(tight_box(target), draw_box_jitter(rng), (rows, columns))
    x, y = draw_interior_point(np.asarray(target, bool), rng)
    known = {"box": SlicePrompts(box=box), "point": SlicePrompts(points=((float(x), float(y), 1),)), "none": SlicePrompts()}
    return TestSlice(np.array(pixels), np.array(target, bool), {kind: known[kind] for kind in kinds}, box)


def score(segmenter: Segmenter, cases: Sequence[TestCase], kinds: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """kind -> one {case, dice, hd95} for each case that has slices."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    for case in cases:
        embeddings = [segmenter.encode(one.pixels) for one in case.slices]
        for kind in kinds if case.slices else ():
            masks = [
                np.asarray(segmenter.decode(embedding, one.prompts[kind]).logits > 0)
                for embedding, one in zip(embeddings, case.slices, strict=True)
            ]
            found[kind].append({"case": case.name, **case_metrics(masks, [one.target for one in case.slices], case.spacing)})
    return found


def score_filled(cases: Sequence[TestCase]) -> dict[str, list[dict[str, Any]]]:
    """The same for the filled box."""
    return {
        FILLED: [
            {"case": case.name, **case_metrics([_filled(one) for one in case.slices], [one.target for one in case.slices], case.spacing)}
            for case in cases
            if case.slices
        ]
    }


def _filled(one: TestSlice) -> Mask:
    x0, y0, x1, y1 = (round(side) for side in one.box)
    mask = np.zeros(one.target.shape, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def case_metrics(masks: Sequence[Mask], targets: Sequence[Mask], spacing: tuple[float, float]) -> dict[str, float]:
    """Dice over all slices and mean HD95 of the slices. Targets are not empty."""
    predicted, wanted = (torch.from_numpy(np.stack(list(one))).float() for one in (masks, targets))
    dice = compute_dice(predicted[None, None], wanted[None, None], include_background=True)
    diagonal = float(np.hypot(targets[0].shape[0] * spacing[0], targets[0].shape[1] * spacing[1]))
    distances = []
    for mask, target in zip(predicted, wanted, strict=True):
        if not mask.any():
            distances.append(diagonal)
            continue
        distances.append(_hausdorff(mask[None, None], target[None, None], spacing))
    return {"dice": float(dice), "hd95": float(np.mean(distances))}


def _hausdorff(predicted: torch.Tensor, wanted: torch.Tensor, spacing: tuple[float, float]) -> float:
    """MONAI's HD95 of two masks (1, 1, h, w) that are not empty."""
    with warnings.catch_warnings():  # MONAI 1.6 warns of an argument that it passes to itself
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy", category=FutureWarning)
        return float(compute_hausdorff_distance(predicted, wanted, include_background=True, percentile=95, spacing=list(spacing)))
