"""Adapter versions on disk: standard PEFT folders, written with deterministic bytes. numpy only: no torch.

    <folder>/adapter_config.json          PEFT's LoRA configuration
    <folder>/adapter_model.safetensors    every A and B, float32, under PEFT's names

The safetensors header carries the adapter's schema, so that a federation can read and replace the shared part without loading the
network. The bytes depend on the contents alone (sorted names, fixed header): equal adapters have equal files on every machine.
The safetensors layout: 8 bytes header length (little endian), a JSON header, then the tensors without gaps.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from sam_adapters import atomic
from sam_adapters.errors import AdapterError
from sam_adapters.schema import AdapterSchema, AdapterState

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_PREFIX = "base_model.model."
SCHEMA_KEY = "fedsca_schema"

Tensors = dict[str, NDArray[np.float32]]


def read_shared_state(folder: Path, schema: AdapterSchema) -> AdapterState:
    """The shared part of an adapter version.

    Raises:
        AdapterError: not an adapter of this schema, or values that are not finite.
    """
    tensors = read_tensors(folder)
    check_schema(read_schema(folder), schema, folder)
    missing = [spec.name for spec in schema.tensors if PEFT_PREFIX + spec.name not in tensors]
    if missing:
        raise AdapterError(f"{folder} lacks shared tensors, for one {missing[0]}: the file does not keep what its header says.")
    return AdapterState(schema, {spec.name: tensors[PEFT_PREFIX + spec.name] for spec in schema.tensors})


def write_mixture(parent_folder: Path, state: AdapterState, out: Path) -> None:
    """Write the adapter that has the parent's local adapters and the shared adapters of `state`.

    Args:
        parent_folder: an adapter version, or the untuned adapter that `loading.write_untuned` writes.
        out: the new folder; it is made if it does not exist.

    Raises:
        AdapterError: parent and state have different schemas, or the state holds values that are not finite.
    """
    tensors = read_tensors(parent_folder)
    check_schema(read_schema(parent_folder), state.schema, parent_folder)
    for spec in state.schema.tensors:
        key = PEFT_PREFIX + spec.name
        if key not in tensors or tensors[key].shape != spec.shape:
            raise AdapterError(f"{parent_folder} lacks {spec.name} {list(spec.shape)}: it is not an adapter of this schema.")
        tensors[key] = state.tensors[spec.name]
    write_adapter(out, read_config(parent_folder), tensors, state.schema)


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, NDArray[np.float32]], schema: AdapterSchema) -> None:
    """Write a PEFT folder; the weights come first, so that a folder with a configuration is complete.

    Raises:
        AdapterError: a value is not finite.
    """
    check_finite(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(folder / WEIGHTS_FILE, safetensors_bytes(tensors, {"format": "pt", SCHEMA_KEY: schema.to_json()}))
    atomic.write_json(folder / CONFIG_FILE, dict(config))


def read_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration of an adapter version. Raises AdapterError if there is none."""
    path = folder / CONFIG_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read ({error}): {folder} is not an adapter version.") from error
    if not isinstance(value, dict):
        raise AdapterError(f"{path} holds a {type(value).__name__}, expected PEFT's configuration.")
    return value


def read_schema(folder: Path) -> AdapterSchema:
    """The schema that an adapter version was written under.

    Raises:
        AdapterError: the file is missing, damaged, or was not written by this software.
    """
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read ({error}): {folder} is not an adapter version.") from error
    if SCHEMA_KEY not in metadata:
        raise AdapterError(f"{path} does not say which schema it was written under: it was not made by FedSCA Label.")
    return AdapterSchema.from_json(metadata[SCHEMA_KEY])


def read_tensors(folder: Path) -> Tensors:
    """Every tensor of an adapter version under PEFT's names.

    Raises:
        AdapterError: the file is missing, damaged, not float32, or holds values that are not finite.
    """
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, "numpy") as file:
            for key in file.keys():  # noqa: SIM118 (safe_open is not a mapping)
                kind = file.get_slice(key).get_dtype()
                if kind != "F32":
                    raise AdapterError(f"{path}: {key} has values of type {kind}, expected F32.")
            tensors: Tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path} cannot be read ({error}): {folder} is not an adapter version.") from error
    check_finite(tensors)
    return tensors


def check_finite(tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Raise AdapterError if a value is not finite."""
    for key, array in tensors.items():
        if not np.isfinite(array).all():
            raise AdapterError(f"Adapter tensor {key} holds values that are not finite: the adapter is unusable.")


def check_schema(found: AdapterSchema, expected: AdapterSchema, folder: Path) -> None:
    """Raise AdapterError, saying what differs, if an adapter in `folder` has another schema than expected."""
    if found == expected:
        return
    for name in ("base", "rank", "shared_depth", "shared_decoder"):
        if getattr(found, name) != getattr(expected, name):
            raise AdapterError(
                f"Adapter {folder} has {name} {getattr(found, name)}, expected {getattr(expected, name)}: it belongs to another set-up."
            )
    raise AdapterError(f"Adapter {folder} has other shared tensors than this set-up (schema {found.id}, expected {expected.id}).")


def safetensors_bytes(tensors: Mapping[str, NDArray[np.float32]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of float32 tensors, in the order of their names; the header's length is padded to a multiple of 8."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    parts: list[bytes] = []
    start = 0
    for key in sorted(tensors):
        data = np.ascontiguousarray(tensors[key], dtype="<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(tensors[key].shape), "data_offsets": [start, start + len(data)]}
        parts.append(data)
        start += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
