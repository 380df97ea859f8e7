"""How long a click will take on this machine: `python -m fed_backend.doctor_speed <file of settings>` prints one line of JSON.

{"engine": name, "size": pixels a side, "slice": seconds, "click": seconds} or {"error": sentence}

A process of its own, as for the other looks at heavy packages. What is measured is what a hospital's server does: the untuned base (a tuned
version takes as long, once folded into the weights), compiled with OpenVINO where there is no GPU and it is installed.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fed_backend import json_process
from fed_backend.doctor_check import Check
from sam_adapters.settings import SiteSettings

SECONDS = 300.0
SLOW_SLICE = 0.6
"""Seconds for a slice that nobody has looked at; above that a jump is felt as a wait."""
SLOW_CLICK = 0.1
REPEATS = 3
BUSY_PERCENT = 40.0
"""Of all cores together: one of two that is busy makes what is measured longer than it is."""
_AS_SERVED = {"OMP_WAIT_POLICY": "PASSIVE"}
"""As `fedsca serve` starts a server: threads that spin while they wait slow everything else down."""
_REMEDY = "a smaller image_size, for tuning and serving alike (224 takes about three quarters of 256, 128 a quarter), or a GPU"


def speed_check(settings: SiteSettings, *, seconds: float = SECONDS) -> Check:
    """One line of the doctor's table, from a process that has at most `seconds`."""
    busy = _busy()
    with tempfile.TemporaryDirectory(prefix="fedsca-doctor-") as folder:
        file = Path(folder) / "site.json"
        settings.save(file)
        try:
            answer = json_process.ask("fed_backend.doctor_speed", str(file), seconds=seconds, environment=_AS_SERVED)
        except subprocess.TimeoutExpired:
            return Check("speed", f"a slice was not encoded within {seconds:g} s", "warning", _REMEDY)
        except json_process.NoAnswerError as error:
            answer = {"error": str(error)}
    return described(answer, busy=busy)


def described(answer: dict[str, Any], *, busy: bool = False) -> Check:
    """The measuring process's answer in words.

    Args:
        busy: other programs had kept the machine busy, so that the times are too long.
    """
    if "error" in answer:
        return Check("speed", f"not measured: {answer['error']}", "warning", "see what else is missing")
    found = (
        f"a slice not seen before {answer['slice']:.2f} s, a click on it then {answer['click']:.2f} s, "
        f"at {answer['size']} pixels ({answer['engine']})" + (", but other programs were busy: measure again without them" if busy else "")
    )
    if answer["slice"] > SLOW_SLICE or answer["click"] > SLOW_CLICK:
        return Check("speed", found, "warning", _REMEDY)
    return Check("speed", found)


def measure(settings: SiteSettings) -> dict[str, Any]:
    """Median seconds for a slice and for a click, by the engine that would serve here.

    Raises:
        FedscaError: the settings, the base or the engine cannot be used.
    """
    import numpy as np

    from sam_adapters.loading import load_segmenter
    from sam_adapters.openvino_runner import OpenVinoRunner, openvino_installed
    from sam_adapters.prompts import SlicePrompts

    segmenter = load_segmenter(settings, None, "base")
    if segmenter.device.type == "cpu" and openvino_installed():
        segmenter.runner = OpenVinoRunner(segmenter.adapted.network, threads=settings.threads)
    pixels = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    embedding = segmenter.encode(pixels)  # the first is slower: memory is taken, kernels are chosen
    prompts = SlicePrompts(box=(128.0, 128.0, 383.0, 383.0))
    segmenter.decode(embedding, prompts)
    return {
        "engine": segmenter.engine_name,
        "size": segmenter.image_size,
        "slice": _median_seconds(lambda: segmenter.encode(pixels)),
        "click": _median_seconds(lambda: segmenter.decode(embedding, prompts)),
    }


def _busy() -> bool:
    """Whether other programs keep a good part of the processor busy just now; False where that cannot be known."""
    try:
        import psutil
    except ImportError:
        return False
    return float(psutil.cpu_percent(interval=1.0)) > BUSY_PERCENT


def _median_seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return statistics.median(once() for _ in range(REPEATS))


def _answer(file: Path) -> dict[str, Any]:
    from sam_adapters.errors import FedscaError

    try:
        return measure(SiteSettings.load(file))
    except FedscaError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    json_process.answer(lambda: _answer(Path(sys.argv[1])))
