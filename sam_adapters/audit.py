"""Audit log of one site, one JSON object a line: <site>/audit.jsonl. Who did what, when, and from which address. No torch.

Events and what their lines hold besides `when`, `event`, `who` and `address` are listed in `docs/serving.md`. No line ever holds a password
or a token. Lines are only added: the file is never shortened or rewritten here. A line is one O_APPEND write under the file's `flock`,
flushed to the disk before `record` returns; a line torn by a crash stays as it is, and the next one begins below it. Each line's last
member, `chain`, binds it to everything above (see `audit_chain`): `fedsca audit verify` finds the first line that was changed.

Threads and processes: any number may record at once. Who calls, and from where, is a context variable, so that code deep inside a request
need not be told; it follows a request into its worker thread.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from sam_adapters import atomic, audit_chain, file_lock
from sam_adapters.errors import AuditError, RegistryError
from sam_adapters.provenance import utc_now

MAX_TEXT = 500
"""Longest text in a line, in characters; the rest is cut off."""


@dataclass(frozen=True)
class Caller:
    """Who a request comes from: the signed-in user ("" where there is no login) and the network address."""

    who: str = ""
    address: str = ""


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """What is recorded inside comes from `caller`."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def present_caller() -> Caller:
    """Who calls now; an empty Caller outside a request."""
    return _caller.get() or Caller()


@dataclass(frozen=True)
class AuditLog:
    """The audit log of one site.

    Attributes:
        path: the file; made (mode 0600) when missing, its folder must exist.
        timeout: seconds that a line waits for other processes.
    """

    path: Path
    timeout: float = 10.0

    def record(self, event: str, *, who: str | None = None, address: str | None = None, **what: str | float | bool | None) -> None:
        """Add a line; it is on the disk when this returns.

        Args:
            event: what happened, e.g. `label_saved`.
            who, address: who did it and from where; by default the present caller.
            what: the rest of the line. Never a secret.

        Raises:
            AuditError: the line could not be written.
        """
        caller = present_caller()
        first = {"when": utc_now().isoformat(), "event": event, "who": caller.who if who is None else who}
        line = {**first, "address": caller.address if address is None else address, **what}
        data = json.dumps({key: _cut(value) for key, value in line.items()}, separators=(",", ":"), allow_nan=False).encode()
        try:
            self._append(data)
        except (OSError, RegistryError) as error:
            raise AuditError(f"The audit log took no line ({error}): free disk space or mend the folder's rights.") from error

    def head(self) -> str:
        """The chain value of the last line, for the other side to remember; `audit_chain.GENESIS` when there is no chained line yet.

        Raises:
            AuditError: the log cannot be read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return audit_chain.GENESIS
        except OSError as error:
            raise AuditError(f"The audit log cannot be read ({error}): mend the file's rights.") from error
        try:
            return audit_chain.tail(descriptor)[0]
        finally:
            os.close(descriptor)

    def _append(self, body: bytes) -> None:
        made = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            file_lock.lock(descriptor, self.path, self.timeout)
            length = os.fstat(descriptor).st_size
            torn = length > 0 and os.pread(descriptor, 1, length - 1) != b"\n"
            previous, between = audit_chain.tail(descriptor)
            between += b"\n" * (torn and bool(between))
            data = b"\n" * torn + audit_chain.chained(body, audit_chain.link(previous, between, body)) + b"\n"
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if made:
            atomic.fsync_directory(self.path.parent)


def _cut(value: str | float | bool | None) -> str | float | bool | None:
    return value[:MAX_TEXT] if isinstance(value, str) else value
