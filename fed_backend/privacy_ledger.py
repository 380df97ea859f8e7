"""What a site has spent of its privacy: <site>/privacy/ledger.json, and the noised vectors that were paid for. numpy only.

    {"format": 1, "entries": [{"key", "noise", "sha256", "at"}, …], "sha256": of the entries}

An entry is one release of noised numbers. The order that makes it safe to be killed at any instant:

    0. an empty ledger, before the very first release
    1. the noised vector is made and written to privacy/releases/<key>.npy
    2. its entry, with the vector's digest, is added to the ledger and flushed: from here on it is paid for
    3. only then does the caller get the vector

A vector without an entry never left: it is made anew. A vector with an entry is handed out again as it is, for the same key, at no further
cost and without fresh noise: who hears the same key ten times learns nothing from averaging. An entry whose vector is gone stays paid, and
the next release of that key is paid again.

Everything that goes wrong raises a PrivacyError, and the caller has nothing to send: a ledger that is damaged, altered, missing although
there are releases, of a newer version, or a disk that takes no write. Only the budget has an error of its own.

Processes: one at a time, held by privacy/lock. The files hold no secret of others, but the difference between a release and the adapter is
the noise: they stay at the site, mode 0600.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import BudgetSpentError, PrivacyError
from sam_adapters import atomic
from sam_adapters.errors import RegistryError
from sam_adapters.file_lock import locked
from sam_adapters.provenance import utc_now

FORMAT = 1
KEPT_RELEASES = 8
"""Newest releases whose vectors are kept for being sent again; 0.2 MB each."""
_KEY = re.compile(r"[0-9a-f]{32}")
_LOCK_SECONDS = 60.0

EpsilonOf = Callable[[Sequence[float], float], float]


@dataclass(frozen=True)
class Entry:
    """A release that was paid for: its key, noise multiplier, sha256 of the vector's bytes, and when (UTC)."""

    key: str
    noise: float
    sha256: str
    at: str


def release_key(*parts: str | int | float) -> str:
    """Name of a release, 32 hexadecimal digits: the same parts, the same release."""
    return hashlib.sha256(json.dumps(parts, allow_nan=False).encode()).hexdigest()[:32]


class PrivacyLedger:
    """The ledger of one site. See the module for order, crashes and processes."""

    def __init__(self, folder: Path, epsilon_of: EpsilonOf) -> None:
        """
        Args:
            folder: <site>/privacy; made (mode 0700) by the first release. Its parent must exist.
            epsilon_of: ε of noise multipliers at a δ, see `privacy_accounting`.
        """
        self.folder = folder
        self._epsilon_of = epsilon_of

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.json"

    def entries(self) -> tuple[Entry, ...]:
        """Every release so far, oldest first.

        Raises:
            PrivacyError: the ledger cannot be read, or is gone although releases are there.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            if any(self._releases()):
                raise PrivacyError(
                    f"{self.path.name} is gone although noised numbers have been made: what was spent is not known. Restore it "
                    "from a backup."
                ) from error
            return ()
        except (OSError, ValueError) as error:
            raise PrivacyError(f"The privacy ledger cannot be read ({error}): nothing leaves until it is repaired.") from error
        return _parsed(text)

    def epsilon(self, delta: float) -> float:
        """ε spent so far at δ. Raises PrivacyError."""
        return self._spent([entry.noise for entry in self.entries()], delta)

    def release(
        self, key: str, *, noise: float, epsilon: float, delta: float, make: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """The vector to send for `key`: the one that was paid for, or a new one of `make`, paid for now.

        Args:
            key: of `release_key`.
            noise: the noise multiplier that `make` uses.
            epsilon, delta: the budget.
            make: makes a noised vector.

        Raises:
            BudgetSpentError: a new release would take more than the budget. Nothing was made.
            PrivacyError: anything else that went wrong. Nothing may be sent.
        """
        if not _KEY.fullmatch(key):
            raise PrivacyError(f"Release key {key!r} is not of release_key.")
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with locked(self.folder / "lock", timeout=_LOCK_SECONDS):
                return self._release(key, noise, epsilon, delta, make)
        except (OSError, RegistryError) as error:
            raise PrivacyError(
                f"The privacy ledger took no entry ({error}): nothing leaves. Free disk space or mend the rights."
            ) from error

    def _release(
        self, key: str, noise: float, epsilon: float, delta: float, make: Callable[[], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        entries = self.entries()
        paid = self._paid(key, entries)
        if paid is not None:
            return paid
        would = self._spent([*(entry.noise for entry in entries), noise], delta)
        if would > epsilon:
            spent = self._spent([entry.noise for entry in entries], delta)
            raise BudgetSpentError(
                f"Its privacy budget is spent: ε {spent:.3g} of {epsilon:g} at δ {delta:g}, and another release would make {would:.3g}. "
                "From now on it only receives."
            )
        if not entries:
            atomic.write_bytes(self.path, _text([]).encode())  # before the first vector: a vector without a ledger means a lost ledger
        data = _bytes(make())
        self._releases_folder.mkdir(mode=0o700, exist_ok=True)
        atomic.write_bytes(self._file(key), data)
        entry = Entry(key, noise, hashlib.sha256(data).hexdigest(), utc_now().isoformat())
        atomic.write_bytes(self.path, _text([*entries, entry]).encode())
        paid = self._paid(key, self.entries())  # what was written, read again: only this is sent
        if paid is None:
            raise PrivacyError("The privacy ledger does not hold what was just written to it: nothing leaves. Check the disk.")
        self._forget_old([*entries, entry])
        return paid

    def _paid(self, key: str, entries: Sequence[Entry]) -> NDArray[np.float32] | None:
        """The kept vector of a release that was paid for; None when there is none, or it was altered."""
        digests = [entry.sha256 for entry in entries if entry.key == key]
        if not digests or not self._file(key).exists():
            return None
        data = self._file(key).read_bytes()
        if hashlib.sha256(data).hexdigest() != digests[-1]:
            return None
        vector: NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
        return vector

    def _spent(self, multipliers: Sequence[float], delta: float) -> float:
        value = self._epsilon_of(multipliers, delta)
        if not (isinstance(value, float) and math.isfinite(value) and value >= 0):
            raise PrivacyError(f"The privacy accountant says ε is {value!r}: nothing leaves without a figure.")
        return value

    def _forget_old(self, entries: Sequence[Entry]) -> None:
        kept = {entry.key for entry in entries[-KEPT_RELEASES:]}
        for path in self._releases():
            if path.stem not in kept:
                path.unlink(missing_ok=True)

    @property
    def _releases_folder(self) -> Path:
        return self.folder / "releases"

    def _releases(self) -> Iterator[Path]:
        return self._releases_folder.glob("*.npy")

    def _file(self, key: str) -> Path:
        return self._releases_folder / f"{key}.npy"


@contextmanager
def failing_closed(what: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a PrivacyError, so that no mistake of this software lets anything out without its noise."""
    try:
        yield
    except PrivacyError:
        raise
    except Exception as error:
        raise PrivacyError(f"{what} failed with {type(error).__name__}: {error}. Nothing leaves.") from error


def _bytes(vector: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(vector, np.float32), allow_pickle=False)
    return stream.getvalue()


def _text(entries: Sequence[Entry]) -> str:
    values = [asdict(entry) for entry in entries]
    return json.dumps({"format": FORMAT, "entries": values, "sha256": _digest(values)}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _parsed(text: str) -> tuple[Entry, ...]:
    damaged = "The privacy ledger is damaged ({}): what was spent is not known, so nothing leaves. Restore it from a backup."
    try:
        value = json.loads(text)
        if type(value["format"]) is int and value["format"] > FORMAT:
            raise PrivacyError(
                f"The privacy ledger has format {value['format']}, known here is {FORMAT}: update FedSCA Label at this site."
            )
        if value["format"] != FORMAT or value["sha256"] != _digest(value["entries"]):
            raise PrivacyError(damaged.format("its checksum does not fit"))
        entries = tuple(Entry(**entry) for entry in value["entries"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, PrivacyError):
            raise
        raise PrivacyError(damaged.format(f"{type(error).__name__}: {error}")) from error
    if not all(_good(entry) for entry in entries):
        raise PrivacyError(damaged.format("an entry is not one of this software"))
    return entries


def _good(entry: Entry) -> bool:
    number = isinstance(entry.noise, int | float) and not isinstance(entry.noise, bool) and math.isfinite(entry.noise) and entry.noise > 0
    return number and isinstance(entry.key, str) and _KEY.fullmatch(entry.key) is not None and isinstance(entry.sha256, str)
