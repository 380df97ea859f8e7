"""Three slice views as Slicer's layouts have them."""

from typing import Any

import slicer


def add_views(scene: Any) -> list[Any]:
    """Red (axial), yellow (sagittal), green (coronal)."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    nodes = []
    for name, orientation in (("Red", "Axial"), ("Yellow", "Sagittal"), ("Green", "Coronal")):
        node = scene.AddNewNodeByClass("vtkMRMLSliceNode", name)
        node.SetLayoutName(name)
        node.SetOrientation(orientation)
        nodes.append(node)
    return nodes
