"""Finds the processes that a supervisor, or a SuperLink that was killed, has left behind, and ends them.

Everything that a supervisor starts carries the state folder in its environment (`SUPERVISED`), and so does whatever that starts in turn:
Flower puts its apps into sessions of their own, so neither a process group nor the list of descendants would find them. Only the holder of
<state>/supervisor.lock looks, so what carries the mark and is none of its own belongs to nobody any more.
"""

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

SUPERVISED = "FEDSCA_SUPERVISED"
_TERM_SECONDS, _KILL_SECONDS = 5.0, 5.0


def marked(environment: Mapping[str, str], state: Path) -> dict[str, str]:
    """`environment` with the mark."""
    return {**environment, SUPERVISED: str(state.resolve())}


def leftovers(state: Path, spare: Collection[int] = ()) -> list[psutil.Process]:
    """Processes of this user that carry the mark, without those in `spare`, their descendants and this process."""
    mark, kept = str(state.resolve()), {os.getpid()}
    for pid in spare:
        with contextlib.suppress(psutil.Error):
            kept |= {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in kept and process.environ().get(SUPERVISED) == mark:
                found.append(process)
    return found


def end_leftovers(state: Path, spare: Collection[int] = ()) -> int:
    """End them, gently first; returns how many there were. Takes at most ten seconds."""
    found = leftovers(state, spare)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(found, timeout=_TERM_SECONDS)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_KILL_SECONDS)
    return len(found)
