"""How long a click will take on this machine: `python -m fed_backend.doctor_speed <settings as JSON>` prints one line of JSON.

{"engine": name, "size": pixels a side, "slice": seconds, "click": seconds} or {"error": sentence}

A process of its own, as for the other looks at heavy packages. What is measured is what a hospital's server does: the untuned base (a tuned
version takes as long, once folded into the weights), compiled with OpenVINO where there is no GPU and it is installed.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from fed_backend.doctor_check import Check
from sam_adapters.settings import SiteSettings

SECONDS = 300.0
SLOW_SLICE = 0.6
"""Seconds for a slice that nobody has looked at; above that a jump is felt as a wait."""
SLOW_CLICK = 0.1
REPEATS = 3
BUSY_PERCENT = 40.0
"""Of all cores together: one of two that is busy makes what is measured longer than it is."""
_REMEDY = "a smaller image_size, for tuning and serving alike (224 takes about three quarters of 256, 128 a quarter), or a GPU"


def speed_check(settings: SiteSettings, *, seconds: float = SECONDS) -> Check:
    """One line of the doctor's table, from a process that has at most `seconds`."""
    command = [sys.executable, "-m", "fed_backend.doctor_speed", json.dumps(settings.to_dict())]
    # as `fedsca serve` starts a server: threads that spin while they wait slow everything else down
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    busy = _busy()
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=seconds, check=False, stdin=subprocess.DEVNULL, env=environment
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Check("speed", f"a slice was not encoded within {seconds:g} s", "warning", _REMEDY)
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Check("speed", f"not measured: {last[0]}", "warning", "see what else is missing")
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


def _answer(text: str) -> dict[str, Any]:
    from sam_adapters.errors import FedscaError

    try:
        return measure(SiteSettings(**{key: _hashable(value) for key, value in json.loads(text).items()}))
    except FedscaError as error:
        return {"error": str(error)}


def _hashable(value: Any) -> Any:
    """Tuples are lists in JSON."""
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    # The answer is the only thing on the standard output, whatever the packages print meanwhile.
    answer_stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    answer_stream.write(json.dumps(_answer(sys.argv[1])) + "\n")
    answer_stream.close()
