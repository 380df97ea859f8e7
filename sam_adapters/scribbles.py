"""Scribbles to point prompts: a few pixels that cover what was drawn. Pure functions, numpy only, deterministic.

A promptable network takes points, not strokes. Farthest-point sampling (Gonzalez 1985, the greedy 2-approximation of k-centre) picks pixels
such that no drawn pixel is far from a picked one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam_adapters.errors import PromptError

POINTS_PER_SIGN = 4
"""Points that stand for all strokes of one sign: the network was shown few points at once, and each costs time."""
LEAST_DISTANCE = 2.0
"""Points nearer to each other than this many pixels say nothing new."""


def scribble_points(
    foreground: NDArray[Any] | None, background: NDArray[Any] | None, *, count: int = POINTS_PER_SIGN
) -> tuple[tuple[float, float, int], ...]:
    """Points (x, y, label) for strokes on the target (label 1) and beside it (label 0).

    Args:
        foreground, background: (rows, columns), not 0 where a stroke is; None for no strokes of that sign.
        count: most points of each sign.

    Raises:
        PromptError: a pixel has strokes of both signs.
    """
    if foreground is not None and background is not None:
        rows, columns = np.nonzero((foreground != 0) & (background != 0))
        if rows.size:
            raise PromptError(
                f"Scribble: {rows.size} pixels are both foreground and background, the first at x = {columns[0]}, y = {rows[0]}. Erase one."
            )
    points: list[tuple[float, float, int]] = []
    for label, strokes in ((1, foreground), (0, background)):
        if strokes is not None:
            points += [(float(x), float(y), label) for x, y in spread_points(strokes, count)]
    return tuple(points)


def spread_points(strokes: NDArray[Any], count: int) -> list[tuple[int, int]]:
    """At most `count` pixels (x, y) of `strokes` (rows, columns), spread over all of it.

    The first is the pixel nearest to the mean of all, each further one the pixel farthest from those before; among equals the first in row
    order. It ends early when every pixel is within `LEAST_DISTANCE` of a chosen one.
    """
    rows, columns = np.nonzero(strokes)
    if not rows.size or count < 1:
        return []
    places = np.stack([columns, rows], axis=1).astype(np.float64)
    chosen = int(np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1)))
    nearest = np.full(len(places), np.inf)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        found.append((int(columns[chosen]), int(rows[chosen])))
        nearest = np.minimum(nearest, ((places - places[chosen]) ** 2).sum(axis=1))
        chosen = int(np.argmax(nearest))
        if nearest[chosen] < LEAST_DISTANCE**2:
            break
    return found
