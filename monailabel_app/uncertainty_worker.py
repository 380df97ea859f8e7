"""Scores unlabelled cases by how unsure the active version is of them, while nobody waits for the server.

Threads: one daemon thread, started by the server process only (never by a tuning process that imports the app). It gives way to requests:
it begins only when none came for `idle_seconds` and no tuning runs, and gives a case up, to be scored later, when one comes.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from monailabel_app.engine import Engine
from monailabel_app.guarded_datastore import GuardedDatastore
from monailabel_app.uncertainty_scores import UncertaintyScores
from sam_adapters.errors import FedscaError, ImageError, SegmentationCancelledError
from sam_adapters.images import MedicalImage, read_image
from sam_adapters.intensity_window import windowed
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import SlicePrompts
from sam_adapters.segmenter import Segmenter, segment_volume

logger = logging.getLogger(__name__)

SLICES_PER_CASE = 3
LOOK_SECONDS = 1.0
AFTER_ERROR_SECONDS = 60.0


class UncertaintyWorker:
    """See the module.

    Args:
        offered: the unlabelled cases, in the order in which they are scored.
        busy: whether something else (a tuning) needs the machine.
        idle_seconds: how long no request must have come.
    """

    def __init__(
        self,
        engine: Engine,
        datastore: GuardedDatastore,
        scores: UncertaintyScores,
        *,
        offered: Callable[[], list[str]],
        busy: Callable[[], bool],
        idle_seconds: float,
    ) -> None:
        self._engine = engine
        self._datastore = datastore
        self._scores = scores
        self._offered = offered
        self._busy = busy
        self._idle_seconds = idle_seconds
        self._unreadable: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fedsca-uncertainty", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ask the thread to end and wait for it, at most `timeout` seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._stop.wait(pause):
            try:
                while self._may_work() and self._score_next():
                    pass
                pause = LOOK_SECONDS
            except SegmentationCancelledError:
                pause = LOOK_SECONDS
            except (FedscaError, OSError, RuntimeError) as error:
                logger.warning("Scoring unlabelled cases pauses for %.0f s: %s", AFTER_ERROR_SECONDS, error)
                pause = AFTER_ERROR_SECONDS

    def _may_work(self) -> bool:
        return not self._stop.is_set() and not self._busy() and self._engine.idle_seconds() >= self._idle_seconds

    def _score_next(self) -> bool:
        """Score one case; False when there is none left."""
        version = self._engine.active_version()
        done = self._scores.of(version)
        case = next((case for case in self._offered() if case not in done and case not in self._unreadable), None)
        if case is None:
            return False
        try:
            image = windowed(read_image(Path(self._datastore.get_image_uri(case))), self._engine.settings.window)
        except ImageError as error:
            logger.warning("Case %s cannot be scored: %s", case, error)
            self._unreadable.add(case)
            return True
        segmenter = self._engine.segmenter(version)
        self._scores.put(version, case, round(uncertainty(segmenter, image, lambda: not self._may_work()), 6))
        return True


def uncertainty(segmenter: Segmenter, image: MedicalImage, cancelled: Callable[[], bool]) -> float:
    """How unsure a version is of an image, from 0 (certain) to 1.

    Mean over a few slices, evenly spread along k and segmented without prompts, of the mean of 1 - predicted IoU and the mean binary
    entropy of the pixels.

    Raises:
        SegmentationCancelledError: `cancelled` said so.
    """
    prompts = {index: SlicePrompts() for index in spread_slices(image.array.shape[0], SLICES_PER_CASE)}
    result = segment_volume(segmenter, image.array, prompts, priority=Priority.BACKGROUND, cancelled=cancelled)
    values = [(1 - min(max(result.iou[index], 0.0), 1.0) + result.uncertainty[index]) / 2 for index in prompts]
    return sum(values) / len(values)


def spread_slices(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices of 0 .. count - 1, at the middles of equal parts: 3 of 12 are 2, 6, 10."""
    wanted = min(count, wanted)
    return sorted({int(count * (part + 0.5) / wanted) for part in range(wanted)})
