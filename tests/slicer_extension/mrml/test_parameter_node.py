"""Typed parameters on a plain MRML node, saved with the scene."""

from pathlib import Path
from typing import Any

import pytest
import slicer
from FedSCALib.parameter_node import ParameterNode


@pytest.fixture
def parameters(scene: Any) -> ParameterNode:
    return ParameterNode(scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "FedSCA"))


def test_defaults(parameters: ParameterNode) -> None:
    assert (parameters.case, parameters.tag, parameters.label) == ("", "final", "")
    assert (parameters.tool, parameters.mode) == ("point", "replace")
    assert (parameters.positive, parameters.review) == (True, False)
    assert parameters.volume is None
    assert parameters.segmentation is None


def test_what_is_set_is_saved_with_the_scene(parameters: ParameterNode, scene: Any, tmp_path: Path) -> None:
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "ct")
    parameters.label = "tumour, left = ½"
    parameters.positive = False
    parameters.tool = "box"
    parameters.volume = volume
    scene.SetURL(str(tmp_path / "scene.mrml"))
    assert scene.Commit()
    again = slicer.vtkMRMLScene()
    again.SetURL(str(tmp_path / "scene.mrml"))
    again.Import()
    loaded = ParameterNode(again.GetFirstNodeByName("FedSCA"))
    assert (loaded.label, loaded.positive, loaded.tool, loaded.mode) == ("tumour, left = ½", False, "box", "replace")
    assert loaded.volume.GetName() == "ct"
    loaded.volume = None
    assert loaded.volume is None


def test_values_of_another_version_count_as_defaults(parameters: ParameterNode) -> None:
    parameters.node.SetParameter("tool", "lasso")
    parameters.node.SetParameter("positive", "perhaps")
    assert (parameters.tool, parameters.positive) == ("point", True)


def test_what_cannot_be_read_again_is_not_written(parameters: ParameterNode) -> None:
    with pytest.raises(ValueError, match="'lasso': expected one of point"):
        parameters.tool = "lasso"
    assert parameters.tool == "point"


def test_observers_are_called_for_changes_only(parameters: ParameterNode) -> None:
    told: list[str] = []
    parameters.node.AddObserver("ModifiedEvent", lambda *_: told.append("modified"))
    parameters.mode = "add"
    parameters.mode = "add"
    parameters.case = ""
    assert told == ["modified"]
