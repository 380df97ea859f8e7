"""The two infer tasks, on one body: MONAI Label's interface outside, our own reading, segmenting and writing inside.

MONAI's transform chain is not used: it loses the affine on the way, and the result's geometry has to be the image's exactly.
Threads: called from any worker thread.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from monailabel_app.engine import Engine
from monailabel_app.infer_parameters import InferParameters, parse_parameters
from sam_adapters.images import MedicalImage
from sam_adapters.mask_files import write_mask_file
from sam_adapters.priority_lock import Priority
from sam_adapters.segmenter import VolumeResult, segment_volume

CLICKED_SLICES = 3
"""A request about at most so many slices is a click, and comes before everybody's volumes; more is a volume itself."""

LABEL_VALUE = 1
"""Value of the target in every result. `SiteSettings.label_value` says how the site's own labels are read; it does not change masks."""


class SegmentationTask(InferTask):  # type: ignore[misc]  # monailabel is not typed
    """Segments one structure in an image. Subclasses say how MONAI Label's clients find it, and whether it works without prompts."""

    automatic = False

    def __init__(self, engine: Engine, type: InferType, description: str) -> None:
        super().__init__(
            type=type,
            labels=[engine.settings.label_name],
            dimension=3,
            description=description,
            config={"version": ["active", "base"], "axis": ["k", "j", "i"]},
        )
        self._engine = engine

    def is_valid(self) -> bool:
        """Always: the base comes with the software, and a version that cannot be loaded says so when it is asked."""
        return True

    def __call__(self, request: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Segment `request["image"]`, a path that the caller has checked.

        Returns:
            The mask's file (the caller removes it), and what the reply says about it: see `reply`.

        Raises:
            PromptError, RequestError, ImageError, and what `Engine.segmenter` raises.
        """
        started = time.perf_counter()
        image = self._engine.images.read(Path(str(request["image"])))
        parameters = parse_parameters(
            request,
            shape_kji=image.array.shape[:3],
            picture=image.is_picture,
            automatic=self.automatic,
            label_name=self._engine.settings.label_name,
        )
        read = time.perf_counter()
        segmenter = self._engine.segmenter(self._engine.resolve(parameters.version))
        loaded = time.perf_counter()
        few = parameters.prompts is not None and len(parameters.prompts) <= CLICKED_SLICES
        with segmenter.turns.click() if few else nullcontext():
            result = segment_volume(
                segmenter,
                image.array,
                parameters.prompts,
                axis=parameters.axis,
                content_hash=image.content_hash,
                priority=Priority.CLICK if few else Priority.VOLUME,
            )
        segmented = time.perf_counter()
        path = write_result(result, image, parameters)
        seconds = {"read": read - started, "load": loaded - read, "segment": segmented - loaded, "write": time.perf_counter() - segmented}
        return str(path), self._reply(parameters, result, segmenter.version, seconds)

    def _reply(self, parameters: InferParameters, result: VolumeResult, version: str, seconds: Mapping[str, float]) -> dict[str, Any]:
        return {
            "version": version,
            "base": self._engine.base_sha256,
            "base_name": self._engine.settings.base,
            "label_names": {parameters.label: LABEL_VALUE},
            "axis": parameters.axis,
            "iou": {str(index): round(value, 4) for index, value in result.iou.items()},
            "uncertainty": {str(index): round(value, 4) for index, value in result.uncertainty.items()},
            "seconds": {**{key: round(value, 4) for key, value in seconds.items()}, "total": round(sum(seconds.values()), 4)},
        }


def write_result(result: VolumeResult, image: MedicalImage, parameters: InferParameters) -> Path:
    """Write the mask onto the image's grid, into a new temporary file in the format that was asked for."""
    descriptor, name = tempfile.mkstemp(prefix="fedsca-", suffix=parameters.extension)
    os.close(descriptor)
    path = Path(name)
    try:
        write_mask_file(result.mask.astype(parameters.dtype), image.geometry, path, parameters.extension)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
