"""The site under attack: its gradients and its tuned adapters, computed by the software's own code."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.cases import LabelledCase
from sam_adapters.loading import load_adapted
from sam_adapters.probe import shared_gradient
from sam_adapters.settings import SiteSettings
from sam_adapters.tuning import TuningSettings, tune
from sam_adapters.tuning_slices import TrainingSlice

CPU = torch.device("cpu")
FIRST_BLOCKS, ALL_BLOCKS = 0.5, 1.0


def network(size: int, shared_depth: float) -> AdaptedNetwork:
    """The default base with untuned adapters (every B is 0), those of the decoder local, in evaluation mode."""
    adapted = load_adapted(SiteSettings(image_size=size, shared_depth=shared_depth, shared_decoder=False))
    adapted.set_training(False)
    return adapted


def gradient(adapted: AdaptedNetwork, one: TrainingSlice) -> NDArray[np.float32]:
    """What the probe computes for one case before it is scaled and projected, (n,)."""
    return shared_gradient(adapted, one, CPU).astype(np.float32)


def tuned(size: int, cases: Sequence[LabelledCase], steps: int, *, seed: int) -> AdaptedNetwork:
    """A site's network after tuning on cases, with the default settings."""
    adapted = network(size, FIRST_BLOCKS)
    tune(adapted, cases, TuningSettings(steps=steps, seed=seed, window="auto"))
    return adapted


def update(size: int, cases: Sequence[LabelledCase], steps: int, *, seed: int) -> NDArray[np.float32]:
    """The shared B after tuning from zero: the difference that leaves the site, (n,)."""
    return tuned(size, cases, steps, seed=seed).shared_state().to_vector()
