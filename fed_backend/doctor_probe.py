"""Looks at the heavy packages in a process of its own: `python -m fed_backend.doctor_probe <base>` prints one line of JSON.

{"imports": {module: sentence or null}, "torch": {...}, "base": {"sha256": ...} or {"error": ...}}
"""

import importlib
import subprocess
import sys
from typing import Any

from fed_backend import json_process
from fed_backend.doctor_check import SETUP

SECONDS = 180.0
MODULES = (
    "torch",
    "monai",
    "transformers.models.sam.modeling_sam",
    "peft",
    "SimpleITK",
    "flwr.clientapp",
    "flwr.serverapp",
    "monailabel.interfaces.app",
)


def run(base: str, *, seconds: float = SECONDS) -> dict[str, Any]:
    """The probe's answer, from a process that has at most `seconds`; {"error": sentence} when it gave none."""
    try:
        return json_process.ask("fed_backend.doctor_probe", base, seconds=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"importing the packages took more than {seconds:g} s"}
    except json_process.NoAnswerError as error:
        return {"error": f"the process that imports the packages ended without an answer: {error}"}


def probe(base: str) -> dict[str, Any]:
    """Import everything, and look at device and base."""
    imports = {module: _import_problem(module) for module in MODULES}
    answer: dict[str, Any] = {"imports": imports}
    if imports["torch"] is None:
        answer["torch"] = _torch_facts()
        answer["base"] = _base_facts(base)
    return answer


def _import_problem(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises is what is asked for
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
    return None


def _torch_facts() -> dict[str, Any]:
    import torch

    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "build": torch.version.cuda or "CPU", "gpus": []}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            facts["gpus"].append({"name": properties.name, "gib": round(properties.total_memory / 2**30, 1)})
        facts["bf16"] = torch.cuda.is_bf16_supported()
    return facts


def _base_facts(base: str) -> dict[str, Any]:
    """The hash that names the base, after its weights were found and, where their hash is known beforehand, compared."""
    from sam_adapters.errors import FedscaError

    try:
        from sam_adapters import bases
        from sam_adapters.bases import litemedsam_weights

        if base == litemedsam_weights.NAME:
            litemedsam_weights.check_weights(litemedsam_weights.weights_file())
        return {"sha256": bases.base_sha256(base)}
    except FedscaError as error:
        return {"error": str(error)}
    except ImportError as error:
        return {"error": f"It cannot be looked at: {error}. Run `{SETUP}`."}


if __name__ == "__main__":
    json_process.answer(lambda: probe(sys.argv[1]))
