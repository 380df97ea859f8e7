"""The README's table of Dice, from the committed result.

    python -m benchmarks.federated.readme_table

Dice with a box after the last round: mean over the seeds, with the standard deviation over them. What a method was not tested in is a
dash.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.document_table import put_table
from benchmarks.federated.configuration import MAIN
from benchmarks.federated.report import NAMES, cells, table_row
from benchmarks.federated.statistics import by_site_and_seed, bytes_by_round, last_rounds

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "federated-fedbca-quick.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- table: benchmarks/federated/readme_table.py -->", "<!-- end of table: benchmarks/federated/readme_table.py -->"
KIND = "box"


class Column(NamedTuple):
    """What a column shows: an arm of the result, and one site of it or, with "", the mean of all."""

    title: str
    arm: str
    site: str


COLUMNS = (
    Column("four hospitals with 12 cases", MAIN, ""),
    Column("one of them with 2 cases", "2 cases at center1", "center1"),
    Column("a new one without a label", "center4 joins last, 0 cases", "center4"),
    Column("four, one inverted", "center1 inverted", ""),
)


def committed() -> dict[str, Any]:
    """The committed result."""
    value: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
    return value


def table(result: Mapping[str, Any]) -> str:
    """The table in Markdown; columns of arms that the result lacks are left out."""
    columns = [column for column in COLUMNS if column.arm in {unit["arm"] for unit in result["units"]}]
    there = {unit["method"] for unit in result["units"]}
    lines = [
        table_row(["Dice", *(column.title for column in columns), "kB a site and round"]),
        table_row(["---", *["---:"] * (len(columns) + 1)]),
    ]
    for method in (method for method in NAMES if method == "filled" or method in there):
        lines.append(table_row([NAMES[method], *(_cell(result, column, method) for column in columns), _kilobytes(result, method)]))
    return "\n".join(lines)


def _cell(result: Mapping[str, Any], column: Column, method: str) -> str:
    untuned = method in ("filled", "base")  # the same whatever is varied, but for inverted images
    arm = MAIN if untuned and column.site else column.arm
    kind = "filled" if method == "filled" else KIND
    found = by_site_and_seed(last_rounds(result["units"], arm, "base" if untuned else method), kind)
    found = {(site, seed): dice for (site, seed), dice in found.items() if not column.site or site == column.site}
    return cells(found, sorted({site for site, _ in found}), "dice")[-1] if found else "-"


def _kilobytes(result: Mapping[str, Any], method: str) -> str:
    """Where nothing is varied."""
    return f"{bytes_by_round(last_rounds(result['units'], MAIN, method)) / 1000:.0f}"


def main() -> None:
    """Put it into the README."""
    put_table(README, BEGIN, END, f"\n{table(committed())}\n")


if __name__ == "__main__":
    main()
