"""The README's table of Dice, from the committed results.

    python -m benchmarks.federated.readme_table

Mean over the hospitals and seeds of the last round, with the standard deviation over seeds. A method that a result lacks is left out of
the table, a prompt that it was not tested with is a dash.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.document_table import put_table
from benchmarks.federated.configuration import MAIN
from benchmarks.federated.report import KIND_NAMES, NAMES, cells, table_row
from benchmarks.federated.statistics import by_site_and_seed, bytes_by_round, last_rounds

ROOT = Path(__file__).parents[2]
RESULTS = {"bladder tumours": "federated-fedbca.json", "optic disc": "federated-optic-disc.json"}
FOLDER = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- table: benchmarks/federated/readme_table.py -->", "<!-- end of table: benchmarks/federated/readme_table.py -->"
Column = tuple[Mapping[str, Any], str]
"""A result and a kind of prompt."""


def committed() -> dict[str, dict[str, Any]]:
    """The results that are there, by title."""
    return {title: json.loads((FOLDER / name).read_text(encoding="utf-8")) for title, name in RESULTS.items() if (FOLDER / name).exists()}


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    columns = {
        f"{title}, {KIND_NAMES[kind]}": (result, kind) for title, result in results.items() for kind in result["configuration"]["kinds"]
    }
    there = {unit["method"] for result in results.values() for unit in result["units"] if unit["arm"] == MAIN}
    lines = [table_row(["Dice, mean of hospitals", *columns, "kB a site and round"]), table_row(["---", *["---:"] * (len(columns) + 1)])]
    for method in (method for method in NAMES if method == "filled" or method in there):
        lines.append(table_row([NAMES[method], *(_cell(column, method) for column in columns.values()), _kilobytes(results, method)]))
    return "\n".join(lines)


def _cell(column: Column, method: str) -> str:
    result, kind = column
    if method == "filled":
        found = by_site_and_seed(last_rounds(result["units"], MAIN, "base"), "filled") if kind == "box" else {}
    else:
        found = by_site_and_seed(last_rounds(result["units"], MAIN, method), kind)
    if not found:
        return "-"
    return cells(found, sorted({site for site, _ in found}), "dice")[-1]


def _kilobytes(results: Mapping[str, Mapping[str, Any]], method: str) -> str:
    """The most of all results."""
    found = [last_rounds(result["units"], MAIN, method) for result in results.values()]
    return f"{max((bytes_by_round(units) / 1000 for units in found if units), default=0.0):.0f}"


def main() -> None:
    """Put it into the README."""
    put_table(README, BEGIN, END, f"\n{table(committed())}\n")


if __name__ == "__main__":
    main()
