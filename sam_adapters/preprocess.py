"""One slice to the network's square input, and the network's logits back to the slice. Pure functions.

The inference preprocessing of the original LiteMedSAM: the longest side is resized to S pixels, the slice's own minimum and maximum
become 0 and 1, zeros fill up the bottom or the right, and a grey slice is given three equal channels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from sam_adapters.errors import ImageError

MASK_LOGIT = 16.0
"""How sure a mask made by a person is taken to be, as a logit. LiteMedSAM's own answers reach 5 to 18 inside a target; given the true mask
besides the box, its mean Dice on 15 slices of five kinds was 0.72 at 4, 0.81 at 8 and 0.83 at 16."""


@dataclass(frozen=True)
class SliceFit:
    """How a slice of `size` (rows h, columns w) lies in the square input of side `image_size`: at the top left, resized."""

    size: tuple[int, int]
    image_size: int

    @property
    def scale(self) -> float:
        """Input pixels per slice pixel."""
        return self.image_size / max(self.size)

    @property
    def resized(self) -> tuple[int, int]:
        """Rows and columns of the input that the slice fills; the rest is padding."""
        height, width = self.size
        return max(1, int(height * self.scale + 0.5)), max(1, int(width * self.scale + 0.5))

    @property
    def steps(self) -> tuple[float, float]:
        """Input pixels per slice pixel down and across, after rounding to whole pixels."""
        return self.resized[0] / self.size[0], self.resized[1] / self.size[1]


@dataclass(frozen=True)
class PreparedSlice:
    """A slice ready for the encoder.

    Attributes:
        pixels: (3, S, S) float32, 0..1.
        scale: input pixels per slice pixel.
        size: rows h and columns w of the slice as stored.
    """

    pixels: NDArray[np.float32]
    scale: float
    size: tuple[int, int]

    @property
    def fit(self) -> SliceFit:
        """Where the slice lies in the input."""
        return SliceFit(self.size, int(self.pixels.shape[-1]))


def prepare_slice(pixels: NDArray[Any], image_size: int) -> PreparedSlice:
    """Make the network's input from one slice.

    Args:
        pixels: (h, w) grey or (h, w, 3) colour, any real dtype. NaN and infinities count as the lowest finite value; a slice
            without contrast becomes all zero.
        image_size: side S of the input.

    Raises:
        ImageError: another shape, an empty slice, or values that are not real numbers.
    """
    grey_or_colour = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not grey_or_colour or 0 in pixels.shape:
        raise ImageError(f"A slice of shape {list(pixels.shape)}, expected [rows, columns] or [rows, columns, 3], none of them 0.")
    if pixels.dtype.kind not in "biuf":
        raise ImageError(f"A slice of {pixels.dtype} values, expected real numbers.")
    height, width = int(pixels.shape[0]), int(pixels.shape[1])
    fit = SliceFit((height, width), image_size)
    # the original stretches after resizing; stretching before it too keeps extreme values within float32
    resized = stretch(resize(stretch(_channels(pixels)), fit.resized))
    square = np.zeros((3, image_size, image_size), np.float32)
    square[:, : fit.resized[0], : fit.resized[1]] = resized  # one grey channel is broadcast to three
    return PreparedSlice(square, fit.scale, fit.size)


def prepare_mask(mask: NDArray[Any], image_size: int) -> NDArray[np.float32]:
    """A target mask (h, w) in the frame of `prepare_slice`'s pixels: (S, S) float32, the share of target in each pixel."""
    fit = SliceFit((int(mask.shape[0]), int(mask.shape[1])), image_size)
    square = np.zeros((image_size, image_size), np.float32)
    square[: fit.resized[0], : fit.resized[1]] = resize((mask > 0).astype(np.float32)[None], fit.resized)[0]
    return square


def mask_logits(mask: NDArray[Any], image_size: int, side: int) -> NDArray[np.float32]:
    """A mask that a person made or edited, as the logits of an earlier answer: what `SlicePrompts.mask` takes.

    Args:
        mask: (h, w), not 0 on the target, in pixels of the slice.
        image_size: side S of the network's input.
        side: side m of the decoder's own masks, which cover the same square as the input.

    Returns:
        (m, m) float32: `MASK_LOGIT` where a pixel is all target, -`MASK_LOGIT` where there is none (also in the padding), linear in the
        share between: above 0 where more than half of a pixel is target.
    """
    share = resize(prepare_mask(mask, image_size)[None], (side, side))[0]
    logits: NDArray[np.float32] = (MASK_LOGIT * (2 * np.clip(share, 0, 1) - 1)).astype(np.float32)
    return logits


def restore_logits(logits: NDArray[np.float32], prepared: PreparedSlice | SliceFit) -> NDArray[np.float32]:
    """Logits (S, S) of the square input, back on the slice's own pixels: (h, w) float32."""
    fit = prepared if isinstance(prepared, SliceFit) else prepared.fit
    rows, columns = fit.resized
    inside = torch.from_numpy(np.ascontiguousarray(logits[:rows, :columns], dtype=np.float32))
    if (rows, columns) == fit.size:
        return inside.numpy()
    # as the original does: bilinear without smoothing
    return functional.interpolate(inside[None, None], fit.size, mode="bilinear", align_corners=False)[0, 0].numpy()


def stretch(values: NDArray[Any]) -> NDArray[np.float32]:
    """Map the minimum of all values to 0 and the maximum to 1, float32; not finite counts as the minimum, no contrast gives 0."""
    exact = values.astype(np.float64)
    finite = np.isfinite(exact)
    if not finite.any():
        return np.zeros(values.shape, np.float32)
    low = exact.min(where=finite, initial=np.inf)
    high = exact.max(where=finite, initial=-np.inf)
    if not finite.all():
        exact = np.where(finite, exact, low)
    # halves: the full span of float64 does not fit float64
    span = high / 2 - low / 2
    if span <= 1e-7 * max(abs(low), abs(high)):
        return np.zeros(values.shape, np.float32)
    stretched: NDArray[np.float32] = ((exact / 2 - low / 2) / span).astype(np.float32)
    return stretched


def resize(channels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(C, h, w) to (C, *size): averaging over the pixels covered where it shrinks, bilinear where it grows."""
    if channels.shape[1:] == size:
        return channels
    tensor = torch.from_numpy(np.ascontiguousarray(channels))[None]
    return functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)[0].numpy()


def _channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """(h, w) -> (1, h, w); (h, w, 3) -> (3, h, w)."""
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
