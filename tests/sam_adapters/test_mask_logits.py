"""A person's mask as previous logits: hand-computed where mask and network share pixels, and overlap elsewhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam_adapters.dice import dice
from sam_adapters.preprocess import MASK_LOGIT, SliceFit, mask_logits, restore_logits


def test_equal_sizes_keep_every_pixel() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:5, 3:7] = True
    logits = mask_logits(mask, 8, 8)
    assert logits.dtype == np.float32
    assert (logits == np.where(mask, MASK_LOGIT, -MASK_LOGIT)).all()


def test_padding_is_no_target() -> None:
    logits = mask_logits(np.ones((4, 8), bool), 8, 8)
    assert (logits[:4] == MASK_LOGIT).all()
    assert (logits[4:] == -MASK_LOGIT).all()


def test_a_decoder_grid_of_half_the_side_takes_the_share_of_four_pixels() -> None:
    mask = np.zeros((8, 8), bool)
    mask[:, :4] = True
    logits = mask_logits(mask, 8, 4)
    assert logits.shape == (4, 4)
    assert (logits[:, 0] == MASK_LOGIT).all()
    assert (logits[:, 3] == -MASK_LOGIT).all()
    assert (logits[:, 1] > 0).all()
    assert (logits[:, 2] < 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.sampled_from([(64, 64), (128, 128), (128, 32)]), st.data())
def test_restored_it_is_the_mask_again(rows: int, columns: int, sides: tuple[int, int], data: st.DataObject) -> None:
    y, x = np.mgrid[:rows, :columns]
    cy, cx = data.draw(st.integers(8, rows - 9)), data.draw(st.integers(8, columns - 9))
    mask = (y - cy) ** 2 + (x - cx) ** 2 <= 8**2
    image_size, side = sides
    logits = mask_logits(mask, image_size, side)
    upscaled = np.kron(logits, np.ones((image_size // side,) * 2, np.float32))
    assert dice(restore_logits(upscaled, SliceFit((rows, columns), image_size)) > 0, mask) > 0.8


@pytest.mark.parametrize("value", [0, 1])
def test_constant_masks_stay_constant(value: int) -> None:
    logits = mask_logits(np.full((50, 50), value, np.uint8), 64, 64)
    assert (logits == (MASK_LOGIT if value else -MASK_LOGIT)).all()
