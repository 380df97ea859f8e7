"""From a rendered view to the bytes of a picture. Called in a worker thread: pure functions."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from numpy.typing import NDArray
from PIL import Image

MOVING_QUALITY = 82  # while things change; a view that rests is sent again without loss


def encode(pixels: NDArray[Any], *, exact: bool) -> tuple[str, bytes]:
    """MIME type and bytes of a picture.

    Args:
        pixels: uint8 (rows, columns, 3 or 4), the uppermost row first.
        exact: PNG, every grey value as rendered; else JPEG, several times quicker.
    """
    image = Image.fromarray(pixels[..., :3])
    buffer = BytesIO()
    if exact:
        image.save(buffer, "png", compress_level=1)
        return "image/png", buffer.getvalue()
    image.save(buffer, "jpeg", quality=MOVING_QUALITY, subsampling=0)
    return "image/jpeg", buffer.getvalue()
