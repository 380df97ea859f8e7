"""Voxels, places, planes and boxes, against SimpleITK and by hand."""

import numpy as np
import pytest
import SimpleITK as sitk
from FedSCALib.mrml_geometry import (
    AXES,
    as_plane,
    as_region,
    axis_across,
    box_around,
    far_apart,
    grown,
    ijk_at,
    intersection,
    nearest_rotation,
    ras_at,
    region_of,
    region_shape,
    slices_of,
    stroke_mask,
    voxel_at,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.slicer_extension.mrml.images import grids, ijk_to_ras, oblique

SIZE = (9, 8, 7)


@given(grids(), st.tuples(*[st.floats(-2, 8)] * 3))
def test_places_and_voxels_agree_with_simpleitk(image: sitk.Image, continuous: tuple[float, float, float]) -> None:
    left, posterior, superior = image.TransformContinuousIndexToPhysicalPoint(continuous)
    matrix, place = ijk_to_ras(image), np.array([-left, -posterior, superior])
    np.testing.assert_allclose(ras_at(continuous, matrix), place, atol=1e-6)
    np.testing.assert_allclose(ijk_at(place, matrix), continuous, atol=1e-6)
    away = np.abs(np.array(continuous) % 1 - 0.5).min()  # exactly between two voxels both answers are right
    if away > 1e-6:
        nearest = image.TransformPhysicalPointToIndex((left, posterior, superior))
        inside = all(0 <= n < size for n, size in zip(nearest, image.GetSize(), strict=True))
        assert voxel_at(place, matrix, image.GetSize()) == (nearest if inside else None)


@given(grids(), st.sampled_from(AXES), st.floats(-0.25, 0.25), st.floats(0, 6.28), st.sampled_from([1, -1]))
def test_the_axis_of_a_view_is_that_of_the_nearest_plane(image: sitk.Image, axis: str, tilt: float, turn: float, sign: int) -> None:
    """A view shows a plane that two axes span; its normal may point either way and be tilted by up to 14 degrees."""
    matrix = ijk_to_ras(image)
    first, second = [matrix[:3, n] / np.linalg.norm(matrix[:3, n]) for n in range(3) if n != AXES.index(axis)]
    normal = np.cross(first, second) + np.tan(tilt) * (np.cos(turn) * first + np.sin(turn) * second)
    assert axis_across(sign * normal, matrix) == axis


@pytest.mark.parametrize(("axis", "region"), [("k", (2, 4, 1, 3, 5, 5)), ("j", (2, 4, 5, 5, 1, 3)), ("i", (5, 5, 2, 4, 1, 3))])
def test_boxes_of_slices_are_regions_of_the_volume(axis: str, region: tuple[int, ...]) -> None:
    assert region_of(SIZE, axis, 5, (2, 1, 4, 3)) == region


@given(st.sampled_from(AXES), st.data())
def test_planes_and_regions_are_the_docs_table(axis: str, data: st.DataObject) -> None:
    volume = np.arange(np.prod(SIZE)).reshape(SIZE[::-1])
    index = data.draw(st.integers(0, SIZE[AXES.index(axis)] - 1))
    plane = volume[{"k": np.s_[index], "j": np.s_[:, index], "i": np.s_[:, :, index]}[axis]]
    region = region_of(SIZE, axis, index)
    np.testing.assert_array_equal(as_plane(volume[slices_of(region)], axis), plane)
    np.testing.assert_array_equal(as_region(plane, axis), volume[slices_of(region)])
    assert as_region(plane, axis).shape == region_shape(region)


def regions(limits: tuple[int, int, int] = SIZE) -> st.SearchStrategy[tuple[int, ...]]:
    pairs = [st.tuples(*[st.integers(0, n - 1)] * 2).map(sorted) for n in limits]
    return st.tuples(*pairs).map(lambda ends: tuple(end for pair in ends for end in pair))


@given(regions(), regions())
def test_intersections_are_what_both_hold(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    one, two = np.zeros(SIZE[::-1], bool), np.zeros(SIZE[::-1], bool)
    one[slices_of(first)] = two[slices_of(second)] = True  # type: ignore[arg-type]
    shared = intersection(first, second)  # type: ignore[arg-type]
    both = np.zeros(SIZE[::-1], bool)
    if shared is not None:
        both[slices_of(shared)] = True
    np.testing.assert_array_equal(both, one & two)


@given(st.one_of(st.none(), regions((90, 80, 70))), regions((90, 80, 70)))
def test_layers_grow_around_what_they_hold_inside_of_the_image(have: tuple[int, ...] | None, need: tuple[int, ...]) -> None:
    limits = (0, 89, 0, 79, 0, 69)
    found = grown(have, need, limits)  # type: ignore[arg-type]
    assert intersection(found, need) == need  # type: ignore[arg-type]
    assert intersection(found, limits) == found
    if have is not None:
        assert intersection(found, have) == have  # type: ignore[arg-type]


def test_filling_a_volume_slice_by_slice_copies_few_times() -> None:
    have, copied = None, 0
    for k in range(300):
        need = (0, 99, 0, 99, k, k)
        if have is None or intersection(have, need) != need:
            copied += region_shape(have)[0] if have else 0
            have = grown(have, need, (0, 99, 0, 99, 0, 299))
    assert copied < 3 * 300


def test_grids_are_compared_at_their_corners() -> None:
    matrix = ijk_to_ras(oblique())
    assert far_apart(matrix, matrix, SIZE) == 0
    moved = matrix.copy()
    moved[0, 3] += 0.35
    assert far_apart(matrix, moved, SIZE) == pytest.approx(0.5)  # half of the shortest side, 0.7 mm
    reversed_slices = matrix.copy()
    reversed_slices[:3, 3] += reversed_slices[:3, 2] * 6
    reversed_slices[:3, 2] *= -1
    assert far_apart(matrix, reversed_slices, SIZE) == pytest.approx(6 * 3.3 / 0.7)


@given(grids())
def test_the_boxs_sides_run_along_the_grid(image: sitk.Image) -> None:
    turned = nearest_rotation(ijk_to_ras(image))[:3, :3]
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turned) == pytest.approx(1)
    axes = ijk_to_ras(image)[:3, :3] / np.array(image.GetSpacing())
    np.testing.assert_allclose(np.abs(np.sum(turned * axes, axis=0)), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("corners", "axis", "box"),
    [
        ([(1, 2, 3), (4, 5, 3)], "k", (1, 2, 4, 5)),
        ([(4.4, 5.4, 3), (0.6, 1.6, 3)], "k", (1, 2, 4, 5)),
        ([(-3, 2, 3), (40, 5, 3)], "k", (0, 2, 8, 5)),
        ([(1, 2, 3), (4, 5, 6)], "j", (1, 3, 4, 6)),
        ([(1, 2, 3), (4, 5, 6)], "i", (2, 3, 5, 6)),
        ([(9, 2, 3), (12, 5, 3)], "k", None),
        ([(-5, 2, 3), (-0.6, 5, 3)], "k", None),
    ],
)
def test_boxes_around_corners(corners: list[tuple[float, float, float]], axis: str, box: tuple[int, int, int, int] | None) -> None:
    assert box_around(corners, SIZE, axis) == box


def test_strokes_are_lines_of_a_width() -> None:
    expected = np.zeros((5, 7), bool)
    expected[2, 1:6] = True
    np.testing.assert_array_equal(stroke_mask([(1, 2), (3, 2), (5, 2)], (5, 7), 0.4), expected)
    dot = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
    np.testing.assert_array_equal(stroke_mask([(1, 1)], (3, 3), 1.0), dot)
    assert not stroke_mask([(-5, -5), (-5, 9)], (3, 3), 1.0).any()
