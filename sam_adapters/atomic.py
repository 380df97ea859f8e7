"""Files that are either the old one or the new one, whatever happens in between.

A write goes to a temporary file in the same folder, is flushed to the disk, and takes the final name by `os.replace`; then the
folder entry itself is flushed. A process killed at any instant leaves the previous file whole, at worst with a `.tmp-*` beside it.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def fsync_directory(folder: Path) -> None:
    """Flush the entries of `folder` to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the contents of `path` by `data`, atomically and durably. The folder must exist."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)  # os.replace: atomic on one file system
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as indented JSON with sorted keys, atomically and durably."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())
