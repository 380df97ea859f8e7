import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.errors import SettingError
from sam_adapters.frozen_projection import frozen_projection, starting_projection

BASE = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"


@given(st.integers(1, 8), st.integers(0, 60), st.text(max_size=30))
def test_rows_are_orthonormal(rank: int, more: int, module: str) -> None:
    a = frozen_projection(BASE, module, rank, rank + more)
    assert a.dtype == np.float32
    assert a.shape == (rank, rank + more)
    np.testing.assert_allclose(a @ a.T, np.eye(rank), atol=1e-5)


def test_the_numbers_never_change() -> None:
    # sites with other numbers could not be averaged with those in the field
    frozen = [[0.55336475, -0.43972367, 0.70741117], [0.00886166, 0.8523552, 0.5228883]]
    started = [[0.04822332, 0.47479638, 0.01526727], [0.4734611, 0.4776968, -0.10976335]]
    np.testing.assert_allclose(frozen_projection("0" * 64, "encoder.block.qkv", 2, 3), frozen, atol=1e-6)
    np.testing.assert_allclose(starting_projection(0, "m", 2, 3), started, atol=1e-6)


def test_each_module_base_and_seed_has_its_own() -> None:
    drawn = [frozen_projection(BASE, "a", 4, 32), frozen_projection(BASE, "b", 4, 32), frozen_projection("0" * 64, "a", 4, 32)]
    drawn += [starting_projection(seed, module, 4, 32) for seed in (0, 1) for module in ("a", "b")]
    assert all(not np.allclose(one, other) for place, one in enumerate(drawn) for other in drawn[:place])


def test_directions_are_uniform() -> None:
    # the first row of a uniform matrix has mean 0 and variance 1 / in_features in every place
    rows = np.stack([frozen_projection(BASE, f"module {number}", 2, 8)[0] for number in range(2000)])
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(rows.var(axis=0), 1 / 8, atol=0.02)


def test_start_is_bounded_as_in_a_linear_layer() -> None:
    a = starting_projection(3, "module", 16, 64)
    assert np.abs(a).max() <= 1 / 8
    assert a.std() == pytest.approx(1 / 8 / 3**0.5, rel=0.1)


@pytest.mark.parametrize("rank", [0, 4])
def test_rank_that_cannot_be_orthonormal_is_refused(rank: int) -> None:
    with pytest.raises(SettingError, match=f"rank {rank} for module with 3 inputs"):
        frozen_projection(BASE, "module", rank, 3)
