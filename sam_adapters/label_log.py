"""Append-only log of saved labels, one JSON object a line: <site>/labels.jsonl. No torch.

Processes: any number may append and read at once. An append holds the file's `flock`, writes the line with one O_APPEND write and flushes
it to the disk before it returns, so a returned append survives a power cut. A process killed while appending leaves at worst a torn last
line: readers skip it, and the next append cuts it off (or, when only the line break is missing, adds the line break).
Threads: methods open the file anew, so one LabelLog may be shared by threads.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sam_adapters import atomic, file_lock
from sam_adapters.errors import LabelError, RegistryError
from sam_adapters.provenance import BASE, VERSION_ID_PATTERN, utc_now

_NAME_LIMIT = 512
_BLOCK = 1 << 16


@dataclass(frozen=True)
class LabelEntry:
    """One saved label.

    Attributes:
        case: case name (image id of the datastore).
        tag: label tag of the datastore, usually `final`.
        label_sha256: sha256 (hex) of the label file.
        who: who saved it; "" when unknown.
        proposed_by: version that proposed the mask (`base` for the untuned base); None when none did or it is unknown.
        base: sha256 (hex) of the base network that proposed it; None when none did.
        saved_at: when, in UTC.
    """

    case: str
    tag: str
    label_sha256: str
    who: str = ""
    proposed_by: str | None = None
    base: str | None = None
    saved_at: datetime = field(default_factory=utc_now)

    def __post_init__(self) -> None:
        for key, text, empty_allowed in (("case", self.case, False), ("tag", self.tag, False), ("who", self.who, True)):
            if not isinstance(text, str) or not (text or empty_allowed) or len(text) > _NAME_LIMIT or not _printable(text):
                raise LabelError(f"Label log entry: {key} is {text!r}, expected printable text of at most {_NAME_LIMIT} characters.")
        _check_sha("label_sha256", self.label_sha256)
        if self.base is not None:
            _check_sha("base", self.base)
        if self.proposed_by is not None and self.proposed_by != BASE and not VERSION_ID_PATTERN.fullmatch(str(self.proposed_by)):
            raise LabelError(f"Label log entry: proposed_by is {self.proposed_by!r}, expected {BASE!r} or 16 hexadecimal digits.")
        if not isinstance(self.saved_at, datetime) or self.saved_at.tzinfo is None:
            raise LabelError(f"Label log entry: saved_at is {self.saved_at!r}, expected a time with its time zone.")

    def to_line(self) -> bytes:
        """The entry as one line of JSON, line break included."""
        value = {
            "case": self.case,
            "tag": self.tag,
            "label_sha256": self.label_sha256,
            "who": self.who,
            "proposed_by": self.proposed_by,
            "base": self.base,
            "saved_at": self.saved_at.astimezone(UTC).isoformat(),
        }
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "LabelEntry":
        """Inverse of `to_line`; the line break may be missing.

        Raises:
            LabelError: the line is not an entry.
        """
        try:
            value: Any = json.loads(line)
            if not isinstance(value, dict):
                raise LabelError(f"Label log entry is a {type(value).__name__}, expected a JSON object.")
            return cls(
                case=value["case"],
                tag=value["tag"],
                label_sha256=value["label_sha256"],
                who=value["who"],
                proposed_by=value["proposed_by"],
                base=value["base"],
                saved_at=datetime.fromisoformat(value["saved_at"]).astimezone(UTC),
            )
        except LabelError:
            raise
        except KeyError as error:
            raise LabelError(f"Label log entry without {error}.") from error
        except (TypeError, ValueError) as error:
            raise LabelError(f"Not a label log entry: {error}.") from error


def label_file_sha256(path: Path) -> str:
    """sha256 (hex) of a label file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class LabelLog:
    """The label log of one site. See the module for processes and crashes."""

    def __init__(self, path: Path, *, timeout: float = 10.0) -> None:
        """`timeout`: seconds that an append waits for other processes."""
        self.path = path
        self._timeout = timeout

    def append(self, entry: LabelEntry) -> None:
        """Add an entry; it is on the disk when this returns.

        Raises:
            RegistryError: another process kept the log locked, or the disk refused the line (then nothing was added).
        """
        line = entry.to_line()
        made = not self.path.exists()
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RegistryError(f"Label log {self.path} cannot be opened: {error.strerror}.") from error
        try:
            file_lock.lock(descriptor, self.path, self._timeout)
            end = _repair(descriptor)
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError as error:
                os.ftruncate(descriptor, end)
                raise RegistryError(f"Label log {self.path} took no entry: {error.strerror}. Free disk space and save again.") from error
        finally:
            os.close(descriptor)
        if made:
            atomic.fsync_directory(self.path.parent)

    def entries(self) -> list[LabelEntry]:
        """Every entry, oldest first; a torn last line is left out. No file: no entries.

        Raises:
            RegistryError: a line before the last is not an entry: the file was altered by hand.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return []
        *lines, tail = data.split(b"\n")
        found = [self._entry(number, line) for number, line in enumerate(lines, start=1)]
        last = _entry_or_none(tail)
        return [*found, last] if last is not None else found

    def latest(self, tag: str | None = None) -> dict[str, LabelEntry]:
        """The newest entry of each case, under one tag if it is given; in the order of first saving."""
        return {entry.case: entry for entry in self.entries() if tag is None or entry.tag == tag}

    def _entry(self, number: int, line: bytes) -> LabelEntry:
        try:
            return LabelEntry.from_line(line)
        except LabelError as error:
            raise RegistryError(f"{self.path} line {number} is damaged ({error}): remove that line, or restore the file.") from error


def _repair(descriptor: int) -> int:
    """Make the file end after a whole line; return its length. The lock must be held."""
    length = os.fstat(descriptor).st_size
    start = length
    tail = b""
    while start > 0 and b"\n" not in tail:
        size = min(_BLOCK, start)
        start -= size
        tail = os.pread(descriptor, size, start) + tail
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return length
    if _entry_or_none(torn) is not None:
        _write_all(descriptor, b"\n")
        return length + 1
    os.ftruncate(descriptor, length - len(torn))
    return length - len(torn)


def _entry_or_none(line: bytes) -> LabelEntry | None:
    try:
        return LabelEntry.from_line(line)
    except LabelError:
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _check_sha(key: str, text: object) -> None:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-f]{64}", text):
        raise LabelError(f"Label log entry: {key} is {text!r}, expected a sha256 of 64 hexadecimal digits.")


def _printable(text: str) -> bool:
    return all(character.isprintable() for character in text)
