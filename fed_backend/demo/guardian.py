"""`python -m fed_backend.demo.guardian --log FILE --grace SECONDS -- COMMAND…`: runs one command and takes its whole family down with it.

The demo starts every server and node through a guardian. The guardian holds the reading end of a pipe whose writing end only the demo
has: when the demo ends, in whatever way (`kill -9` included), the pipe closes and the guardian stops the command with all its
descendants. On Linux it adopts orphaned descendants (PR_SET_CHILD_SUBREAPER), so that training processes and Flower apps that outlive
their parent are found too, and the command gets SIGKILL should the guardian itself be killed (PR_SET_PDEATHSIG).

A line `keep` on the pipe means that the demo ends on purpose and the command shall go on; SIGTERM to the guardian still stops it.

The log's last line says how much processor time the family took.

One process, one thread; woken by signals and the pipe only.
"""

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    """Linux's prctl; nothing where there is none."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def stop_family(*, grace: float) -> None:
    """SIGTERM to all descendants of this process, SIGKILL to what is left after `grace` seconds; reaps them."""
    deadline = time.monotonic() + grace
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.terminate()
    while time.monotonic() < deadline:
        left = _living_descendants()
        if not left:
            return
        psutil.wait_procs(left, timeout=0.1)
    give_up = time.monotonic() + 5.0
    while (left := _living_descendants()) and time.monotonic() < give_up:  # a dying process may still have forked
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=0.5)


def _living_descendants() -> list[psutil.Process]:
    """Descendants that are not gone. A zombie of our own counts until it is reaped: threads of it may still be running."""
    _reap()
    me, living = os.getpid(), []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE or process.ppid() == me:
                living.append(process)
    return living


def _reap() -> dict[int, int]:
    """Collect every ended child, own or adopted: pid -> exit status as `waitpid` gives it."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = status
    return ended


def guard(command: Sequence[str], log: str, *, grace: float) -> int:
    """Run `command` with its output in `log` until it ends, SIGTERM arrives or the pipe on stdin closes; the command's exit code."""
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_blocking(wake_read, False)
    signal.set_wakeup_fd(wake_write)
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: asked.append(received))
    signal.signal(signal.SIGCHLD, lambda _received, _frame: None)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    with open(log, "ab", buffering=0) as stream:  # noqa: PTH123 (unbuffered: the child writes to the descriptor)
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    selector = selectors.DefaultSelector()
    selector.register(wake_read, selectors.EVENT_READ)
    selector.register(0, selectors.EVENT_READ)
    try:
        while not asked:
            ended = _reap()
            if child.pid in ended:
                return os.waitstatus_to_exitcode(ended[child.pid])
            for key, _ in selector.select():
                if key.fd == wake_read:
                    os.read(wake_read, 512)
                    continue
                message = os.read(0, 512)
                if message.strip() == b"keep":
                    selector.unregister(0)
                elif not message:
                    return 0  # the demo is gone
        return 0
    finally:
        stop_family(grace=grace)
        _reap()  # what a parent that has just ended left behind, for the account below
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(log, "a", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(f"\n[guardian] ended; {used.ru_utime + used.ru_stime:.1f} s of processor time in all\n")


def main(arguments: Sequence[str]) -> int:
    """Parse `--log FILE --grace SECONDS -- COMMAND…` and guard the command."""
    if len(arguments) < 6 or (arguments[0], arguments[2], arguments[4]) != ("--log", "--grace", "--"):
        sys.stderr.write("usage: python -m fed_backend.demo.guardian --log FILE --grace SECONDS -- COMMAND...\n")
        return 2
    return guard(arguments[5:], arguments[1], grace=float(arguments[3]))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
