import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_adapters.errors import ImageError
from sam_adapters.preprocess import SliceFit, prepare_mask, prepare_slice, restore_logits


def test_stretches_repeats_and_pads() -> None:
    prepared = prepare_slice(np.array([[10, 20, 30, 50], [10, 10, 10, 10]], np.int16), 4)
    expected = np.array([[0, 0.25, 0.5, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(prepared.pixels, np.stack([expected] * 3))
    assert prepared.pixels.dtype == np.float32
    assert (prepared.scale, prepared.size) == (1.0, (2, 4))


def test_shrinking_averages_over_the_pixels_covered() -> None:
    # four equal quarters of 2 x 2 pixels, each averaged; then stretched to 0..1
    prepared = prepare_slice(np.kron([[0, 1], [2, 4]], np.ones((8, 8))), 2)
    np.testing.assert_allclose(prepared.pixels[0], np.array([[0, 0.25], [0.5, 1]]), atol=0.06)


def test_colours_share_one_scale() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0, 0] = (255, 51, 0)
    np.testing.assert_allclose(prepare_slice(picture, 2).pixels[:, 0, 0], [1, 0.2, 0])


@pytest.mark.parametrize("value", [0, -7.5, 3e38, np.nan, np.inf])
def test_without_contrast_all_is_zero(value: float) -> None:
    assert not prepare_slice(np.full((5, 3), value), 64).pixels.any()


def test_values_that_are_not_finite_count_as_the_lowest() -> None:
    pixels = np.array([[np.nan, -np.inf], [np.inf, 2.0], [1.0, 3.0]])
    np.testing.assert_allclose(prepare_slice(pixels, 3).pixels[0, :, :2], [[0, 0], [0, 0.5], [0, 1]])


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint16, np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=90),
    )
)
def test_any_real_slice_fits_between_0_and_1(pixels: np.ndarray) -> None:
    prepared = prepare_slice(pixels, 64)
    assert prepared.pixels.shape == (3, 64, 64)
    assert np.isfinite(prepared.pixels).all()
    assert prepared.pixels.min() >= 0
    assert prepared.pixels.max() <= 1.0001
    rows, columns = prepared.fit.resized
    assert max(rows, columns) == 64
    assert not prepared.pixels[:, rows:].any()
    assert not prepared.pixels[:, :, columns:].any()
    assert restore_logits(prepared.pixels[0], prepared).shape == pixels.shape


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([64, 256, 1024]))
def test_a_slice_fills_its_longest_side_exactly(height: int, width: int, image_size: int) -> None:
    fit = SliceFit((height, width), image_size)
    assert max(fit.resized) == image_size
    assert min(fit.resized) >= 1
    assert abs(fit.resized[0] - height * fit.scale) <= 1
    assert abs(fit.resized[1] - width * fit.scale) <= 1


def test_logits_come_back_to_their_place() -> None:
    mask = np.zeros((40, 100), bool)
    mask[10:30, 20:70] = True
    square = prepare_mask(mask, 64)
    assert not square[26:].any()  # 40 / 100 * 64 = 25.6 rows are the slice's
    restored = restore_logits(square - 0.5, SliceFit(mask.shape, 64)) > 0
    assert (restored == mask).mean() > 0.98


def test_logits_of_a_slice_of_the_inputs_size_are_untouched() -> None:
    logits = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    np.testing.assert_array_equal(restore_logits(logits, SliceFit((64, 64), 64)), logits)


@pytest.mark.parametrize("shape", [(4,), (4, 0), (4, 4, 4), (4, 4, 1), (2, 3, 4, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"expected \[rows, columns\]"):
        prepare_slice(np.zeros(shape), 64)


@pytest.mark.parametrize("dtype", [complex, object, "U3"])
def test_what_is_not_a_real_number_is_refused(dtype: object) -> None:
    with pytest.raises(ImageError, match="real numbers"):
        prepare_slice(np.zeros((4, 4), dtype), 64)
