"""Which range of an image's values the network gets to see. Pure functions on numpy; no torch.

A slice is stretched from its own minimum to its own maximum. In CT that spends most of the range on air and metal: between two organs there
is nearly nothing left. A window cuts the values off first. It is applied once, where an image is read for serving, tuning, probe or gate,
and to the voxels of the whole image, so that all of them show the network the same pixels.

    ""           the slice's own minimum to maximum
    "auto"       SOFT_TISSUE for CT, the slice's own minimum to maximum for everything else
    "LOW..HIGH"  that range, in the image's own units, for every image but pictures (PNG, JPEG)
"""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.errors import SettingError

if TYPE_CHECKING:
    from sam_adapters.images import MedicalImage

AUTO = "auto"

AIR_BELOW = -500
AIR_SHARE = 0.01
TISSUE = (-200, 300)
TISSUE_SHARE = 0.1
"""How Hounsfield units are told by the values: see `looks_like_hounsfield`."""

_RANGE = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)\.\.(-?\d{1,9}(?:\.\d{1,9})?)")
_SAMPLES_PER_AXIS = 64


@dataclass(frozen=True)
class Window:
    """Values below `low` become `low`, values above `high` become `high`."""

    low: float
    high: float

    @property
    def text(self) -> str:
        """As a setting is written."""
        return f"{self.low:g}..{self.high:g}"


SOFT_TISSUE = Window(-160.0, 240.0)
"""Hounsfield units: level 40, width 400, the abdominal window that MedSAM's training images were cut to."""


def parse_window(setting: str) -> Window | None:
    """The range that a setting names; None for "" and "auto".

    Raises:
        SettingError: the setting is none of those in the module's description.
    """
    if setting in ("", AUTO):
        return None
    match = _RANGE.fullmatch(setting)
    if match is None or not float(match[1]) < float(match[2]):
        raise SettingError(
            f"Setting window is {setting!r}, expected '' (a slice's own range), 'auto' (soft tissue in CT) or LOW..HIGH, e.g. -160..240."
        )
    return Window(float(match[1]), float(match[2]))


def window_of(image: "MedicalImage", setting: str) -> Window | None:
    """The window that a setting means for an image; None for the slice's own range. Raises as `parse_window`."""
    if image.picture or image.array.ndim != 3:
        return None
    if setting == AUTO:
        return SOFT_TISSUE if is_ct(image) else None
    return parse_window(setting)


def windowed(image: "MedicalImage", setting: str) -> "MedicalImage":
    """The image as the network is to see it: its values cut off at the window, under another content hash. Raises as `parse_window`."""
    window = window_of(image, setting)
    if window is None:
        return image
    array = clip(image.array, window)
    array.setflags(write=False)
    digest = hashlib.sha256(f"{image.content_hash} {window.text}".encode()).hexdigest()
    return replace(image, array=array, content_hash=digest)


def is_ct(image: "MedicalImage") -> bool:
    """Whether an image is CT: by its DICOM modality, where there is none by its values."""
    return image.modality == "CT" if image.modality else looks_like_hounsfield(image.array)


def looks_like_hounsfield(array: NDArray[Any]) -> bool:
    """Whether values (k, j, i) look like Hounsfield units.

    They do when at least 1 % of the voxels lie at -500 or below (air and lung; MR, PET and ultrasound have nothing there) and at least 10 %
    between -200 and 300 (soft tissue; MR phase images spread over thousands). Looked at on at most 64 planes along each axis.
    """
    if array.ndim != 3 or array.dtype.kind not in "if":
        return False
    sample = array[tuple(slice(None, None, -(-count // _SAMPLES_PER_AXIS)) for count in array.shape)]
    low, high = TISSUE
    air = np.count_nonzero(sample <= AIR_BELOW) / sample.size
    tissue = np.count_nonzero((sample >= low) & (sample <= high)) / sample.size
    return bool(air >= AIR_SHARE and tissue >= TISSUE_SHARE)


def clip(array: NDArray[Any], window: Window) -> NDArray[Any]:
    """A copy of `array`, of its own type, cut off at the window (rounded to whole numbers for whole numbers); NaN and infinities stay."""
    if array.dtype.kind in "iu":
        limits = np.iinfo(array.dtype)
        low, high = (int(min(max(round(bound), limits.min), limits.max)) for bound in (window.low, window.high))
        return np.asarray(np.clip(array, low, high))
    clipped = np.clip(array, array.dtype.type(window.low), array.dtype.type(window.high))
    finite = np.isfinite(array)
    return clipped if finite.all() else np.where(finite, clipped, array)
