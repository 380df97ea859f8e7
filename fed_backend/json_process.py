"""A question to a process of its own that prints one line of JSON: whatever heavy or broken packages do there, the asker survives it."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from sam_adapters.errors import FedscaError


class NoAnswerError(FedscaError):
    """The process ended without an answer; the text says what it said last."""


def ask(module: str, argument: str, *, seconds: float, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The object that `python -m <module> <argument>` prints.

    Args:
        environment: variables beside those of this process.

    Raises:
        subprocess.TimeoutExpired: it took more than `seconds`, and was ended.
        NoAnswerError: it printed no JSON object.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, argument],
        capture_output=True,
        encoding="utf-8",
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise NoAnswerError(last[0]) from None
    if not isinstance(answer, dict):
        raise NoAnswerError(f"it printed {str(answer)[:80]}, expected a JSON object")
    return answer


def answer(make: Callable[[], Mapping[str, Any]]) -> None:
    """Print what `make` returns, in the process that was asked. It is all that comes on the standard output, whatever packages print."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    stream.write(json.dumps(make()) + "\n")
    stream.close()
