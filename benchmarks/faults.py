"""Does all the harm of `tests/faults` to real federations, one fault after the other, and writes down what came of it.

    python -m benchmarks.faults [--out FILE] [--only TEXT ...] [--again] [--markdown docs/faults.md]

Results go into the file after each fault, so a run that was ended goes on where it was; `--only` chooses faults by a part of their name,
`--again` also makes those happen whose result is there already, `--markdown` writes the table into a document between its two marks.
"""

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.document_table import put_table
from benchmarks.kept_results import KeptResults, options
from tests.faults.everything import FAULTS
from tests.faults.fault import Fault, Grounds, NotHere
from tests.faults.federation import make_templates

RESULTS = Path(__file__).parent / "results" / "faults.json"
BEGIN, END = "<!-- table: benchmarks/faults.py -->", "<!-- end of table -->"
GROUPS = {
    "kill": "Processes killed",
    "disk": "Disks full",
    "clock": "Clocks",
    "files": "Files damaged, half-written or gone",
    "network": "Network",
    "skew": "Versions that do not fit",
    "late": "Late and missing sites",
}


def make(fault: Fault, grounds: Grounds) -> dict[str, Any]:
    """Make it happen; what was seen, JSON-ready."""
    line: dict[str, Any] = {"fault": fault.name, "group": fault.group, "person": "", "recovery_s": None, "round_s": None}
    begun = time.monotonic()
    try:
        seen, undisturbed = grounds.make(fault)
        line |= {"ok": True, "happened": seen.what, "person": seen.person}
        line |= {"recovery_s": _rounded(seen.seconds), "round_s": _rounded(undisturbed)}
    except NotHere as error:
        line |= {"ok": None, "happened": f"Not tried on this machine: {error}."}
    except Exception as error:
        sys.stderr.write("".join(traceback.format_exception(error)))
        line |= {"ok": False, "happened": (str(error) or type(error).__name__).splitlines()[0]}
    return {**line, "took_s": _rounded(time.monotonic() - begun)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    parts = []
    for group, title in GROUPS.items():
        rows = [line for line in lines if line["group"] == group and line["ok"] is not False]
        if rows:
            parts += [f"### {title}", "", "| fault | what happened | recovery |", "|---|---|---:|", *map(_row, rows), ""]
    return "\n".join(parts)


def _row(line: Mapping[str, Any]) -> str:
    told = f" Told: “{line['person']}”" if line["person"] else ""
    seconds = "" if line["recovery_s"] is None else f"{line['recovery_s']:.0f} s"
    return f"| {line['fault']} | {(line['happened'] + told).replace('|', '/')} | {seconds} |"


def main() -> int:
    """Run; returns how many faults did harm that lasted."""
    given = options(__doc__, RESULTS, "faults")
    faults = {one.name: one for one in FAULTS}
    results = KeptResults.open(given.out, "faults", "fault", faults)
    if given.list:
        named = [faults[name] for name in results.chosen(given.only, again=True)]
        sys.stdout.write("".join(f"{one.group:8} {one.name}\n" for one in named))
        return 0
    chosen = results.chosen(given.only, again=given.again)
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        templates = make_templates(scratch / "templates") if chosen else scratch
        grounds = Grounds(scratch, templates)
        for name in chosen:
            line = make(faults[name], grounds)
            results.keep(line)
            sys.stdout.write(f"{line['ok']!s:5} {line['recovery_s']!s:>6} s of {line['took_s']:6.1f} s  {name}: {line['happened']}\n")
            sys.stdout.flush()
        grounds.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if given.markdown is not None:
        put_table(given.markdown, BEGIN, END, f"\n{table(results.in_order())}")
    return results.failed(chosen)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
