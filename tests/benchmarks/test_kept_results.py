"""What benchmarks keep between runs, and the tables they write into documents."""

import json
from pathlib import Path

import pytest

from benchmarks.document_table import put_table
from benchmarks.kept_results import KeptResults

ORDER = ("kill a", "kill b", "disk full")


def opened(file: Path) -> KeptResults:
    return KeptResults.open(file, "faults", "fault", ORDER)


def test_a_run_goes_on_with_what_is_missing_or_failed(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results = opened(file)
    assert results.chosen([], again=False) == list(ORDER)
    results.keep({"fault": "disk full", "ok": True})
    results.keep({"fault": "kill a", "ok": False})
    assert [line["fault"] for line in json.loads(file.read_text(encoding="utf-8"))["faults"]] == ["kill a", "disk full"]
    again = opened(file)
    assert again.chosen([], again=False) == ["kill a", "kill b"]
    assert again.chosen(["kill"], again=True) == ["kill a", "kill b"]
    assert again.chosen(["full"], again=False) == []
    assert again.failed(["kill a", "disk full"]) == 1


def test_only_what_stands_between_the_marks_changes(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before <a> old <end> between <b> kept <end> after", encoding="utf-8")
    put_table(document, "<a>", "<end>", "| new |")
    assert document.read_text(encoding="utf-8") == "before <a>\n| new |\n<end> between <b> kept <end> after"


@pytest.mark.parametrize("text", ["", "<a> only", "<end> then <a>", "<a> <a> <end>"])
def test_a_document_without_its_marks_stays_as_it_is(tmp_path: Path, text: str) -> None:
    document = tmp_path / "page.md"
    document.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="has not the marks"):
        put_table(document, "<a>", "<end>", "| new |")
    assert document.read_text(encoding="utf-8") == text
