"""A disk of its own for a folder, small enough to fill: a tmpfs, for which one has to be root."""

import errno
import subprocess
from contextlib import suppress
from pathlib import Path

from tests.faults.federation import NotHere

FILLER, PROBE = "filler", "filler.probe"


def mount(folder: Path, megabytes: int) -> None:
    """Put one at `folder`, which is made.

    Raises:
        NotHere: not allowed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=0700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        raise NotHere(f"no tmpfs can be mounted ({done.stderr.strip()})")


def unmount(folder: Path) -> None:
    """Take it away."""
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(folder: Path) -> None:
    """Not one byte more fits."""
    with (folder / FILLER).open("wb", buffering=0) as stream:
        for size in (2**20, 4096, 1):
            with suppress(OSError):
                while stream.write(b"x" * size):
                    pass
    (folder / PROBE).unlink(missing_ok=True)
    try:
        (folder / PROBE).write_bytes(b"x")
        number = 0
    except OSError as error:
        number = error.errno or 0
    assert number == errno.ENOSPC, f"{folder} is not full ({number})"


def free(folder: Path) -> None:
    """There is room again."""
    (folder / FILLER).unlink()
    (folder / PROBE).unlink(missing_ok=True)
