"""Brightness and contrast: presets and what dragging changes. Pure functions; window and level in units of the image."""

from __future__ import annotations

from FedSCALib.translate import tr

Window = tuple[float, float]  # width and centre
SMALLEST = 1e-3  # of the image's range

# Hounsfield units, as radiologists know them
CT_PRESETS: tuple[tuple[str, Window], ...] = (
    (tr("Soft tissue"), (400.0, 40.0)),
    (tr("Liver"), (150.0, 60.0)),
    (tr("Lung"), (1500.0, -600.0)),
    (tr("Bone"), (1800.0, 400.0)),
    (tr("Brain"), (80.0, 40.0)),
)


def looks_like_ct(lowest: float, highest: float) -> bool:
    """Whether an image's range is that of Hounsfield units."""
    return -5000 < lowest <= -200 and highest >= 200


def dragged(window: Window, right: float, down: float, span: float) -> Window:
    """The window after a drag.

    Args:
        right, down: as parts of the picture's size; to the right widens the window, downwards raises its centre (a darker picture).
        span: lowest to highest value of the image.
    """
    width, centre = window
    step = max(span, 1e-9)
    speed = min(max(width, 0.02 * step), step)  # narrow windows change finely
    return max(width + 2 * right * speed, SMALLEST * step), centre + 2 * down * speed
