"""Masks on the wire: hand-packed bits, and properties that must hold for every mask."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from monailabel_app.app_errors import RequestError
from monailabel_app.mask_wire import Change, apply_change, change_between, checked_box, mask_box, pack, place, unpack

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    before = draw(masks)
    return before, draw(arrays(bool, before.shape))


def test_bits_run_row_by_row_from_the_highest_bit() -> None:
    crop = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 0]], bool)  # 101 001 11 | 0
    assert zlib.decompress(base64.b64decode(pack(crop))) == bytes([0b10100111, 0b00000000])
    assert (unpack(pack(crop), (3, 3)) == crop).all()


def test_a_change_is_the_smallest_box_with_what_is_in_it_now() -> None:
    before, after = np.zeros((5, 6), bool), np.zeros((5, 6), bool)
    before[1, 1:4] = True
    after[1, 1:3] = after[2, 4] = True
    change = change_between(before, after)
    assert change is not None
    assert change.box == (3, 1, 4, 2)  # columns 3 to 4, rows 1 to 2
    assert unpack(change.data, (2, 2)).tolist() == [[False, False], [False, True]]


def test_nothing_changed_is_none() -> None:
    mask = np.eye(4, dtype=bool)
    assert change_between(mask, mask) is None
    assert change_between(None, np.zeros((4, 4), bool)) is None
    assert mask_box(np.zeros((4, 4), bool)) is None


@given(pairs())
def test_applying_a_change_reproduces_the_mask_and_undoing_it_the_one_before(pair: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    before, after = pair
    forth, back = change_between(before, after), change_between(after, before)
    assert (apply_change(before, forth) == after).all()
    assert (apply_change(apply_change(before, forth), forth) == after).all()
    assert (apply_change(after, back) == before).all()
    assert (apply_change(np.zeros_like(after), change_between(None, after)) == after).all()


@given(masks)
def test_packing_keeps_every_pixel(mask: NDArray[np.bool_]) -> None:
    assert (unpack(pack(mask), (mask.shape[0], mask.shape[1])) == mask).all()


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: base64.b64encode(raw).decode())))
def test_what_is_not_packed_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="The mask"):
        unpack(text, (20, 30))


@pytest.mark.parametrize("rows", [2, 4, 9])
def test_bits_of_another_box_are_refused(rows: int) -> None:
    with pytest.raises(RequestError, match="3 rows × 30 columns"):
        unpack(pack(np.ones((rows, 30), bool)), (3, 30))


def test_a_bomb_is_not_inflated() -> None:
    bomb = base64.b64encode(zlib.compress(b"\xff" * 50_000_000, 9)).decode()
    with pytest.raises(RequestError, match="exactly one bit"):
        unpack(bomb, (8, 8))


def test_a_crop_is_placed_in_its_box_and_nowhere_else() -> None:
    mask = place([2, 1, 4, 2], pack(np.array([[1, 0, 1], [0, 1, 0]], bool)), (4, 6), "The mask")
    assert np.argwhere(mask).tolist() == [[1, 2], [1, 4], [2, 3]]


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 6, 3), "x1 = 6, expected 0 to 5"),
        ((0, 4, 5, 3), "y0 = 4, expected 0 to 3"),
        ((-1, 0, 5, 3), "x0 = -1"),
        ((3, 0, 2, 3), "inside out"),
    ],
)
def test_a_box_outside_the_slice_is_refused(box: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        checked_box(box, (4, 6), "The mask")
    with pytest.raises(RequestError, match=message):
        apply_change(np.zeros((4, 6), bool), Change(box, ""))
