"""How the open case is shown: its volume in the views, brightness and contrast, which slices. Main thread only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FedSCALib.canvas import Voxel
from FedSCALib.mrml_canvas import MrmlCanvas
from FedSCALib.mrml_geometry import ras_at
from FedSCALib.mrml_scene import ijk_to_world, show_case
from FedSCALib.translate import tr
from slicer import vtkSegmentationConverter

from workstation.slice_view import View
from workstation.window import CT_PRESETS, Window, dragged, looks_like_ct

OUTLINE, FILL = 1.0, 0.32  # opacity of a label's edge and of its inside


class CaseDisplay:
    """The case of one canvas in some views.

    Args:
        seen: called with axis and index when a view shows another slice.
    """

    def __init__(self, app: Any, canvas: MrmlCanvas, views: dict[str, View], seen: Callable[[str, int], None]) -> None:
        self._app, self._canvas, self._views, self._seen = app, canvas, views, seen
        self._shown = ""
        self._hidden: Any = None
        self._unfitted: set[str] = set()

    @property
    def volume(self) -> Any:
        """The case's volume node, or None."""
        return self._canvas.volume_node

    def refresh(self) -> bool:
        """Show the canvas's case if it is another one than before; returns whether it is."""
        volume = self.volume
        shown = volume.GetID() if volume is not None else ""
        if shown == self._shown:
            return False
        self._shown = shown
        own = self._canvas.segmentation_node
        for number in range(self._app.scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
            node = self._app.scene.GetNthNodeByClass(number, "vtkMRMLSegmentationNode")
            if node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(own is not None and node.GetID() == own.GetID())
        if volume is None:
            for view in self._views.values():
                view.logic.GetSliceCompositeNode().SetBackgroundVolumeID(None)
            return True
        self._quiet_surface()
        show_case(self._app.scene, volume, self._app.app_logic)
        self._unfitted = set(self._views)
        for view in self._views.values():
            self._fit_once(view)
        if self.is_ct():
            self.set_window(CT_PRESETS[0][1])
        return True

    def resize(self, view: View, width: int, height: int) -> None:
        """A view's picture has another size on the page; the first size after a case was opened fits the case into it."""
        view.resize(width, height)
        self._fit_once(view)

    def _fit_once(self, view: View) -> None:
        if self.volume is not None and view.name in self._unfitted and min(view.size) > 32:
            view.fit()
            self._unfitted.discard(view.name)

    def show(self, view: View, index: int) -> None:
        """Move a view to a slice, as far as there are slices."""
        place = view.place(self.volume)
        if place is None:
            return
        last = self.volume.GetImageData().GetDimensions()["ijk".index(place[0])] - 1
        wanted = min(max(index, 0), last)
        if wanted != place[1]:
            view.show(self.volume, wanted)
            self._seen(place[0], wanted)

    def jump(self, voxel: Voxel, *, but: View) -> None:
        """Show a voxel in all views but one."""
        if self.volume is not None:
            place = ras_at(voxel, ijk_to_world(self.volume))
            for view in self._views.values():
                if view is not but:
                    view.node.JumpSliceByOffsetting(*place)

    # Brightness

    def is_ct(self) -> bool:
        """Whether the image's values look like Hounsfield units."""
        low, high = self._range()
        return looks_like_ct(low, high)

    def window(self) -> Window | None:
        """Width and centre; None for pictures in colour or without a case."""
        display = self._scalar_display()
        return (display.GetWindow(), display.GetLevel()) if display is not None else None

    def set_window(self, window: Window) -> None:
        display = self._scalar_display()
        if display is not None:
            display.AutoWindowLevelOff()
            display.SetWindowLevel(*window)

    def drag_window(self, right: float, down: float) -> None:
        """Change it as a drag over parts of the picture says."""
        window = self.window()
        if window is not None:
            low, high = self._range()
            self.set_window(dragged(window, right, down, high - low))

    def presets(self) -> list[str]:
        """Names for `set_preset`."""
        names = [tr("Automatic"), tr("Whole range")]
        return names + [name for name, _ in CT_PRESETS] if self.is_ct() else names

    def set_preset(self, number: int) -> None:
        """By its place in `presets`; others are ignored."""
        display = self._scalar_display()
        if display is None or not 0 <= number < len(self.presets()):
            return
        if number == 0:
            display.AutoWindowLevelOn()
        elif number == 1:
            low, high = self._range()
            self.set_window((max(high - low, 1e-6), (high + low) / 2))
        else:
            self.set_window(CT_PRESETS[number - 2][1])

    def _range(self) -> tuple[float, float]:
        image = self.volume.GetImageData() if self.volume is not None else None
        if image is None:
            return 0.0, 1.0
        low, high = image.GetScalarRange()
        return float(low), float(high)

    def _scalar_display(self) -> Any:
        display = self.volume.GetDisplayNode() if self.volume is not None else None
        return display if display is not None and hasattr(display, "SetWindowLevel") else None

    def _quiet_surface(self) -> None:
        """Labels as a clear edge and a light inside; nothing in 3-D, where a surface would be computed anew at every change."""
        node = self._canvas.segmentation_node
        display = node.GetDisplayNode() if node is not None else None
        if display is None:
            return
        display.SetPreferredDisplayRepresentationName2D(vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
        display.SetVisibility3D(False)
        display.SetAllSegmentsVisibility3D(False)
        display.SetOpacity2DFill(FILL)
        display.SetOpacity2DOutline(OUTLINE)
        display.SetSliceIntersectionThickness(2)
        node.RemoveClosedSurfaceRepresentation()
