"""Model `sam_auto`: an image in, mask out. Type `segmentation`, so that the official Slicer plug-in lists it under Auto Segmentation."""

from monailabel.interfaces.tasks.infer_v2 import InferType

from monailabel_app.engine import Engine
from monailabel_app.segmentation_task import SegmentationTask


class AutomaticTask(SegmentationTask):
    """Fills every slice without prompts, or only the slices that the request names, with the prompts it gives them."""

    automatic = True

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, InferType.SEGMENTATION, "Segments every slice without prompts; only a tuned version is good at that")
