"""Labelled cases, read into memory. No torch; reads only. Which there are is `cases`.

A case that cannot be used is reported with its reason and left out; it never stops the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam_adapters.cases import LabelledCase
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.images import MedicalImage, read_image, read_label
from sam_adapters.intensity_window import windowed
from sam_adapters.label_log import label_file_sha256


@dataclass(frozen=True)
class LoadedCase:
    """A labelled case in memory.

    Attributes:
        source: where it came from.
        image: the image.
        target: (k, j, i) boolean, True inside the structure.
    """

    source: LabelledCase
    image: MedicalImage
    target: NDArray[np.bool_]


@dataclass(frozen=True)
class SkippedCase:
    """A case that could not be used, and why."""

    case: str
    reason: str


def load_case(case: LabelledCase, label_value: int = 0, window: str = "") -> LoadedCase:
    """Read image and label.

    Args:
        label_value: the label value that is the structure; 0 means every value above 0.
        window: `SiteSettings.window`; the image comes as the network is to see it.

    Raises:
        ImageError: the image cannot be read.
        LabelError: the label cannot be read, lies on another grid, or is no longer the one that `label_sha256` names.
    """
    image = read_image(case.image)
    label = read_label(case.label, image)
    if label_file_sha256(case.label) != case.label_sha256:
        raise LabelError(f"Label {case.label.name} was saved again meanwhile; the next tuning or gate will use it.")
    return LoadedCase(case, windowed(image, window), label > 0 if label_value == 0 else label == label_value)


def load_cases(cases: Sequence[LabelledCase], label_value: int = 0, window: str = "") -> Iterator[LoadedCase | SkippedCase]:
    """Read one case after the other; only the one that was yielded last need be in memory."""
    for case in cases:
        try:
            yield load_case(case, label_value, window)
        except (ImageError, LabelError) as error:
            yield SkippedCase(case.case, str(error))
        except OSError as error:
            yield SkippedCase(case.case, f"{case.image.name} or its label cannot be read: {error.strerror or error}.")
