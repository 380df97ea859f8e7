"""The ledger: paid before it leaves, never twice for the same, nothing out when anything fails, whole after a kill at any write."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fed_backend.errors import BudgetSpentError, PrivacyError
from fed_backend.privacy_ledger import KEPT_RELEASES, PrivacyLedger, release_key
from sam_adapters import atomic

Vector = np.ndarray
KEY = release_key("update", "v1")


def simple(multipliers: Sequence[float], delta: float) -> float:
    """A stand-in for the accountant: each release costs 1/z."""
    return float(sum(1 / z for z in multipliers))


class Maker:
    """Makes another vector every time, and counts."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> Vector:
        self.made += 1
        return np.full(3, self.made, np.float32)


@pytest.fixture(name="ledger")
def _ledger(tmp_path: Path) -> PrivacyLedger:
    return PrivacyLedger(tmp_path / "privacy", simple)


def release(ledger: PrivacyLedger, key: str, make: Callable[[], Vector], *, epsilon: float = 3.0, noise: float = 1.0) -> Vector:
    return ledger.release(key, noise=noise, epsilon=epsilon, delta=1e-5, make=make)


def test_the_same_key_is_the_same_vector_at_no_cost(ledger: PrivacyLedger, tmp_path: Path) -> None:
    maker = Maker()
    first = release(ledger, KEY, maker)
    again = release(PrivacyLedger(tmp_path / "privacy", simple), KEY, maker, epsilon=0.001)  # after a restart, the budget spent
    np.testing.assert_array_equal(first, again)
    assert (maker.made, ledger.epsilon(1e-5), len(ledger.entries())) == (1, 1.0, 1)


def test_a_spent_budget_makes_nothing(ledger: PrivacyLedger) -> None:
    maker = Maker()
    for version in ("a", "b", "c"):
        release(ledger, release_key(version), maker)
    with pytest.raises(BudgetSpentError, match=r"ε 3 of 3 .* would make 4.*only receives"):
        release(ledger, release_key("d"), maker)
    assert (maker.made, ledger.epsilon(1e-5)) == (3, 3.0)


def test_it_is_paid_before_it_is_handed_over(ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes the vector but not the entry: nothing comes out, and the next try is one release, not two."""
    maker, real = Maker(), atomic.write_bytes

    def refuse(path: Path, data: bytes) -> None:
        if path.name == "ledger.json" and b'"key"' in data:
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(atomic, "write_bytes", refuse)
    with pytest.raises(PrivacyError, match=r"took no entry .*No space left"):
        release(ledger, KEY, maker)
    assert ledger.entries() == ()
    monkeypatch.setattr(atomic, "write_bytes", real)
    np.testing.assert_array_equal(release(ledger, KEY, maker), [2, 2, 2])  # the first was never paid for, and never left
    assert ledger.epsilon(1e-5) == 1.0


class Killed(BaseException):
    """Stands for kill -9: nothing of the software runs after it."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_killed_at_any_write_it_goes_on(ledger: PrivacyLedger, monkeypatch: pytest.MonkeyPatch, write: int, after: bool) -> None:
    maker, real, count = Maker(), atomic.write_bytes, 0

    def kill(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == write and not after:
            raise Killed
        real(path, data)
        if count == write:
            raise Killed

    monkeypatch.setattr(atomic, "write_bytes", kill)
    with pytest.raises(Killed):
        release(ledger, KEY, maker)
    monkeypatch.setattr(atomic, "write_bytes", real)
    vector = release(ledger, KEY, maker)
    np.testing.assert_array_equal(vector, release(ledger, KEY, maker))
    assert ledger.epsilon(1e-5) == 1.0  # one release left, one was paid
    assert maker.made == (1 if write == 1 or (write == 3 and after) else 2)  # only a vector that was paid for is kept


def test_a_vector_that_was_altered_or_lost_is_paid_again(ledger: PrivacyLedger) -> None:
    maker = Maker()
    release(ledger, KEY, maker)
    kept = next((ledger.folder / "releases").glob("*.npy"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x01")
    np.testing.assert_array_equal(release(ledger, KEY, maker), [2, 2, 2])
    kept.unlink()
    np.testing.assert_array_equal(release(ledger, KEY, maker), [3, 3, 3])
    assert ledger.epsilon(1e-5) == 3.0


def _without_entries(text: str) -> str:
    return json.dumps({**json.loads(text), "entries": []})


def _newer(text: str) -> str:
    return json.dumps({**json.loads(text), "format": 2})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: "", "damaged"),
        (lambda text: "{", "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: text[:-20], "damaged"),
        (lambda text: text.replace("1.0", "9.0"), "checksum"),
        (_without_entries, "checksum"),
        (_newer, "update FedSCA Label"),
    ],
)
def test_a_ledger_that_cannot_be_trusted_lets_nothing_out(ledger: PrivacyLedger, change: Callable[[str], str], said: str) -> None:
    maker = Maker()
    release(ledger, KEY, maker)
    ledger.path.write_text(change(ledger.path.read_text(encoding="utf-8")), encoding="utf-8")
    for key in (KEY, release_key("other")):
        with pytest.raises(PrivacyError, match=said):
            release(ledger, key, maker)
    assert maker.made == 1


def test_a_ledger_that_is_gone_lets_nothing_out(ledger: PrivacyLedger) -> None:
    maker = Maker()
    release(ledger, KEY, maker)
    ledger.path.unlink()
    with pytest.raises(PrivacyError, match="is gone although"):
        release(ledger, KEY, maker)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, None, "1"])
def test_an_accountant_without_a_figure_lets_nothing_out(tmp_path: Path, value: object) -> None:
    maker = Maker()
    ledger = PrivacyLedger(tmp_path / "privacy", lambda multipliers, delta: value)  # type: ignore[arg-type,return-value]
    with pytest.raises(PrivacyError, match="says ε is"):
        release(ledger, KEY, maker)
    assert maker.made == 0


def test_old_vectors_are_forgotten_old_entries_never(ledger: PrivacyLedger) -> None:
    for number in range(KEPT_RELEASES + 3):
        release(ledger, release_key(number), Maker(), epsilon=100.0)
    assert len(list((ledger.folder / "releases").glob("*.npy"))) == KEPT_RELEASES
    assert ledger.epsilon(1e-5) == KEPT_RELEASES + 3


def test_files_are_for_their_owner_only(ledger: PrivacyLedger) -> None:
    release(ledger, KEY, Maker())
    assert ledger.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in ledger.folder.rglob("*"))
