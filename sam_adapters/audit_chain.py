"""The hash chain of an audit log: what binds every line to all before it, and the check of a whole file. Standard library only, no state.

A line of the log is a JSON object whose last member is `chain`, the lower-case hexadecimal sha256 over

    chain of the last chained line above (64 hex digits; at the first one: sha256 of nothing, so every older byte is bound by the next rule)
    every byte since the end of that line: lines torn by a crash, or older lines that had no chain
    the line itself without its `chain` member

so that no byte above can be changed, taken out or put in without breaking the chain at the next chained line. What a chain alone cannot
show is a log that was cut at its end or written anew from some line on: for that, both sides of a federation keep each other's last chain
value (an *anchor*) in their own log, and `verify` looks for the anchors it is given.

Idea: Schneier & Kelsey, "Secure Audit Logs to Support Computer Forensics", ACM TISSEC 2(2), 1999, without its forward-secure keys.
"""

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

GENESIS = hashlib.sha256(b"").hexdigest()
"""What the first chained line follows."""

_TAIL = re.compile(rb',"chain":"([0-9a-f]{64})"\}$')
_HEX = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 16

Problem = Literal["altered", "torn", "unchained"]


@dataclass(frozen=True)
class BadLine:
    """The first line of a log that is not what was written.

    Attributes:
        number: counted from 1.
        problem: `altered` (it, or something between it and the chained line above, was changed), `torn` (the file ends inside a line), or
            `unchained` (a whole line without a chain below the place where the chain begins).
    """

    number: int
    problem: Problem

    def __str__(self) -> str:
        what = {
            "altered": "does not fit the lines above it: it was altered, or something above it was changed, taken out or put in",
            "torn": "is torn: the writer was killed or the disk was full while it was written, or the end of the file was cut off",
            "unchained": "is whole but has no chain: something other than this software wrote it",
        }[self.problem]
        return f"Line {self.number} {what}."


@dataclass(frozen=True)
class Verdict:
    """What became of checking a log.

    Attributes:
        lines: lines in the file.
        chained_from: number of the first line with a chain; None when no line has one. Lines above were written by older software: they are
            held by the chain from here on, but who changed them before cannot be known.
        head: chain of the last good line; `GENESIS` when no line has one.
        bad: the first bad line; None when there is none.
        torn: numbers of lines that a crash tore and that the next line holds: nothing is wrong with them.
        missing: anchors that are not in the chain: the log was cut or written anew since they were told.
    """

    lines: int
    chained_from: int | None
    head: str
    bad: BadLine | None
    torn: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether every line is what was written, and every anchor was found."""
        return self.bad is None and not self.missing


def link(previous: str, between: bytes, body: bytes) -> str:
    """The chain value of a line.

    Args:
        previous: chain of the last chained line above, or `GENESIS`.
        between: every byte between the end of that line and this one.
        body: the line as a JSON object without its `chain` member and without the line break.
    """
    return hashlib.sha256(previous.encode("ascii") + between + body).hexdigest()


def chained(body: bytes, chain: str) -> bytes:
    """A JSON object that is not empty, with `chain` as its last member."""
    return body[:-1] + b',"chain":"' + chain.encode("ascii") + b'"}'


def chain_of(line: bytes) -> str | None:
    """The chain value that a line without its line break claims; None when it has none or is torn."""
    found = _TAIL.search(line)
    return found.group(1).decode("ascii") if found and line.startswith(b"{") else None


def body_of(line: bytes) -> bytes:
    """A chained line without its `chain` member: the inverse of `chained`."""
    return _TAIL.sub(b"}", line)


def tail(descriptor: int) -> tuple[str, bytes]:
    """Chain of the last chained line of an open file (`GENESIS` when there is none), and every byte after that line's line break.

    Only the end of the file is read, unless no line of it has a chain.
    """
    start = os.fstat(descriptor).st_size
    data = b""
    while True:
        found = _last_chained(data, whole=start == 0)
        if found is not None or start == 0:
            return found or (GENESIS, data)
        size = min(max(_BLOCK, len(data)), start)  # twice as much each time: looking again at what was read costs no more than reading
        start -= size
        data = os.pread(descriptor, size, start) + data


def _last_chained(data: bytes, *, whole: bool) -> tuple[str, bytes] | None:
    """The last chained line in the end of a file. The first piece of `data` counts as a line only if the file begins there."""
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1 if data[end - 1 : end] == b"\n" else end) + 1
        if start == 0 and not whole:
            return None
        chain = chain_of(data[start:end].removesuffix(b"\n"))
        if chain is not None:
            return chain, data[end:]
        end = start
    return None


@dataclass
class _Checking:
    """Where the check of a file stands."""

    head: str = GENESIS
    between: bytes = b""
    chained_from: int | None = None
    torn: list[int] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def take(self, number: int, line: bytes) -> BadLine | None:
        """Go on by one line, line break included if it has one."""
        text = line.removesuffix(b"\n")
        chain = chain_of(text)
        if chain is None:
            self.between += line
            return None if self.chained_from is None else self._unchained(number, text, whole=line.endswith(b"\n"))
        if chain != link(self.head, self.between, body_of(text)):
            return BadLine(number, "altered")
        self.head, self.between = chain, b""
        self.seen.add(chain)
        self.chained_from = self.chained_from or number
        return None

    def _unchained(self, number: int, text: bytes, *, whole: bool) -> BadLine | None:
        if not whole:
            return BadLine(number, "torn")
        if _is_object(text):
            return BadLine(number, "unchained")
        self.torn.append(number)
        return None


def verify(path: Path, anchors: Collection[str] = ()) -> Verdict:
    """Check every line of a log. It may grow meanwhile: what is added after the start is not looked at.

    Args:
        anchors: chain values that this log had at some time; those that it no longer has are `missing`.

    Raises:
        OSError: the file cannot be read.
    """
    checking, number, bad = _Checking(), 0, None
    with path.open("rb") as stream:
        for number, line in enumerate(_lines(stream, os.fstat(stream.fileno()).st_size), start=1):
            bad = checking.take(number, line)
            if bad is not None:
                break
        else:
            if checking.torn and checking.torn[-1] == number:  # nothing below it holds it
                bad = BadLine(number, "torn")
    known = checking.seen | {GENESIS}
    missing = tuple(sorted({anchor for anchor in anchors if anchor not in known}))
    return Verdict(number, checking.chained_from, checking.head, bad, tuple(checking.torn), missing)


def is_chain_value(text: object) -> bool:
    """Whether `text` has the form of a chain value."""
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def _lines(stream: BinaryIO, size: int) -> Iterator[bytes]:
    read = 0
    for line in stream:
        read += len(line)
        if read > size:
            return
        yield line


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
