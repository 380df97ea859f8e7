"""The file of a round."""

import json
from pathlib import Path

import numpy as np
import pytest

from fed_backend.errors import RoundError
from fed_backend.round_report import RoundReport, numbers, read_round, round_files


def report(number: int) -> RoundReport:
    return RoundReport(federation="id", name="north", round=number, run="7", base="ab", schema="cd")


def test_round_trips_through_the_file(tmp_path: Path) -> None:
    one = report(3)
    one.count_bytes("A", "update", b"1234")
    one.count_bytes("A", "update", b"56")
    one.refuse("B", "update", "Too late.")
    one.seconds = {"join": 0.5, "update": 1.25}
    one.end("skipped", "Nobody came.")
    path = one.save(tmp_path)
    assert path == tmp_path / "rounds" / "round-0003.json"
    found = read_round(path)
    assert found["bytes"] == {"A": {"update": 6}}
    assert found["refusals"] == [{"site": "B", "phase": "update", "reason": "Too late."}]
    assert (found["status"], found["reason"], found["seconds"]["total"]) == ("skipped", "Nobody came.", 1.75)
    assert found["finished"] >= found["started"]


def test_files_are_listed_in_order_of_rounds(tmp_path: Path) -> None:
    assert round_files(tmp_path) == []
    for number in (10_000, 2, 1):
        report(number).save(tmp_path)
    (tmp_path / "rounds" / "notes.txt").write_text("mine", encoding="utf-8")
    assert [path.name for path in round_files(tmp_path)] == ["round-0001.json", "round-0002.json", "round-10000.json"]


def test_what_is_not_finite_is_null() -> None:
    assert numbers(np.array([[0.0, np.inf], [np.nan, 1.5]])) == [[0.0, None], [None, 1.5]]
    assert numbers(np.zeros((0, 0))) == []


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"format": 99})])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "round-0001.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RoundError, match=r"round-0001\.json"):
        read_round(path)
