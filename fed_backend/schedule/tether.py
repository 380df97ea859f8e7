"""`python -m fed_backend.schedule.tether PARENT COMMAND…`: become COMMAND, which gets SIGKILL when process PARENT ends in whatever way.

On Linux the kernel sees to it (PR_SET_PDEATHSIG, which an exec keeps). The order does not reach grandchildren: Flower's helpers end by
themselves within seconds, and `leftovers` finds what does not. Elsewhere there is no such order, and the next start mends it.

The order holds for the thread that started the process: processes are started from the supervisor's main thread only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the order was given
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - a fixed list, no shell


if __name__ == "__main__":
    main(sys.argv[1:])
