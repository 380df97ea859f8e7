import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.errors import PromptError
from sam_adapters.prompts import (
    AXES,
    Axis,
    SlicePrompts,
    checked_axis,
    prompts_by_slice,
    put_slice,
    slice_count,
    slice_size,
    take_slice,
    tight_box,
)

SHAPE = (4, 5, 6)  # k, j, i


@pytest.mark.parametrize(
    ("axis", "index", "x", "y"),
    [("k", 1, 3, 2), ("j", 2, 3, 1), ("i", 3, 2, 1)],
)
def test_a_voxel_is_found_on_its_slice(axis: Axis, index: int, x: float, y: float) -> None:
    # voxel i=3, j=2, k=1
    assert prompts_by_slice(foreground=[[3, 2, 1]], axis=axis, shape_kji=SHAPE) == {index: SlicePrompts(points=((x, y, 1),))}


@given(st.sampled_from(AXES), st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)))
def test_point_and_array_mean_the_same_voxel(axis: Axis, kji: tuple[int, int, int]) -> None:
    volume = np.zeros(SHAPE, np.uint8)
    volume[kji] = 1
    ((index, prompts),) = prompts_by_slice(foreground=[kji[::-1]], axis=axis, shape_kji=SHAPE).items()
    ((x, y, _),) = prompts.points
    assert take_slice(volume, axis, index)[int(y), int(x)] == 1


@given(st.sampled_from(AXES), st.tuples(*(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)) for count in SHAPE)))
def test_box_and_array_mean_the_same_voxels(axis: Axis, spans: tuple[tuple[int, int], ...]) -> None:
    k, j, i = (sorted(span) for span in spans)
    volume = np.zeros(SHAPE, bool)
    volume[k[0] : k[1] + 1, j[0] : j[1] + 1, i[0] : i[1] + 1] = True
    prompts = prompts_by_slice(roi=[*i, *j, *k], axis=axis, shape_kji=SHAPE)
    for index in range(slice_count(SHAPE, axis)):
        mask = take_slice(volume, axis, index)
        assert (index in prompts) == mask.any()
        if index in prompts:
            assert prompts[index].box == tight_box(mask)


def test_box_and_points_are_combined_slice_by_slice() -> None:
    prompts = prompts_by_slice(
        foreground=[[1, 1, 2], [2, 2, 2]], background=[[0, 0, 2], [5, 4, 0]], roi=[1, 3, 0, 4, 2, 3], axis="k", shape_kji=(*SHAPE, 3)
    )
    assert list(prompts) == [0, 2, 3]
    assert prompts[0] == SlicePrompts(points=((5, 4, 0),))
    assert prompts[2] == SlicePrompts(points=((1, 1, 1), (2, 2, 1), (0, 0, 0)), box=(1, 0, 3, 4))
    assert prompts[3] == SlicePrompts(box=(1, 0, 3, 4))


@pytest.mark.parametrize("roi", [None, []])
def test_no_prompts_give_no_slices(roi: list[float] | None) -> None:
    assert prompts_by_slice(roi=roi, axis="k", shape_kji=SHAPE) == {}
    assert SlicePrompts().empty
    assert not SlicePrompts(mask=np.zeros((2, 2), np.float32)).empty


def test_fractions_go_to_the_nearest_voxel() -> None:
    prompts = prompts_by_slice(foreground=[[5.4, -0.5, 1.5]], axis="k", shape_kji=SHAPE)
    assert prompts == {2: SlicePrompts(points=((5, 0, 1),))}


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        ([[6, 0, 0]], r"Foreground point 0, i is 6, expected 0 to 5"),
        ([[0, 0, 0], [0, -1, 0]], r"Foreground point 1, j is -1, expected 0 to 4"),
        ([[0, 0, math.nan]], r"k is nan, expected 0 to 3"),
        ([[0, math.inf, 0]], r"j is inf"),
        ([[0, 0]], "expected three numbers"),
        ([["a", 0, 0]], "expected three numbers"),
        ([5], "expected three numbers"),
    ],
)
def test_voxels_that_are_not_in_the_image_are_refused(voxels: list, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompts_by_slice(foreground=voxels, axis="k", shape_kji=SHAPE)


@pytest.mark.parametrize(
    ("roi", "message"),
    [
        ([0, 1, 0, 1, 0], "expected six numbers"),
        ([0, 1, 0, 1, 0, None], "expected six numbers"),
        ([0, 6, 0, 1, 0, 1], "Box i1 is 6, expected 0 to 5"),
        ([0, 1, 3, 1, 0, 1], "from j 3 to 1 is inside out"),
        ([0, 1, 0, 1, 0, math.nan], "Box k1 is nan"),
    ],
)
def test_boxes_that_are_not_in_the_image_are_refused(roi: list, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompts_by_slice(roi=roi, axis="j", shape_kji=SHAPE)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (SlicePrompts(points=((20, 0, 1),)), r"x \(column\) is 20, expected 0 to 19"),
        (SlicePrompts(points=((0, 10, 1),)), r"y \(row\) is 10, expected 0 to 9"),
        (SlicePrompts(points=((0, 0, 2),)), "label 2"),
        (SlicePrompts(box=(0, 0, 20, 5)), "Box x1 is 20"),
        (SlicePrompts(box=(5, 6, 4, 7)), "inside out"),
        (SlicePrompts(box=(0, math.nan, 4, 7)), "Box y0 is nan"),
    ],
)
def test_prompts_of_a_slice_are_checked(prompts: SlicePrompts, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        prompts.check((10, 20))
    SlicePrompts(points=((19, 9, 0),), box=(0, 0, 19, 9)).check((10, 20))


@pytest.mark.parametrize(("axis", "shape"), [("k", (5, 6)), ("j", (4, 6)), ("i", (4, 5))])
def test_slices_are_views(axis: Axis, shape: tuple[int, int]) -> None:
    volume = np.zeros(SHAPE, np.int16)
    assert take_slice(volume, axis, 1).shape == shape == slice_size(SHAPE, axis)
    put_slice(volume, axis, 1, np.ones(shape))
    assert volume.sum() == shape[0] * shape[1]
    assert take_slice(volume, axis, 1).all()


def test_a_colour_picture_keeps_its_colours() -> None:
    picture = np.zeros((1, 5, 6, 3), np.uint8)
    assert take_slice(picture, "k", 0).shape == (5, 6, 3)
    assert slice_size(picture.shape, "k") == (5, 6)


@pytest.mark.parametrize("index", [-1, 4])
def test_slices_beyond_the_volume_are_refused(index: int) -> None:
    with pytest.raises(PromptError, match=f"Slice {index} along k, expected 0 to 3"):
        take_slice(np.zeros(SHAPE), "k", index)


def test_unknown_axis_is_refused() -> None:
    assert checked_axis("j") == "j"
    with pytest.raises(PromptError, match="Axis 'z'"):
        checked_axis("z")


def test_an_empty_mask_has_no_box() -> None:
    with pytest.raises(PromptError, match="empty"):
        tight_box(np.zeros((3, 3), bool))
