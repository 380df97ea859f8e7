"""Normalisation layers trained at a site and kept there, for the comparison with FedBN (Li et al., ICLR 2021).

The product trains no norms. Here the scale and shift of every layer norm are trained beside the adapters and stored in a file of their own
in the adapter's folder. Batch norms stay frozen, as everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sam_adapters.adapters import AdaptedNetwork

NORMS_FILE = "norms.safetensors"


def norm_parameters(adapted: AdaptedNetwork) -> dict[str, nn.Parameter]:
    """Scale and shift of the layer norms, by name."""
    modules = {name: one for name, one in adapted.network.named_modules() if isinstance(one, nn.LayerNorm) or "Norm" in type(one).__name__}
    frozen = nn.modules.batchnorm._NormBase
    return {
        f"{name}.{key}": parameter
        for name, module in modules.items()
        if not isinstance(module, frozen) and not any(isinstance(child, frozen) for child in module.modules())
        for key, parameter in module.named_parameters(recurse=False)
    }


@contextmanager
def norms_of(adapted: AdaptedNetwork, folder: Path | None, *, train: bool = False) -> Iterator[None]:
    """The network with a folder's norms, if it has some, and its own again afterwards.

    Args:
        train: let `tune` train them with the adapters.
    """
    present = folder is not None and (folder / NORMS_FILE).exists()
    if not (present or train):
        yield
        return
    parameters = norm_parameters(adapted)
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    adapters_alone = adapted.trainable_parameters
    try:
        if folder is not None and present:
            _copy(load_file(folder / NORMS_FILE), parameters)
        if train:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            adapted.trainable_parameters = lambda: [*adapters_alone(), *parameters.values()]  # type: ignore[method-assign]
        yield
    finally:
        adapted.trainable_parameters = adapters_alone  # type: ignore[method-assign]
        _copy(own, parameters)
        for parameter in parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None


def save_norms(adapted: AdaptedNetwork, folder: Path) -> None:
    """Write the present norms beside the adapters in `folder`."""
    save_file({name: parameter.detach().cpu().contiguous() for name, parameter in norm_parameters(adapted).items()}, folder / NORMS_FILE)


def _copy(source: dict[str, torch.Tensor], target: dict[str, nn.Parameter]) -> None:
    with torch.no_grad():
        for name, values in source.items():
            target[name].copy_(values)
