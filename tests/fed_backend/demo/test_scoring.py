import numpy as np
import pytest

from fed_backend.demo.scoring import deepest_point, dice, fill_the_box, mean, slice_box, slice_prompts, slices_dice, target_slices

TRUTH = np.zeros((4, 6, 8), bool)  # slice 1: a 3 x 5 rectangle; slice 2: an L of 5 pixels
TRUTH[1, 1:4, 2:7] = True
TRUTH[2, 1:4, 1] = TRUTH[2, 3, 1:4] = True


def test_dice_by_hand() -> None:
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    a[0] = True
    b[0, 2:] = b[1, 2:] = True
    assert dice(a, b) == pytest.approx(2 * 2 / (4 + 4))
    assert dice(a, a) == 1
    assert dice(np.zeros_like(a), np.zeros_like(a)) == 1
    assert dice(a, np.zeros_like(a)) == 0
    with pytest.raises(ValueError, match="shape"):
        dice(a, b[:1])


def test_box_and_point_of_a_slice() -> None:
    assert slice_box(TRUTH[1]) == (2, 1, 6, 3)
    assert slice_box(TRUTH[2]) == (1, 1, 3, 3)
    assert deepest_point(TRUTH[1]) == (3, 2), "the middle row is two from the outside, from x = 3 on"


def test_the_picture_edge_counts_as_outside() -> None:
    full = np.ones((5, 5), bool)
    assert deepest_point(full) == (2, 2)


def test_the_deepest_point_of_a_ring_lies_on_the_ring() -> None:
    y, x = np.mgrid[:21, :21]
    radius = np.hypot(x - 10, y - 10)
    ring = (radius < 9) & (radius > 4)
    px, py = deepest_point(ring)
    assert ring[py, px]


def test_target_slices_and_the_largest_ones() -> None:
    assert target_slices(TRUTH) == [1, 2]
    assert target_slices(TRUTH, 1) == [1]
    tie = np.zeros((3, 2, 2), bool)
    tie[0, 0, 0] = tie[2, 0, 0] = True
    assert target_slices(tie, 1) == [0]


def test_prompts_per_slice() -> None:
    assert slice_prompts(TRUTH, [1, 2], "box") == [{"index": 1, "box": [2, 1, 6, 3]}, {"index": 2, "box": [1, 1, 3, 3]}]
    assert slice_prompts(TRUTH, [1], "point") == [{"index": 1, "foreground": [[3, 2]]}]
    assert slice_prompts(TRUTH, [1], "none") == [{"index": 1}]


def test_fill_the_box_by_hand() -> None:
    filled = fill_the_box(TRUTH, [1, 2])
    assert filled.sum() == 15 + 9
    assert slices_dice(filled, TRUTH, [1]) == 1
    assert slices_dice(filled, TRUTH, [2]) == pytest.approx(2 * 5 / (9 + 5))
    assert slices_dice(filled, TRUTH, [1, 2]) == pytest.approx(2 * 20 / (24 + 20))


def test_only_the_scored_slices_count() -> None:
    prediction = np.ones_like(TRUTH)
    prediction[1] = TRUTH[1]
    assert slices_dice(prediction, TRUTH, [1]) == 1


def test_mean_of_nothing_is_none() -> None:
    assert mean({}) is None
    assert mean({"a": 0.5, "b": 1.0}) == 0.75
