import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam_adapters.simulated_prompts import (
    BoxJitter,
    apply_box_jitter,
    corrective_click,
    deepest_point,
    depth,
    draw_box_jitter,
    draw_interior_point,
    largest_region,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def rectangle(shape: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def test_depth_by_hand() -> None:
    found = depth(rectangle((5, 7), 1, 1, 5, 3))
    assert found.tolist() == [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 1, 2, 2, 2, 1, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]


def test_the_edge_of_the_picture_is_an_edge() -> None:
    assert deepest_point(np.ones((5, 9), bool)) == (2, 2)


def test_deepest_point_by_hand() -> None:
    mask = rectangle((20, 30), 2, 3, 4, 15) | rectangle((20, 30), 10, 4, 16, 10)
    assert deepest_point(mask) == (13, 7)


@given(masks, st.integers(0, 2**32))
def test_points_lie_inside(mask: np.ndarray, seed: int) -> None:
    if not mask.any():
        with pytest.raises(ValueError, match="empty"):
            deepest_point(mask)
        with pytest.raises(ValueError, match="empty"):
            draw_interior_point(mask, np.random.default_rng(seed))
        return
    for x, y in (deepest_point(mask), draw_interior_point(mask, np.random.default_rng(seed))):
        assert mask[y, x]


def test_drawn_points_keep_to_the_core() -> None:
    mask = rectangle((21, 21), 0, 0, 20, 20)
    drawn = [draw_interior_point(mask, np.random.default_rng(seed)) for seed in range(50)]
    assert len(set(drawn)) > 20
    assert all(5 <= x <= 15 and 5 <= y <= 15 for x, y in drawn)  # depth 11 in the middle, at least 5.5


def test_largest_region_by_hand() -> None:
    mask = rectangle((6, 6), 0, 0, 1, 1) | rectangle((6, 6), 3, 3, 5, 4)
    assert np.array_equal(largest_region(mask), rectangle((6, 6), 3, 3, 5, 4))
    diagonal = np.eye(3, dtype=bool)
    assert largest_region(diagonal).sum() == 1  # corners do not connect
    assert not largest_region(np.zeros((3, 3), bool)).any()


def test_a_missed_region_gets_a_positive_click() -> None:
    target = rectangle((20, 20), 2, 2, 14, 8)
    predicted = rectangle((20, 20), 2, 2, 5, 8)
    x, y, label = corrective_click(predicted, target) or (0, 0, -1)
    assert label == 1
    assert target[y, x]
    assert not predicted[y, x]


def test_a_wrongly_covered_region_gets_a_negative_click() -> None:
    target = rectangle((20, 20), 2, 2, 8, 8)
    predicted = rectangle((20, 20), 3, 2, 18, 8)  # a little missed on the left, much covered on the right
    click = corrective_click(predicted, target)
    assert click == (12, 5, 0)  # 9..18 x 2..8: depth 4 from column 12 on; first such pixel in row order is (12, 5)


@given(masks, masks, st.integers(0, 2**32))
def test_a_click_is_always_on_an_error(one: np.ndarray, other: np.ndarray, seed: int) -> None:
    rows, columns = np.minimum(one.shape, other.shape)
    predicted, target = one[:rows, :columns], other[:rows, :columns]
    for rng in (None, np.random.default_rng(seed)):
        click = corrective_click(predicted, target, rng)
        if click is None:
            assert np.array_equal(predicted, target)
        else:
            x, y, label = click
            assert predicted[y, x] != target[y, x]
            assert label == int(target[y, x])


def test_box_jitter_by_hand() -> None:
    # 40 wide, 10 high: 10 % of the width is 4, of the height 1, raised to the least 2 pixels
    moved = apply_box_jitter((20, 30, 59, 39), BoxJitter(-1, 0.5, 1, -0.5), (100, 100))
    assert moved == (16, 31, 63, 38)
    assert apply_box_jitter((20, 30, 59, 39), BoxJitter(0, 0, 0, 0), (100, 100)) == (20, 30, 59, 39)


@given(st.integers(0, 63), st.integers(0, 47), st.integers(0, 63), st.integers(0, 47), st.integers(0, 2**32))
def test_a_jittered_box_is_a_box_in_the_picture(x0: int, y0: int, x1: int, y1: int, seed: int) -> None:
    box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    a, b, c, d = apply_box_jitter(box, draw_box_jitter(np.random.default_rng(seed)), (48, 64))
    assert 0 <= a <= c <= 63
    assert 0 <= b <= d <= 47


def test_what_is_drawn_follows_from_the_seed() -> None:
    assert draw_box_jitter(np.random.default_rng(3)) == draw_box_jitter(np.random.default_rng(3))
    assert draw_box_jitter(np.random.default_rng(3)) != draw_box_jitter(np.random.default_rng(4))
