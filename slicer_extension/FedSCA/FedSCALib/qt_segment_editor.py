"""Slicer's own Segment Editor inside the panel: its Paint and Erase for editing by hand.

The editor works on the case's segmentation node, so what it draws is what the annotator reads.
It may not paint into other segments, like everything else here.
Where the application has no Segment Editor, `available` is False and painting is off.
"""

from __future__ import annotations

from typing import Any, Optional

import slicer

EFFECTS = {"paint": "Paint", "erase": "Erase"}
NODE_TAG = "FedSCASegmentEditor"


def available() -> bool:
    """Whether this application has a Segment Editor widget."""
    return hasattr(slicer, "qMRMLSegmentEditorWidget")


class SegmentEditor:
    """One editor with a parameter node of its own, so that the Segment Editor module's settings stay as they are."""

    def __init__(self, layout: Any) -> None:
        self.widget = slicer.qMRMLSegmentEditorWidget()
        self.widget.setMRMLScene(slicer.mrmlScene)
        self._node = _editor_node()
        self.widget.setMRMLSegmentEditorNode(self._node)
        layout.addWidget(self.widget)

    def start(self, tool: str, segmentation: Any, volume: Any, segment_id: str, brush_mm: float) -> None:
        """Take up `paint` or `erase` on one segment, with a round brush of so many mm in the slice.

        The editor's earlier undo steps are forgotten: they would bring back segments as they were before the model's last answers.
        """
        self._use(None, None)
        self._use(segmentation, volume)
        allowed = slicer.vtkMRMLSegmentationNode
        self._node.SetMaskMode(allowed.EditAllowedOutsideAllSegments if tool == "paint" else allowed.EditAllowedEverywhere)
        self._node.SetOverwriteMode(self._node.OverwriteNone)
        self.widget.setCurrentSegmentID(segment_id)
        self.widget.setActiveEffectByName(EFFECTS[tool])
        self.set_brush(brush_mm)

    def set_brush(self, diameter_mm: float) -> None:
        """Another size of the brush."""
        effect = self.widget.activeEffect()
        if effect is not None:
            effect.setCommonParameter("BrushSphere", 0)
            effect.setCommonParameter("BrushDiameterIsRelative", 0)
            effect.setCommonParameter("BrushAbsoluteDiameter", float(diameter_mm))

    def active(self) -> bool:
        """Whether the brush is in the hand."""
        return self.widget.activeEffect() is not None

    def stop(self) -> None:
        """Lay the brush down."""
        if self.active():
            self.widget.setActiveEffectByName("")

    def undo(self) -> None:
        """Take back the last stroke."""
        self.widget.undo()

    def redo(self) -> None:
        """Bring it back."""
        self.widget.redo()

    def close(self) -> None:
        """Let go of the scene: an effect that stays on would keep observing a scene that is being closed."""
        self.stop()
        self._use(None, None)
        self.widget.setMRMLScene(None)

    def _use(self, segmentation: Optional[Any], volume: Optional[Any]) -> None:
        self.widget.setSegmentationNode(segmentation)
        set_volume = getattr(self.widget, "setSourceVolumeNode", None) or self.widget.setMasterVolumeNode  # before Slicer 5.2
        set_volume(volume)


def _editor_node() -> Any:
    node = slicer.mrmlScene.GetSingletonNode(NODE_TAG, "vtkMRMLSegmentEditorNode")
    if node is None:
        node = slicer.vtkMRMLSegmentEditorNode()
        node.SetSingletonTag(NODE_TAG)
        node.SetHideFromEditors(True)
        node = slicer.mrmlScene.AddNode(node)
    return node
