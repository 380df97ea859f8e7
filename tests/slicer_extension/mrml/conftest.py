"""Slicer's own MRML, from the slicer-core wheel, with a scene for each test."""

from collections.abc import Iterator
from typing import Any

import pytest
import slicer


@pytest.fixture(scope="session", autouse=True)
def segmentations_logic() -> Any:
    """Slicer's segmentations module, as in the running application: it tells segmentations how labelmaps are made."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(slicer.vtkMRMLScene())
    return logic


@pytest.fixture
def scene() -> Iterator[Any]:
    made = slicer.vtkMRMLScene()
    before = getattr(slicer, "mrmlScene", None)
    slicer.mrmlScene = made
    yield made
    made.Clear(True)
    slicer.mrmlScene = before
