"""Requests of the interactive path: which slice and prompts they mean, and what is refused with which sentence."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from monailabel_app.app_errors import RequestError
from monailabel_app.fast_routes import validation_sentence
from monailabel_app.mask_wire import pack
from monailabel_app.result_store import Result
from monailabel_app.segment_models import SegmentBody
from monailabel_app.segment_request import SegmentPlan, first_slice, learns_from_masks, segment_plan, slice_range
from sam_adapters.errors import PromptError
from sam_adapters.prompts import AXES, slice_count, slice_size
from tests.monailabel_app.test_result_store import result

SHAPE = (6, 40, 48)  # k, j, i


def plan(previous: Result | None = None, **body: Any) -> SegmentPlan:
    given_body = SegmentBody.model_validate({"image": "case", **body})
    return segment_plan(given_body, shape_kji=SHAPE, content_hash="hash", previous=previous, label_name="target")


def test_prompts_tell_the_slice() -> None:
    found = plan(foreground=[[20, 10, 3]], background=[[1, 2, 3]])
    assert (found.axis, found.index, found.size, found.label) == ("k", 3, (40, 48), "target")
    assert found.prompts.points == ((20.0, 10.0, 1), (1.0, 2.0, 0))
    assert (found.prompts.box, found.edited) == (None, None)


@pytest.mark.parametrize(
    ("axis", "index", "size", "point", "box"),
    [
        ("k", 3, (40, 48), (20.0, 10.0, 1), (5.0, 8.0, 30.0, 12.0)),
        ("j", 10, (6, 48), (20.0, 3.0, 1), (5.0, 2.0, 30.0, 4.0)),
        ("i", 20, (6, 40), (10.0, 3.0, 1), (8.0, 2.0, 12.0, 4.0)),
    ],
)
def test_every_axis_has_its_rows_and_columns(axis: str, index: int, size: Any, point: Any, box: Any) -> None:
    found = plan(axis=axis, index=index, foreground=[[20, 10, 3]], roi=[30, 5, 8, 12, 4, 2])  # ends in any order
    assert (found.index, found.size, found.prompts.points, found.prompts.box) == (index, size, (point,), box)


def test_a_box_over_many_slices_needs_the_index() -> None:
    assert plan(index=4, roi=[5, 30, 8, 12, 2, 4]).prompts.box == (5.0, 8.0, 30.0, 12.0)
    with pytest.raises(PromptError, match=r"3 slices along k \(2, 3, 4\).*give index"):
        plan(roi=[5, 30, 8, 12, 2, 4])
    with pytest.raises(PromptError, match="covers slices 2, 3, 4 along k, expected slice 5"):
        plan(index=5, roi=[5, 30, 8, 12, 2, 4])


def test_no_prompt_at_all_leaves_the_slice_to_the_network() -> None:
    assert plan(index=2).prompts.empty
    with pytest.raises(PromptError, match="says no slice"):
        plan()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"foreground": [[48, 0, 0]]}, "Foreground point 0, i is 48, expected 0 to 47"),
        ({"background": [[0, 0, 0], [0, -1, 0]]}, "Background point 1, j is -1, expected 0 to 39"),
        ({"foreground": [[0, 0, 6]]}, "Foreground point 0, k is 6, expected 0 to 5"),
        ({"roi": [0, 48, 0, 5, 0, 0]}, "Box i1 is 48, expected 0 to 47"),
        ({"roi": [0, 5, 0, 5]}, "Box of 4 numbers"),
        ({"index": 6}, "Slice 6 along k, expected 0 to 5"),
        ({"axis": "i", "index": 48}, "Slice 48 along i, expected 0 to 47"),
        ({"index": 2, "foreground": [[5, 5, 2], [5, 5, 3]]}, "Foreground point 1 lies on slice 3 along k, expected slice 2"),
        ({"foreground": [[5, 5, 2], [5, 5, 3]]}, "on 2 slices along k"),
    ],
)
def test_prompts_outside_say_which_and_what_is_allowed(body: dict[str, Any], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        plan(**body)


def test_scribbles_become_points() -> None:
    crop = np.zeros((3, 5), bool)
    crop[1] = True  # a stroke over five columns
    found = plan(index=1, scribble={"box": [10, 20, 14, 22], "foreground": pack(crop), "background": pack(~crop & False)})
    assert found.prompts.points == ((12.0, 21.0, 1), (10.0, 21.0, 1), (14.0, 21.0, 1))
    with pytest.raises(RequestError, match="The scribble's foreground has a box with x1 = 48"):
        plan(index=1, scribble={"box": [10, 20, 48, 22], "foreground": pack(crop)})


def test_an_edited_mask_lies_on_the_whole_slice() -> None:
    found = plan(axis="j", index=1, mask={"box": [3, 1, 5, 2], "data": pack(np.ones((2, 3), bool))})
    assert found.edited is not None
    assert found.edited.shape == (6, 48)
    assert (int(found.edited.sum()), bool(found.edited[1:3, 3:6].all())) == (6, True)
    with pytest.raises(RequestError, match="The mask does not hold exactly one bit for each of the 3 rows × 3 columns"):
        plan(index=1, mask={"box": [3, 1, 5, 3], "data": pack(np.ones((2, 3), bool))})


def test_a_previous_result_tells_slice_and_label() -> None:
    found = plan(previous=result(index=4))
    assert (found.index, found.label) == (4, "tumour")


@pytest.mark.parametrize(
    ("changed", "body", "message"),
    [
        ({}, {"index": 3}, "for index 4, the request for 3"),
        ({}, {"axis": "j", "index": 4}, "for axis 'k', the request for 'j'"),
        ({}, {"label": "oedema"}, "for label 'tumour', the request for 'oedema'"),
        ({"content_hash": "other"}, {}, "another image"),
    ],
)
def test_a_previous_result_of_something_else_is_refused(changed: dict[str, Any], body: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        plan(previous=replace(result(index=4), **changed), **body)


def test_a_point_on_another_slice_than_the_previous_result_is_refused() -> None:
    with pytest.raises(PromptError, match="lies on slice 2 along k, expected slice 4"):
        plan(previous=result(index=4), foreground=[[5, 5, 2]])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"foreground": "here"}, "foreground cannot be used"),
        ({"foreground": [["a", 1, 2]]}, "foreground.0.0 cannot be used"),
        ({"foreground": [[1, 2]]}, "foreground.0 cannot be used"),
        ({"foreground": [[1, 2, float("nan")]]}, "foreground.0.2 cannot be used"),
        ({"foreground": [[1, 2, 3]] * 1001}, "at most 1000 items"),
        ({"index": "3"}, "index cannot be used"),
        ({"index": True}, "index cannot be used"),
        ({"index": -1}, "index cannot be used"),
        ({"axis": "x"}, "axis cannot be used: Input should be 'k', 'j' or 'i', but it is 'x'"),
        ({"prompts": []}, "prompts cannot be used"),
        ({"mask": {"box": [0, 0, 1], "data": ""}}, "mask.box cannot be used"),
    ],
)
def test_wrong_types_are_sentences(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SegmentBody.model_validate({"image": "case", **body})
    sentence = validation_sentence(refused.value.errors())
    assert message in sentence
    assert sentence.endswith(".")
    assert len(sentence) < 400


@given(st.sampled_from(AXES), st.tuples(*(st.integers(-3, 50) for _ in range(3))))
def test_a_point_is_on_its_slice_or_refused(axis: Any, voxel: tuple[int, int, int]) -> None:
    inside = all(0 <= value < count for value, count in zip(voxel, SHAPE[::-1], strict=True))
    if not inside:
        with pytest.raises(PromptError, match="expected 0 to"):
            plan(axis=axis, foreground=[list(voxel)])
        return
    found = plan(axis=axis, foreground=[list(voxel)])
    assert found.index == voxel["ijk".index(axis)]
    (x, y, _), (rows, columns) = found.prompts.points[0], slice_size(SHAPE, axis)
    assert 0 <= x < columns
    assert 0 <= y < rows


def test_earlier_answers_are_given_to_networks_that_know_them() -> None:
    assert not learns_from_masks("litemedsam", "base", ["box", "mask"])
    assert learns_from_masks("litemedsam", "0123456789abcdef", ["box", "mask"])
    assert not learns_from_masks("litemedsam", "0123456789abcdef", ["box"])
    assert learns_from_masks("sam:facebook/sam-vit-base", "base", ["box"])


def test_where_jobs_begin_and_how_far_they_go() -> None:
    assert [first_slice(None, axis, SHAPE) for axis in AXES] == [3, 20, 24]
    assert first_slice(5, "k", SHAPE) == 5
    with pytest.raises(PromptError):
        first_slice(slice_count(SHAPE, "k"), "k", SHAPE)
    assert slice_range(None, None, start=2, axis="k", shape_kji=SHAPE) == range(6)
    assert slice_range(1, 4, start=2, axis="k", shape_kji=SHAPE) == range(1, 5)
    with pytest.raises(PromptError, match="Slice 6 along k"):
        slice_range(1, 6, start=2, axis="k", shape_kji=SHAPE)
    with pytest.raises(RequestError, match="leave out slice 2"):
        slice_range(3, 5, start=2, axis="k", shape_kji=SHAPE)
