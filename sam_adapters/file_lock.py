"""Advisory locks between processes that die with their holder. POSIX only (`flock`).

The kernel drops such a lock when its holder is killed, so a lock that can be taken proves that nobody alive holds it.
Every wait has a deadline.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_adapters.errors import RegistryError

_POLL_SECONDS = 0.005


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file or folder without waiting; False when another holder has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether somebody alive holds the lock of `path`; False where there is no such file. Takes it for a moment itself."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int, what: Path, timeout: float) -> None:
    """Take the exclusive lock of an open file, waiting up to `timeout` seconds. Closing the descriptor releases it.

    Raises:
        RegistryError: another process kept the lock for longer.
    """
    deadline = time.monotonic() + timeout
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise RegistryError(f"Another process has kept {what} locked for {timeout:g} s: end it, or wait and try again.")
        time.sleep(_POLL_SECONDS)


@contextmanager
def locked(path: Path, *, timeout: float = 30.0) -> Iterator[None]:
    """Hold the exclusive lock of the file `path`, which is made when missing. Not reentrant.

    Raises:
        RegistryError: another process kept the lock for longer than `timeout` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        lock(descriptor, path, timeout)
        yield
    finally:
        os.close(descriptor)
