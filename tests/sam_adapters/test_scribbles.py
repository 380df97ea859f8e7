import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from sam_adapters.errors import PromptError
from sam_adapters.scribbles import LEAST_DISTANCE, POINTS_PER_SIGN, scribble_points, spread_points


def strokes(*pixels: tuple[int, int], size: tuple[int, int] = (20, 30)) -> NDArray[np.bool_]:
    """A picture of `size` (rows, columns) with strokes at pixels (x, y)."""
    found = np.zeros(size, bool)
    for x, y in pixels:
        found[y, x] = True
    return found


def test_a_line_gives_its_middle_then_its_ends_then_what_lies_between() -> None:
    line = strokes(*((x, 5) for x in range(4, 13)))  # columns 4 to 12, mean 8
    assert spread_points(line, 5) == [(8, 5), (4, 5), (12, 5), (6, 5), (10, 5)]


def test_a_dot_gives_one_point_and_neighbours_say_nothing_new() -> None:
    assert spread_points(strokes((7, 3)), 4) == [(7, 3)]
    assert spread_points(strokes((7, 3), (8, 3)), 4) == [(7, 3)]
    assert spread_points(strokes(), 4) == []


def test_signs_become_labels() -> None:
    points = scribble_points(strokes((3, 4)), strokes((20, 10)))
    assert points == ((3.0, 4.0, 1), (20.0, 10.0, 0))
    assert scribble_points(None, strokes((20, 10))) == ((20.0, 10.0, 0),)
    assert scribble_points(None, None) == ()


def test_a_pixel_of_both_signs_is_refused() -> None:
    with pytest.raises(PromptError, match="1 pixels are both foreground and background, the first at x = 3, y = 4"):
        scribble_points(strokes((3, 4), (5, 4)), strokes((3, 4), (9, 9)))


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=16)), st.integers(1, 6))
def test_points_lie_on_the_strokes_far_from_each_other_and_cover_them(mask: NDArray[np.bool_], count: int) -> None:
    points = spread_points(mask, count)
    assert len(points) <= count
    assert all(mask[y, x] for x, y in points)
    places = np.array(points, float).reshape(-1, 2)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert (distances[~np.eye(len(points), dtype=bool)] >= LEAST_DISTANCE).all()
    if mask.any() and len(points) < count:  # it ended early: nothing is far from a point
        pixels = np.argwhere(mask)[:, ::-1]
        assert np.linalg.norm(pixels[:, None] - places[None], axis=2).min(axis=1).max() < LEAST_DISTANCE


def test_a_stroke_of_many_pixels_gives_few_points() -> None:
    assert len(scribble_points(np.ones((200, 300)), None)) == POINTS_PER_SIGN
