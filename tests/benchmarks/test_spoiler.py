"""What a member that spoils what it shares writes, by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.federated.spoiler import BACKDOOR, DRIFT, DRIFT_STEP, FLIP, PART, REPLAY, spoil
from sam_adapters.adapter_files import read_schema, read_shared_state, read_tensors, write_mixture
from sam_adapters.errors import SettingError
from sam_adapters.loading import write_untuned
from sam_adapters.schema import AdapterState
from sam_adapters.settings import SiteSettings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Adapters of norm 1 and another's of norm 2."""
    folder = tmp_path_factory.mktemp("adapters")
    write_untuned(SiteSettings(name="A", image_size=64), folder / "untuned")
    schema = read_schema(folder / "untuned")
    for name, size, seed in (("tuned", 1.0, 0), ("first", 2.0, 1)):
        values = np.random.default_rng(seed).normal(size=schema.size)
        state = AdapterState.from_vector(schema, (size * values / np.linalg.norm(values)).astype(np.float32))
        write_mixture(folder / "untuned", state, folder / name)
    return folder / "tuned", folder / "first"


def vector(folder: Path) -> np.ndarray:
    return read_shared_state(folder, read_schema(folder)).to_vector().astype(np.float64)


@pytest.mark.parametrize(
    ("kind", "number", "distance"), [(FLIP, 1, 2.0), (DRIFT, 3, 3 * DRIFT_STEP), (BACKDOOR, 3, PART), (REPLAY, 1, 0.0)]
)
def test_how_far_each_goes(folders: tuple[Path, Path], tmp_path: Path, kind: str, number: int, distance: float) -> None:
    tuned, _ = folders
    out = spoil(kind, tuned, None, tmp_path / "out", seed=0, number=number)
    changed = vector(out) - vector(tuned)
    assert np.linalg.norm(changed) == pytest.approx(distance, abs=1e-4)
    if kind == BACKDOOR:
        assert np.mean(changed != 0) == pytest.approx(0.01, abs=0.005)
    own = [name for name in read_tensors(tuned) if not np.array_equal(read_tensors(tuned)[name], read_tensors(out)[name])]
    assert {name.split(".lora_")[1][0] for name in own} <= {"B"}


def test_drift_keeps_its_direction_and_old_adapters_are_those_of_the_first_round(folders: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, first = folders
    one, two = (vector(spoil(DRIFT, tuned, first, tmp_path / str(n), seed=5, number=n)) - vector(tuned) for n in (1, 2))
    assert np.allclose(two, 2 * one, atol=1e-6)
    assert np.array_equal(vector(spoil(REPLAY, tuned, first, tmp_path / "old", seed=5, number=2)), vector(first))


def test_an_unknown_kind_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no attack 'magic'"):
        spoil("magic", folders[0], None, tmp_path / "out", seed=0, number=1)
