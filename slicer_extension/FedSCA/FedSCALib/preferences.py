"""What is remembered from one day to the next (address, user name, strategy, tag): never a password or a token."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Dict, Optional, Protocol


class Preferences(Protocol):
    """Small texts by name."""

    def get(self, key: str, default: str = "") -> str:
        """What was kept, or the default."""

    def set(self, key: str, value: str) -> None:
        """Keep it."""


class MemoryPreferences:
    """For as long as the program runs."""

    def __init__(self, values: Optional[Dict[str, str]] = None) -> None:
        self._values = dict(values or {})

    def get(self, key: str, default: str = "") -> str:
        return self._values.get(key, default)

    def set(self, key: str, value: str) -> None:
        self._values[key] = value


class FilePreferences:
    """In a JSON file, replaced as a whole. A file that cannot be read or written costs the memory, never the work."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, key: str, default: str = "") -> str:
        value = self._read().get(key, default)
        return value if isinstance(value, str) else default

    def set(self, key: str, value: str) -> None:
        values = self._read()
        if values.get(key) == value:
            return
        try:
            write_atomically(self._file, json.dumps({**values, key: value}, indent=1).encode())
        except OSError:
            return

    def _read(self) -> Dict[str, str]:
        try:
            value = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file as a whole, on the disk before it is there under its name. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
