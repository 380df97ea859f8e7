"""Model `sam`: prompts in, mask out. Type `deepgrow`, so that the official Slicer plug-in lists it under SmartEdit."""

from monailabel.interfaces.tasks.infer_v2 import InferType

from monailabel_app.engine import Engine
from monailabel_app.segmentation_task import SegmentationTask


class InteractiveTask(SegmentationTask):
    """Fills the slices that have a point or a box; a request without any is refused."""

    automatic = False

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, InferType.DEEPGROW, "Segments the slices on which there is a point or a box")
