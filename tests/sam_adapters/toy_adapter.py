"""A tiny PEFT-shaped adapter folder, for tests of what happens to such folders. Runs in test processes and in the processes they start."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sam_adapters.provenance import Provenance

BASE_SHA = "ab" * 32
SCHEMA_ID = "cd" * 8


def make_adapter(folder: Path, seed: int) -> Path:
    """Write an adapter whose contents follow from `seed` alone."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["qkv"]}), encoding="utf-8")
    weights = np.random.default_rng(seed).normal(size=(3, 2)).astype(np.float32)
    save_file({"blocks.0.qkv.lora_B.weight": weights, "blocks.1.qkv.lora_B.weight": weights * 2}, folder / "adapter_model.safetensors")
    return folder


def toy_provenance(**changes: object) -> Provenance:
    """A provenance with everything that must be there."""
    values: dict[str, object] = {"kind": "local", "base": BASE_SHA, "schema_id": SCHEMA_ID, "site": "north", "cases": 4}
    return Provenance(**{**values, **changes})  # type: ignore[arg-type]
