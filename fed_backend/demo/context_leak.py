"""Does the frame of the image give the label's place away?

Data sets of crops are often cut round the lesion and padded with zeros: the rectangle of real pixels then is the lesion's box plus a
known margin, and "segmentation without a prompt" measures how well a network reads the frame. That is tested here, before anything
runs, on training and validation cases:

1. the content box of a case is the in-plane bounding box of everything that is not padding, over all slices; the label box likewise;
2. the margins between the two are taken as the median over a site's cases (someone who knows how the crops were made knows them);
3. the content box with the margins removed is a guess of the label box that uses no tissue; its IoU with the label box is the figure;
4. the same with one constant box (the median label box) tells how much is simply "always in the same place".

The frame leaks where the guess is good (median IoU at least 0.7) and better than the constant box by at least 0.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_backend.demo.hospital import Hospital, read_pixels, read_truth

GOOD_GUESS = 0.7
BETTER_THAN_CONSTANT = 0.1
PICTURE_TOLERANCE = 0.05
"""Fraction of the grey range that counts as black in a picture: JPEG does not keep black exactly black."""

Box = NDArray[np.float64]
"""In-plane box x0, y0, x1, y1, inclusive, in voxels (x: column i, y: row j)."""


@dataclass(frozen=True)
class LeakFinding:
    """What the test found at one site, or over all (the worst site decides).

    Attributes:
        leaks: whether the frame gives the label's box away.
        iou: median IoU between the box guessed from the frame and the label's box.
        constant_iou: the same for one constant box.
        cases: number of cases looked at.
    """

    leaks: bool
    iou: float
    constant_iou: float
    cases: int


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """In-plane bounding box over all slices of a boolean (k, j, i) mask; None if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=(0, 2))), np.flatnonzero(mask.any(axis=(0, 1)))
    if not rows.size:
        return None
    return np.array([columns[0], rows[0], columns[-1], rows[-1]], float)


def box_iou(a: Box, b: Box) -> float:
    """Intersection over union of two inclusive boxes; an inside-out box counts as empty."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    overlap = float(np.prod(np.clip(high - low + 1, 0, None)))
    areas = [float(np.prod(np.clip(box[2:] - box[:2] + 1, 0, None))) for box in (a, b)]
    union = sum(areas) - overlap
    return overlap / union if union > 0 else 0.0


def content_mask(pixels: NDArray[np.float32], *, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """Voxels that are not padding: above the darkest value by more than `tolerance` of the grey range; (k, j, i[, 3]) -> (k, j, i)."""
    grey = pixels.max(axis=-1) if pixels.ndim == 4 else pixels
    low, high = float(grey.min()), float(grey.max())
    return np.asarray(grey > low + tolerance * (high - low))


def judge(contents: Sequence[Box], labels: Sequence[Box], sizes: Sequence[tuple[int, int]]) -> LeakFinding:
    """The finding from content boxes, label boxes and picture sizes (columns, rows) of the same cases."""
    if not labels:
        return LeakFinding(False, 0.0, 0.0, 0)
    content, label = np.stack(contents), np.stack(labels)
    scale = np.array([[width, height, width, height] for width, height in sizes], float)
    guess = content + np.median(label - content, axis=0)
    constant = np.median(label / scale, axis=0) * scale
    iou = float(np.median([box_iou(a, b) for a, b in zip(guess, label, strict=True)]))
    constant_iou = float(np.median([box_iou(a, b) for a, b in zip(constant, label, strict=True)]))
    leaks = iou >= GOOD_GUESS and iou - constant_iou >= BETTER_THAN_CONSTANT
    return LeakFinding(leaks, iou, constant_iou, len(labels))


def site_finding(hospital: Hospital, *, max_cases: int = 24) -> LeakFinding:
    """Test one hospital on up to `max_cases` of its training and validation cases."""
    contents, labels, sizes = [], [], []
    tolerance = PICTURE_TOLERANCE if hospital.pictures else 0.0
    for case in (hospital.split.train + hospital.split.val)[:max_cases]:
        pixels, truth = read_pixels(hospital.images[case]), read_truth(hospital.truths[case])
        content, label = bounding_box(content_mask(pixels, tolerance=tolerance)), bounding_box(truth)
        if content is not None and label is not None:
            contents.append(content)
            labels.append(label)
            sizes.append((truth.shape[2], truth.shape[1]))
    return judge(contents, labels, sizes)


def overall(findings: Sequence[LeakFinding]) -> LeakFinding:
    """The worst site's finding: one leaking site is enough to leave the no-prompt column out everywhere."""
    worst = max(findings, key=lambda finding: (finding.leaks, finding.iou - finding.constant_iou))
    return LeakFinding(worst.leaks, worst.iou, worst.constant_iou, sum(finding.cases for finding in findings))
