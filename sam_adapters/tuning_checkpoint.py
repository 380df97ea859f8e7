"""The state of a tuning on disk, so that one that was killed goes on where it was. Atomic: the file is the old state or the new one.

One safetensors file: `parameter.<n>` and AdamW's `exp_avg.<n>`, `exp_avg_sq.<n>` and `step.<n>`, n being the parameter's place in
`AdaptedNetwork.trainable_parameters`; the metadata holds the fingerprint of the tuning, the steps done and their losses. No generator
state is kept: everything drawn follows from the tuning's plan (see `tuning_plan`), and nothing else is random.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sam_adapters import atomic
from sam_adapters.errors import TuningError

logger = logging.getLogger(__name__)

_FORMAT = "fedsca-tuning-1"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TuningState:
    """How far a tuning is.

    Attributes:
        step: steps done.
        losses: mean loss of each of them.
    """

    step: int
    losses: tuple[float, ...]


def save_checkpoint(
    path: Path, fingerprint: str, state: TuningState, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write everything that the next step depends on."""
    tensors: dict[str, Tensor] = {}
    for number, parameter in enumerate(parameters):
        tensors[f"parameter.{number}"] = parameter.detach().cpu().contiguous()
        for name in _MOMENTS:
            if name in optimizer.state[parameter]:
                tensors[f"{name}.{number}"] = optimizer.state[parameter][name].detach().cpu().contiguous()
    metadata = {"format": _FORMAT, "fingerprint": fingerprint, "step": str(state.step), "losses": json.dumps(state.losses)}
    atomic.write_bytes(path, safetensors.torch.save(tensors, metadata))


def load_checkpoint(
    path: Path, fingerprint: str, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer
) -> TuningState | None:
    """Take over a checkpoint, in place.

    Returns:
        how far it was; None when there is none, or it is damaged or belongs to another tuning (other labels, settings or starting point):
        then nothing has changed.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or metadata.get("fingerprint") != fingerprint:
                logger.info("The checkpoint %s belongs to another tuning: starting anew.", path)
                return None
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            state = TuningState(int(metadata["step"]), tuple(float(loss) for loss in json.loads(metadata["losses"])))
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        logger.warning("The checkpoint %s cannot be read (%s): starting anew.", path, error)
        return None
    _restore(tensors, parameters, optimizer, path)
    return state


def _restore(tensors: dict[str, Tensor], parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, path: Path) -> None:
    shapes = [tuple(tensors[f"parameter.{n}"].shape) if f"parameter.{n}" in tensors else None for n in range(len(parameters))]
    if shapes != [tuple(parameter.shape) for parameter in parameters]:
        raise TuningError(f"The checkpoint {path} does not fit this network: delete it and start the tuning again.")
    moments: dict[int, dict[str, Any]] = {}
    for number, parameter in enumerate(parameters):
        with torch.no_grad():
            parameter.copy_(tensors[f"parameter.{number}"])
        if f"step.{number}" in tensors:
            moments[number] = {name: tensors[f"{name}.{number}"] for name in _MOMENTS}
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
