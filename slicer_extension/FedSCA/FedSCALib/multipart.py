"""A form with files as a stream (multipart/form-data): requests would hold a whole volume in memory, and could neither tell how much of it
has left nor be stopped.

Threads: one form is read by one thread.
"""

from __future__ import annotations

import os
import threading
import uuid
from typing import Any, BinaryIO, Callable, List, Mapping, Optional, Tuple

from FedSCALib.errors import Cancelled

Files = Mapping[str, Tuple[Optional[str], Any, str]]
"""Field -> (file name or None, text or a binary file, content type)."""
Progress = Callable[[int, Optional[int]], None]
"""bytes so far, bytes altogether if known"""


class Multipart:
    """What http.client reads a request's body from, piece by piece.

    Args:
        cancel: once it is set, reading raises Cancelled, which breaks the request off.

    Attributes:
        content_type: for the request's header.
    """

    def __init__(self, fields: Files, progress: Optional[Progress] = None, cancel: Optional[threading.Event] = None) -> None:
        boundary = uuid.uuid4().hex
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._progress = progress
        self._cancel = cancel
        self._parts: List[Any] = []
        self._size = 0
        for name, (file_name, content, kind) in fields.items():
            named = "" if file_name is None else f'; filename="{_quoted(file_name)}"'
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{named}\r\nContent-Type: {kind}\r\n\r\n'
            self._add(head.encode())
            self._add(content.encode() if isinstance(content, str) else content)
            self._add(b"\r\n")
        self._add(f"--{boundary}--\r\n".encode())
        self._read = 0

    def __len__(self) -> int:
        """Bytes altogether."""
        return self._size

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` at most; b"" at the end. Raises Cancelled."""
        if self._cancel is not None and self._cancel.is_set():
            raise Cancelled()
        while self._parts:
            found = self._next(size)
            if found:
                self._read += len(found)
                if self._progress is not None:
                    self._progress(self._read, self._size)
                return found
            self._parts.pop(0)
        return b""

    def _next(self, size: int) -> bytes:
        part = self._parts[0]
        if not isinstance(part, bytes):
            return bytes(part.read(size))
        found, self._parts[0] = (part, b"") if size < 0 else (part[:size], part[size:])
        return found

    def _add(self, part: "bytes | BinaryIO") -> None:
        self._parts.append(part)
        self._size += len(part) if isinstance(part, bytes) else os.fstat(part.fileno()).st_size - part.tell()


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
