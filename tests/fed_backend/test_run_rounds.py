"""Which rounds a run has done, told by the reports that it wrote."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fed_backend import run_rounds as module
from fed_backend.errors import RoundError
from fed_backend.round_report import RoundReport
from fed_backend.run_config import FederationSettings
from fed_backend.run_rounds import run_rounds

Does = Callable[[Callable[[], object]], None]


@pytest.fixture
def does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Does:
    """What `flwr run` does instead."""
    FederationSettings().save(tmp_path)
    monkeypatch.setattr(module, "_connected", lambda _state: {})
    return lambda work: monkeypatch.setattr(module, "_run", lambda *_: work())


def report(folder: Path, number: int, status: str = "finished", run: str = "1") -> Path:
    made = RoundReport("id", "name", number, run, "base", "schema")
    made.status = status  # type: ignore[assignment]
    return made.save(folder)


def test_a_damaged_report_of_an_earlier_round_stops_nothing(tmp_path: Path, does: Does) -> None:
    path = report(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:40])
    does(lambda: report(tmp_path, 2))
    assert [done["round"] for done in run_rounds(tmp_path)] == [2]


def test_a_killed_round_that_is_run_again_counts(tmp_path: Path, does: Does) -> None:
    report(tmp_path, 1, "running")
    does(lambda: report(tmp_path, 1, run="2"))
    assert [(done["round"], done["run"]) for done in run_rounds(tmp_path)] == [(1, "2")]


def test_a_run_that_did_nothing_is_an_error(tmp_path: Path, does: Does) -> None:
    report(tmp_path, 1)
    does(lambda: None)
    with pytest.raises(RoundError, match="0 of 1 rounds"):
        run_rounds(tmp_path)
