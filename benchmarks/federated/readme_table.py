"""The README's table of Dice, from the committed results.

    python -m benchmarks.federated.readme_table

Dice after the last round: mean over the seeds, with the standard deviation over them. What a method was not tested in, with all of the
column's seeds, is a dash.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.document_table import put_table
from benchmarks.federated.configuration import MAIN
from benchmarks.federated.report import NAMES, cells, table_row
from benchmarks.federated.statistics import by_site_and_seed, bytes_by_round, last_rounds

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- table: benchmarks/federated/readme_table.py -->", "<!-- end of table: benchmarks/federated/readme_table.py -->"
TUMOURS, TUMOURS_128, TUMOURS_SHORT = "federated-fedbca-quick", "federated-fedbca-128", "federated-fedbca-cpu"
DISCS = "federated-optic-disc-quick"

NOT_TESTED = "-"


class Column(NamedTuple):
    """What a column shows: of one result an arm, one site of it or, with "", the mean of all, and a kind of prompt."""

    title: str
    result: str
    arm: str = MAIN
    site: str = ""
    kind: str = "box"


COLUMNS = (
    Column("tumours, 12 cases each", TUMOURS),
    Column("at 128 px", TUMOURS_128),
    Column("at 128 px, a quarter of the tuning", TUMOURS_SHORT),
    Column("one with 2 cases", TUMOURS, "2 cases at center1", "center1"),
    Column("a new one, no label", TUMOURS, "center4 joins last, 0 cases", "center4"),
    Column("one inverted", TUMOURS, "center1 inverted"),
    Column("optic discs, box", DISCS),
    Column("one point", DISCS, kind="point"),
    Column("no prompt", DISCS, kind="none"),
)

Results = Mapping[str, Mapping[str, Any]]


def committed() -> dict[str, dict[str, Any]]:
    """The committed results, by name."""
    names = {column.result for column in COLUMNS}
    return {name: json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")) for name in sorted(names)}


def table(results: Results) -> str:
    """The table in Markdown; columns of arms that the results lack are left out."""
    columns = [column for column in COLUMNS if column.arm in {unit["arm"] for unit in _units(results, column)}]
    there = {unit["method"] for result in results.values() for unit in result["units"]}
    lines = [
        table_row(["Dice", *(column.title for column in columns), "kB a site and round"]),
        table_row(["---", *["---:"] * (len(columns) + 1)]),
    ]
    for method in (method for method in NAMES if method == "filled" or method in there):
        found = [_cell(results, column, method) for column in columns]
        if set(found) != {NOT_TESTED}:
            lines.append(table_row([NAMES[method], *found, _kilobytes(results, method)]))
    return "\n".join(lines)


def _units(results: Results, column: Column) -> Sequence[Mapping[str, Any]]:
    units: Sequence[Mapping[str, Any]] = results.get(column.result, {}).get("units", ())
    return units


def _cell(results: Results, column: Column, method: str) -> str:
    untuned = method in ("filled", "base")  # the same whatever is varied, but for inverted images
    if method == "filled" and column.kind != "box":
        return NOT_TESTED
    units, arm = _units(results, column), MAIN if untuned and column.site else column.arm
    kind = "filled" if method == "filled" else column.kind
    found = by_site_and_seed(last_rounds(units, arm, "base" if untuned else method), kind)
    found = {(site, seed): dice for (site, seed), dice in found.items() if not column.site or site == column.site}
    if {seed for _, seed in found} != {unit["seed"] for unit in units if unit["arm"] == arm}:
        return NOT_TESTED
    return cells(found, sorted({site for site, _ in found}), "dice")[-1]


def _kilobytes(results: Results, method: str) -> str:
    """Where nothing is varied: of the first result that has the method."""
    found = (last_rounds(_units(results, column), MAIN, method) for column in COLUMNS)
    return f"{bytes_by_round(next((units for units in found if units), [])) / 1000:.0f}"


def main() -> None:
    """Put it into the README."""
    put_table(README, BEGIN, END, f"\n{table(committed())}\n")


if __name__ == "__main__":
    main()
