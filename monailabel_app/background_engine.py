"""Makes the version that serves quick before anybody asks for it: loads it when it becomes active, and compiles it for the CPU.

Threads: one daemon thread, started by the server process only (never by a tuning process that imports the app). It looks at the active
version every `LOOK_SECONDS`, loads it through the engine as a request would, and compiles it. A click that comes meanwhile is answered by
PyTorch. It takes no lock of its own while it works, and ends with the server.
"""

import logging
import threading
import time

from monailabel_app.engine import Engine
from sam_adapters.errors import FedscaError
from sam_adapters.openvino_runner import OpenVinoRunner, Precision
from sam_adapters.segmenter import Segmenter

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
AFTER_ERROR_SECONDS = 60.0


class BackgroundEngine:
    """See the module.

    Args:
        compile_cpu: compile for the CPU with OpenVINO; False leaves everything to PyTorch.
        precision: of what is compiled.
    """

    def __init__(self, engine: Engine, *, compile_cpu: bool, precision: Precision) -> None:
        self._engine = engine
        self._compile_cpu = compile_cpu
        self._precision = precision
        self._given_up: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="fedsca-engine", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while True:
            pause = LOOK_SECONDS
            try:
                self._prepare(self._engine.active_version())
            except (FedscaError, OSError, RuntimeError) as error:
                logger.warning("The active version cannot be made ready beforehand; trying again in %.0f s: %s", AFTER_ERROR_SECONDS, error)
                pause = AFTER_ERROR_SECONDS
            time.sleep(pause)

    def _prepare(self, version: str) -> None:
        segmenter = self._engine.segmenter(version)
        if self._compile_cpu and not segmenter.compiled and version not in self._given_up:
            self._compile(segmenter)

    def _compile(self, segmenter: Segmenter) -> None:
        try:
            runner = OpenVinoRunner(segmenter.adapted.network, precision=self._precision, threads=self._engine.settings.threads)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:  # what tracing and OpenVINO raise
            self._given_up.add(segmenter.version)
            logger.warning("Version %s is served by PyTorch: compiling it failed (%s).", segmenter.version, error)
            return
        segmenter.runner = runner
        logger.info("Version %s is served by %s.", segmenter.version, runner.name)
