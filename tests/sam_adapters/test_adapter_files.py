import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save_file

from sam_adapters.adapter_files import (
    SCHEMA_KEY,
    read_config,
    read_schema,
    read_shared_state,
    read_tensors,
    safetensors_bytes,
    write_adapter,
    write_mixture,
)
from sam_adapters.errors import AdapterError
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

SCHEMA = AdapterSchema("ab" * 32, 2, 0.5, (TensorSpec("block.fc.lora_B.weight", (3, 2)), TensorSpec("block.out.lora_B.weight", (2, 2))))
PREFIX = "base_model.model."


def tensors() -> dict[str, np.ndarray]:
    names = {
        "block.fc.lora_A.weight": (2, 4),
        "block.fc.lora_B.weight": (3, 2),
        "block.out.lora_B.weight": (2, 2),
        "local.lora_B.weight": (5, 2),
    }
    return {
        PREFIX + name: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + number
        for number, (name, shape) in enumerate(names.items())
    }


@pytest.fixture
def version(tmp_path: Path) -> Path:
    write_adapter(tmp_path / "version", {"r": 2}, tensors(), SCHEMA)
    return tmp_path / "version"


def test_holds_the_two_files_of_peft_and_nothing_else(version: Path) -> None:
    assert sorted(path.name for path in version.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert read_config(version) == {"r": 2}
    assert read_schema(version) == SCHEMA
    assert {key: value.tolist() for key, value in read_tensors(version).items()} == {
        key: value.tolist() for key, value in tensors().items()
    }


def test_shared_state_is_read_in_schema_order(version: Path) -> None:
    assert read_shared_state(version, SCHEMA).to_vector().tolist() == [1, 2, 3, 4, 5, 6, 2, 3, 4, 5]


def test_mixture_replaces_the_shared_part_only(version: Path, tmp_path: Path) -> None:
    state = AdapterState.from_vector(SCHEMA, np.arange(10, dtype=np.float32) / 7)
    write_mixture(version, state, tmp_path / "mixture")
    assert read_shared_state(tmp_path / "mixture", SCHEMA).to_vector().tolist() == state.to_vector().tolist()
    mixed, parent = read_tensors(tmp_path / "mixture"), read_tensors(version)
    shared = {PREFIX + spec.name for spec in SCHEMA.tensors}
    assert mixed.keys() == parent.keys()
    assert all(np.array_equal(mixed[key], parent[key]) for key in parent.keys() - shared)
    assert read_config(tmp_path / "mixture") == {"r": 2}


def test_mixture_of_the_same_state_has_the_same_bytes(version: Path, tmp_path: Path) -> None:
    write_mixture(version, read_shared_state(version, SCHEMA), tmp_path / "mixture")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "mixture" / name).read_bytes() == (version / name).read_bytes()


@given(st.dictionaries(st.text(min_size=1, max_size=8), hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)), max_size=5))
def test_bytes_are_read_by_safetensors_and_depend_on_contents_alone(contents: dict[str, np.ndarray]) -> None:
    contents.pop("__metadata__", None)
    data = safetensors_bytes(contents, {"b": "1", "a": "2"})
    assert data == safetensors_bytes(dict(reversed(contents.items())), {"a": "2", "b": "1"})
    assert {key: value.tobytes() for key, value in load(data).items()} == {key: value.tobytes() for key, value in contents.items()}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_neither_written_nor_read(value: float, version: Path, tmp_path: Path) -> None:
    bad = tensors()
    bad[PREFIX + "local.lora_B.weight"][2, 1] = value
    with pytest.raises(AdapterError, match="not finite"):
        write_adapter(tmp_path / "bad", {}, bad, SCHEMA)
    (version / "adapter_model.safetensors").write_bytes(safetensors_bytes(bad, {SCHEMA_KEY: SCHEMA.to_json()}))
    with pytest.raises(AdapterError, match=r"local\.lora_B\.weight holds values that are not finite"):
        read_shared_state(version, SCHEMA)
    poisoned = AdapterState.from_vector(SCHEMA, np.full(10, value, np.float32))
    write_adapter(version, {"r": 2}, tensors(), SCHEMA)
    with pytest.raises(AdapterError, match="not finite"):
        write_mixture(version, poisoned, tmp_path / "mixture")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (AdapterSchema("cd" * 32, 2, 0.5, SCHEMA.tensors), "has base abab"),
        (AdapterSchema(SCHEMA.base, 4, 0.5, SCHEMA.tensors), "has rank 2, expected 4"),
        (AdapterSchema(SCHEMA.base, 2, 1.0, SCHEMA.tensors), "has shared_depth 0.5, expected 1.0"),
        (AdapterSchema(SCHEMA.base, 2, 0.5, SCHEMA.tensors, shared_decoder=True), "has shared_decoder False, expected True"),
        (AdapterSchema(SCHEMA.base, 2, 0.5, SCHEMA.tensors[:1]), "other shared tensors"),
    ],
)
def test_another_schema_is_refused(other: AdapterSchema, message: str, version: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=message):
        read_shared_state(version, other)
    with pytest.raises(AdapterError, match=message):
        write_mixture(version, AdapterState.zeros(other), tmp_path / "mixture")


def test_damaged_and_foreign_files_are_refused(version: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="not an adapter version"):
        read_shared_state(tmp_path, SCHEMA)
    with pytest.raises(AdapterError, match="not an adapter version"):
        read_config(tmp_path)
    weights, config = version / "adapter_model.safetensors", version / "adapter_config.json"
    config.write_text("[]", encoding="utf-8")
    with pytest.raises(AdapterError, match="holds a list"):
        read_config(version)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-3])
    with pytest.raises(AdapterError, match="cannot be read"):
        read_shared_state(version, SCHEMA)
    save_file(tensors(), weights)
    with pytest.raises(AdapterError, match="not made by FedSCA Label"):
        read_schema(version)
    save_file({key: value.astype(np.float16) for key, value in tensors().items()}, weights, {SCHEMA_KEY: SCHEMA.to_json()})
    with pytest.raises(AdapterError, match="type F16, expected F32"):
        read_tensors(version)
    fewer = {key: value for key, value in tensors().items() if "out" not in key}
    weights.write_bytes(safetensors_bytes(fewer, {SCHEMA_KEY: SCHEMA.to_json()}))
    with pytest.raises(AdapterError, match=r"block\.out"):
        read_shared_state(version, SCHEMA)
    with pytest.raises(AdapterError, match=r"block\.out"):
        write_mixture(version, AdapterState.zeros(SCHEMA), tmp_path / "mixture")


def test_needs_no_torch() -> None:
    modules = "sam_adapters.adapter_files, sam_adapters.frozen_projection, sam_adapters.prompts"
    code = f"import json, sys, {modules}; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert json.loads(done.stdout) is False
