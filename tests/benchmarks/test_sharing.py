"""What travels between two tunings, on adapters small enough to compute by hand."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.federated.published import fedavg_weights
from benchmarks.federated.sharing import (
    MEMORY_FILE,
    average,
    average_largest,
    everything,
    high_half,
    largest,
    low_half,
    shared_alone,
)
from sam_adapters.adapter_files import PEFT_PREFIX, read_tensors, write_adapter
from sam_adapters.schema import AdapterSchema, TensorSpec

SIZES = {"enc.0": 4, "enc.1": 2, "enc.2": 6}
SCHEMA = AdapterSchema(
    "ab" * 32, rank=1, shared_depth=1.0, tensors=tuple(TensorSpec(f"{n}.lora_B.weight", (s, 1)) for n, s in SIZES.items())
)
SHARED = [PEFT_PREFIX + spec.name for spec in SCHEMA.tensors]


def adapters(folder: Path, values: list[float]) -> Path:
    """The shared B in order, and one local module whose factors are 1 and 2 everywhere; A of shared modules is 0."""
    ends = np.cumsum(list(SIZES.values()))[:-1]
    tensors = {name: part.reshape(-1, 1) for name, part in zip(SHARED, np.split(np.array(values, np.float32), ends), strict=True)}
    tensors |= {name.replace("lora_B", "lora_A"): np.zeros((1, 3), np.float32) for name in SHARED}
    tensors |= {
        PEFT_PREFIX + "dec.lora_A.weight": np.ones((1, 2), np.float32),
        PEFT_PREFIX + "dec.lora_B.weight": np.full((2, 1), 2, np.float32),
    }
    write_adapter(folder, {}, tensors, SCHEMA)
    return folder


def shared_values(folder: Path) -> list[float]:
    tensors = read_tensors(folder)
    return [float(value) for name in SHARED for value in tensors[name].ravel()]


def test_who_travels() -> None:
    tensors = {name: np.zeros((size, 1), np.float32) for name, size in zip(SHARED, SIZES.values(), strict=True)}
    tensors |= {"dec.lora_A.weight": np.zeros((1, 2), np.float32), SHARED[0].replace("lora_B", "lora_A"): np.zeros((1, 2), np.float32)}
    assert shared_alone(SHARED, tensors) == SHARED
    assert everything(SHARED, tensors) == sorted([*SHARED, "dec.lora_A.weight"])
    assert low_half(SHARED, tensors) == SHARED[:2]  # 4 + 2 values of 12
    assert high_half(SHARED, tensors) == SHARED[2:]


@pytest.mark.parametrize(("travelling", "mixed"), [(low_half, range(6)), (high_half, range(6, 12))])
def test_a_half_is_averaged_and_the_rest_stays(tmp_path: Path, travelling, mixed: range) -> None:  # type: ignore[no-untyped-def]
    own = {"A": [0.0] * 12, "B": [4.0] * 12}
    folders = {site: adapters(tmp_path / "tuned" / site, values) for site, values in own.items()}
    out = {site: tmp_path / "out" / site for site in own}
    average(folders, {"A": 1, "B": 3}, out, lambda vectors, cases: fedavg_weights(cases), travelling=travelling)
    for site, values in own.items():
        assert shared_values(out[site]) == [3.0 if index in mixed else values[index] for index in range(12)]


def test_largest_takes_by_magnitude() -> None:
    assert largest(np.array([1.0, -3.0, 2.0, 0.0], np.float32), 0.5).tolist() == [False, True, True, False]
    assert largest(np.array([1.0, -3.0, 2.0, 0.0], np.float32), 0.01).tolist() == [False, True, False, False]


def test_what_top_k_leaves_out_is_sent_later(tmp_path: Path) -> None:
    quarter = partial(average_largest, share=0.25)
    cases = {"A": 1, "B": 1}
    first = {"A": [8.0, 6.0, 4.0, 2.0, *[0.0] * 8], "B": [0.0] * 12}
    tuned = {site: adapters(tmp_path / "1" / site, values) for site, values in first.items()}
    received = {site: tmp_path / "r1" / site for site in first}
    shared = quarter(tuned, cases, received, before={"A": None, "B": None})
    # A sends 8, 6, 4 of its four changes; the mean over both sites is half of them.
    assert shared_values(received["A"]) == shared_values(received["B"]) == [4.0, 3.0, 2.0, *[0.0] * 9]
    assert np.load(received["A"] / MEMORY_FILE).tolist() == [0.0, 0.0, 0.0, 2.0, *[0.0] * 8]
    assert 0 < shared.bytes_up["A"] < shared.bytes_down["A"] + 20

    # Nobody changes anything: what A left out before is all there is to send.
    again = {site: adapters(tmp_path / "2" / site, shared_values(received[site])) for site in first}
    later = {site: tmp_path / "r2" / site for site in first}
    quarter(again, cases, later, before=received)
    assert shared_values(later["B"]) == [4.0, 3.0, 2.0, 1.0, *[0.0] * 8]
    assert not np.load(later["A"] / MEMORY_FILE).any()
