"""Infer requests, from loose dictionaries to checked values. Shapes are (k, j, i) = (4, 20, 30)."""

from typing import Any

import pytest

from monailabel_app.app_errors import RequestError
from monailabel_app.infer_parameters import InferParameters, parse_parameters
from sam_adapters.errors import PromptError
from sam_adapters.prompts import SlicePrompts

SHAPE = (4, 20, 30)


def parse(request: dict[str, Any], *, automatic: bool = False, picture: bool = False) -> InferParameters:
    return parse_parameters(request, shape_kji=SHAPE, picture=picture, automatic=automatic, label_name="target")


def test_the_plug_ins_request() -> None:
    found = parse(
        {
            "label": "tumour",
            "foreground": [[5, 6, 2]],
            "background": [[7, 8, 2]],
            "roi": [29, 3, 4, 12, 1, 2],
            "version": "active",
            "axis": "k",
            "result_extension": ".nrrd",
            "result_dtype": "uint8",
            "client_id": "user-xyz",
        }
    )
    box = (3.0, 4.0, 29.0, 12.0)
    assert found.prompts == {1: SlicePrompts(box=box), 2: SlicePrompts(points=((5.0, 6.0, 1), (7.0, 8.0, 0)), box=box)}
    assert (found.label, found.extension, found.dtype, found.version) == ("tumour", ".nrrd", "uint8", "active")


def test_a_box_that_sticks_out_is_cut_to_the_image() -> None:
    found = parse({"roi": [-10, 500, 2, 3, -1, 1]})
    assert found.prompts == {0: SlicePrompts(box=(0.0, 2.0, 29.0, 3.0)), 1: SlicePrompts(box=(0.0, 2.0, 29.0, 3.0))}


def test_prompts_by_slice_are_added_to_those_of_the_volume() -> None:
    entries = [{"index": 9, "box": [1, 0, 4, 3], "foreground": [[2, 1]]}, {"index": 3, "background": [[5, 2]]}]
    found = parse({"axis": "j", "foreground": [[7, 9, 2]], "slices": entries})
    assert found.prompts == {
        3: SlicePrompts(points=((5.0, 2.0, 0),)),
        9: SlicePrompts(points=((7.0, 2.0, 1), (2.0, 1.0, 1)), box=(1.0, 0.0, 4.0, 3.0)),
    }


def test_no_prompt_means_every_slice_for_the_automatic_model_only() -> None:
    assert parse({"foreground": [], "background": [], "roi": []}, automatic=True).prompts is None
    with pytest.raises(PromptError, match="No prompt"):
        parse({"foreground": [], "roi": []})


def test_a_bare_slice_is_for_the_automatic_model_only() -> None:
    assert parse({"slices": [{"index": 2}]}, automatic=True).prompts == {2: SlicePrompts()}
    with pytest.raises(PromptError, match="Slice 2 has no prompt"):
        parse({"slices": [{"index": 2}]})


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"foreground": [[30, 0, 0]]}, "expected 0 to 29"),
        ({"foreground": [[0, 0]]}, "three numbers"),
        ({"foreground": [["a", 0, 0]]}, "three numbers"),
        ({"foreground": [0, 0, 0]}, "list of voxels"),
        ({"foreground": "1,2,3"}, "expected a list"),
        ({"foreground": [[1, 2, 3e400]]}, "three numbers"),
        ({"foreground": [["1", "2", "3"]]}, "three numbers"),
        ({"foreground": [[True, False, True]]}, "three numbers"),
        ({"foreground": [[10**400, 0, 0]]}, "three numbers"),
        ({"foreground": [[0, 0, 0]] * 10_001}, "at most 10,000"),
        ({"roi": [0, 1, 0, 1, 0, float("nan")]}, "six numbers"),
        ({"roi": ["0", "1", "0", "1", "0", "1"]}, "six numbers"),
        ({"slices": [{"index": 0}] * 10_001}, "at most 10,000"),
        ({"slices": [{"index": 0, "foreground": [[0, 0]] * 10_001}]}, "at most 10,000"),
        ({"roi": [1, 2, 3]}, "six numbers"),
        ({"roi": [1, 2, 3, 4, 5, "x"]}, "six numbers"),
        ({"roi": [40, 50, 0, 1, 0, 1]}, "outside"),
        ({"roi": {"x": 1}}, "expected"),
        ({"axis": "z", "foreground": [[0, 0, 0]]}, "one of k, j, i"),
        ({"slices": [{"index": 4}]}, "expected 0 to 3"),
        ({"slices": [{"index": True}]}, "expected 0 to 3"),
        ({"slices": [{"index": 0, "box": [0, 0, 30, 1]}]}, "Slice 0 along k"),
        ({"slices": [{"index": 0, "box": [5, 0, 3, 1]}]}, "inside out"),
        ({"slices": [{"index": 0, "box": [5, 0, 3]}]}, "x0, y0, x1, y1"),
        ({"slices": [{"index": 0, "foreground": [[1]]}]}, "list of"),
        ({"slices": [{"index": 0, "mask": []}]}, "objects with index"),
        ({"slices": [7]}, "objects with index"),
        ({"slices": [{"index": 0, "box": [0, 0, 1, 1]}], "roi": [0, 5, 0, 5, 0, 0]}, "two boxes"),
    ],
)
def test_malformed_prompts_are_refused_with_a_sentence(request_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        parse(request_)


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"version": "../../x"}, "version is"),
        ({"version": 3}, "version is"),
        ({"result_extension": ".png"}, "result_extension"),
        ({"result_extension": "/../x.nii.gz"}, "result_extension"),
        ({"result_dtype": "float32"}, "result_dtype"),
        ({"label": "x" * 201}, "label"),
        ({"label": {"a": 1}}, "label"),
    ],
)
def test_other_parameters_that_cannot_be_used_are_refused(extra: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestError, match=sentence):
        parse({"foreground": [[0, 0, 0]], **extra})


def test_result_formats() -> None:
    point: dict[str, Any] = {"foreground": [[0, 0, 0]]}
    assert parse(point).extension == ".nii.gz"
    assert parse(point, picture=True).extension == ".png"
    assert parse({**point, "result_extension": ".nrrd"}, picture=True).extension == ".nrrd"
    assert parse({**point, "result_dtype": "uint16"}).dtype == "uint16"
