"""Example pictures of virtual hospitals for the report: one slice with the truth and the masks of the base and of the final version.

Only for virtual data. Pictures of patients are never embedded, and there is no switch for it: `report.write_report` refuses.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SCALE = 3  # a small slice is shown enlarged
TRUTH = (255, 196, 0)
BEFORE = (255, 82, 82)
AFTER = (64, 224, 208)


@dataclass(frozen=True)
class GalleryItem:
    """One test slice of one virtual hospital: `pixels` float (rows, columns); masks bool of the same shape.

    `prompt` says how the masks were asked for, in words.
    """

    hospital: str
    case: str
    slice_index: int
    prompt: str
    pixels: NDArray[np.float32]
    truth: NDArray[np.bool_]
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]


@dataclass(frozen=True)
class GalleryPicture:
    """What the template shows: PNGs as data URIs with their captions."""

    hospital: str
    caption: str
    pictures: list[tuple[str, str]]


def picture_of(item: GalleryItem) -> GalleryPicture:
    """Plain slice, truth, mask of the base and mask of the final version, each as an outline on the slice."""
    caption = f"{item.case}, slice {item.slice_index}, {item.prompt}"
    pictures = [("image", _png(_colour(item.pixels)))]
    for title, mask, colour in (("truth", item.truth, TRUTH), ("base", item.before, BEFORE), ("final version", item.after, AFTER)):
        pictures.append((title, _png(_outlined(_colour(item.pixels), mask, colour))))
    return GalleryPicture(item.hospital, caption, pictures)


def _colour(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey slice, windowed between its 1st and 99.5th percentile, enlarged, as RGB (rows, columns, 3)."""
    low, high = np.percentile(pixels, [1, 99.5])
    grey = np.clip((pixels - low) / max(float(high - low), 1e-9), 0, 1) * 255
    large = np.kron(grey, np.ones((SCALE, SCALE))).astype(np.uint8)
    return np.repeat(large[..., None], 3, axis=2)


def _outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    large = np.kron(mask, np.ones((SCALE, SCALE))).astype(bool)
    padded = np.pad(large, 1)
    inner = padded[1:-1, :-2] & padded[1:-1, 2:] & padded[:-2, 1:-1] & padded[2:, 1:-1]
    shown = picture.copy()
    shown[large & ~inner] = colour
    return shown


def _png(picture: NDArray[np.uint8]) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
