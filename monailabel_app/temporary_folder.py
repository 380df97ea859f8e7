"""One folder in the site for everything that a server keeps for the length of a request: uploads, archives, results.

Patients' images do not lie in /tmp, where other users of the machine see their names, and do not stay behind: the folder goes when the
server ends, and the next start removes those of servers that were killed.
Processes: each server holds its folder's lock while it lives; a folder whose lock can be taken has no owner any more.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from sam_adapters.file_lock import try_lock

PREFIX = "temporary-"


def claim_temporary_folder(work: Path) -> Path:
    """Make this process's folder in `work`, and make it the place of all its temporary files (those of libraries too)."""
    for other in work.glob(f"{PREFIX}*"):
        _remove_if_left_behind(other)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=work))
    try_lock(os.open(folder, os.O_RDONLY | os.O_CLOEXEC))  # stays open, and locked, until the process ends
    tempfile.tempdir = str(folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_if_left_behind(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if try_lock(descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
