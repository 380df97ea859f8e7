"""What the attacker sees of a gradient: which blocks, in full or projected. Maps of raw gradients, scaled as the site scales them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.inversion.identification import unit
from fed_backend.projection import project

Vectors = NDArray[np.floating]
PROBE_SEED = 7


@dataclass(frozen=True)
class View:
    """A name, and the map from raw gradients of all blocks (m, n) to what is seen of each case (m, p) at norm 1 before projection."""

    name: str
    of: Callable[[Vectors], NDArray[np.float64]]


def views(shared: int) -> dict[str, View]:
    """The views of the measurement.

    Args:
        shared: number of leading values that belong to the blocks nearest the pixels.
    """

    def first(raw: Vectors) -> NDArray[np.float64]:
        return unit(np.atleast_2d(raw)[:, :shared])

    return {
        view.name: view
        for view in (
            View("all", lambda raw: unit(np.atleast_2d(raw))),
            View("shared", first),
            View("projected", lambda raw: project(first(raw), seed=PROBE_SEED).astype(np.float64)),
        )
    }
