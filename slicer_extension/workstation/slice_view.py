"""One slice view: Slicer's own, rendered without a screen; what it shows and where, in voxels. Main thread only."""

from __future__ import annotations

from typing import Any

import numpy as np
from FedSCALib.mrml_layers import matrix_array
from FedSCALib.mrml_scene import ijk_to_world, show_slice, slice_in_view
from numpy.typing import NDArray
from slicer import vtkMRMLLayerDisplayableManager
from trame_slicer.views import ScheduledRenderStrategy, SliceView, ViewProps
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkObject
from vtkmodules.vtkCommonDataModel import vtkImageData

from workstation.geometry import edge_letters, millimetres_per_pixel, picture_to_ijk

SMALLEST, LARGEST = 32, 4096  # sides of a picture in pixels
Place = tuple[str, int]


class _Wish(ScheduledRenderStrategy):  # type: ignore[misc]
    """Slicer wants the view rendered: remember it, render when there is time."""

    def __init__(self, wanted: Any) -> None:
        super().__init__()
        self._wanted = wanted

    def schedule_render(self) -> None:
        self._wanted()


class View:
    """A slice view.

    Args:
        app: trame-slicer's SlicerApp.
        name: Slicer's name: Red, Green or Yellow.
        orientation: Axial, Coronal or Sagittal, before a case turns it into its own planes.
        wanted: called when it should be rendered again.
    """

    def __init__(self, app: Any, name: str, orientation: str, wanted: Any) -> None:
        self.name = name
        vtkObject.GlobalWarningDisplayOff()  # trame-slicer observes an event that VTK no longer sends, and VTK says so; `resize` needs none
        self._slicer = SliceView(app.scene, app.app_logic, name)
        vtkObject.GlobalWarningDisplayOn()
        self._slicer.set_scheduled_render(_Wish(lambda: wanted(name)))
        self._slicer.set_view_properties(ViewProps(orientation=orientation, background_color="#000000", group=0))
        # First of what is drawn: VTK draws what was added later over it, and a half transparent label needs the image below it.
        self._slicer.first_renderer().AddViewProp(self._slicer._render_manager.image_actor)
        window = self._slicer.render_window()
        window.SetMultiSamples(0)  # slices have no edges to smooth; eight samples a pixel cost four times the time without a GPU
        self._slicer.interactor().EnableRenderOff()
        self._buffer = vtkImageData()
        self.size = (SMALLEST, SMALLEST)

    @property
    def node(self) -> Any:
        """The vtkMRMLSliceNode."""
        return self._slicer.get_view_node()

    @property
    def logic(self) -> Any:
        return self._slicer._logic

    def resize(self, width: int, height: int) -> bool:
        """Picture's size in pixels; the same millimetres stay in the middle. Returns whether it changed."""
        size = (min(max(width, SMALLEST), LARGEST), min(max(height, SMALLEST), LARGEST))
        if size == self.size:
            return False
        self.size = size
        self._slicer.update_size(*size)
        self.logic.ResizeSliceNode(*size)
        return True

    def fit(self) -> None:
        """The whole slice in the picture."""
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()

    def place(self, volume: Any) -> Place | None:
        """Axis and index of the slice that is shown; None without a case."""
        return slice_in_view(self.node, volume) if volume is not None else None

    def show(self, volume: Any, index: int) -> None:
        """Move along the axis to a slice."""
        show_slice(self.node, volume, index)

    def zoom(self, factor: float, at: tuple[float, float]) -> None:
        """Enlarge by a factor; the place `at` (parts of the picture, from the left and from the top) stays where it is."""
        width, height, depth = self.node.GetFieldOfView()
        if not 2.0 < width / factor < 20_000.0:
            return
        across, down = at[0] - 0.5, at[1] - 0.5
        self.node.SetFieldOfView(width / factor, height / factor, depth)
        self._move(across * width * (1 - 1 / factor), -down * height * (1 - 1 / factor))

    def pan(self, right: float, down: float) -> None:
        """Move the image by parts of the picture."""
        width, height, _ = self.node.GetFieldOfView()
        self._move(-right * width, down * height)

    def picture(self) -> NDArray[Any]:
        """Render: uint8 (rows, columns, channels), the uppermost row first."""
        window = self._slicer.render_window()
        window.Render()
        vtkMRMLLayerDisplayableManager.RenderWindowBufferToImage(window, self._buffer)
        columns, rows, _ = self._buffer.GetDimensions()
        pixels = vtk_to_numpy(self._buffer.GetPointData().GetScalars()).reshape(rows, columns, -1)
        return np.ascontiguousarray(pixels[::-1])

    def describe(self, volume: Any) -> dict[str, Any]:
        """What the page needs to draw over the picture and to know which voxel a click meets."""
        place = self.place(volume)
        if place is None:
            return {"axis": "", "index": -1, "count": 0}
        xy_to_ras = matrix_array(self.node.GetXYToRAS())
        return {
            "image": volume.GetID(),
            "axis": place[0],
            "index": place[1],
            "count": volume.GetImageData().GetDimensions()["ijk".index(place[0])],
            "to_ijk": picture_to_ijk(xy_to_ras, ijk_to_world(volume), self.size[1]).round(9).tolist(),
            "letters": edge_letters(xy_to_ras),
            "mm": millimetres_per_pixel(xy_to_ras),
        }

    def close(self) -> None:
        """Give the graphics memory back."""
        self._slicer.finalize()

    def _move(self, right: float, up: float) -> None:
        """Move what is looked at, in mm along the picture's directions."""
        pose = self.node.GetSliceToRAS()
        shift = [pose.GetElement(row, 0) * right + pose.GetElement(row, 1) * up for row in range(3)]
        for row in range(3):
            pose.SetElement(row, 3, pose.GetElement(row, 3) + shift[row])
        self.node.UpdateMatrices()
