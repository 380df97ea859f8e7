"""Attacks by a real member of a real federation: what the server says to each, and what is left of it in the others' mixtures.

    python -m benchmarks.real_attacks [--only TEXT ...] [--again] [--out FILE.json] [--markdown docs/robustness.md]

Four honest sites and one or two that attack, each with a SuperNode and keys of its own, at a SuperLink over TLS: see `tests/attacks`.
Results go into the file after each attack, so a run that was ended goes on where it was; `--only` chooses attacks by a part of their name,
`--again` repeats those whose result is there already, `--markdown` writes the table into a document between its two marks.
"""

import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document_table import put_table
from benchmarks.kept_results import KeptResults, options
from tests.attacks.attack_list import ATTACKS, MOLES, RealAttack
from tests.attacks.federation import AttackedFederation
from tests.attacks.scenario import Courses

RESULTS = Path(__file__).parent / "results" / "real-attacks.json"
SHOWN = "(an honest member)"
"""What stands in the table of the courses that attacks are compared with."""
BEGIN, END = "<!-- table: benchmarks/real_attacks.py -->", "<!-- end of table: benchmarks/real_attacks.py -->"


def do(attack: RealAttack, courses: Courses) -> dict[str, Any]:
    """Do an attack; its line, JSON-ready."""
    line: dict[str, Any] = {"attack": attack.name, "beside": attack.beside or "(nobody)"}
    begun = time.monotonic()
    try:
        result = courses.result(attack)
        line |= {"ok": True, "refused_in": result.refused_in, "quarantined": result.quarantined, "said": result.said}
        line |= {"rounds": len(attack.moves), "mixtures": {name: float(f"{x:.4g}") for name, x in result.deviation.items()}}
        line["fedavg"] = float(f"{result.fedavg:.4g}") if np.isfinite(result.fedavg) else None
    except Exception as error:
        sys.stderr.write("".join(traceback.format_exception(error)))
        line |= {"ok": False, "said": (str(error) or type(error).__name__).splitlines()[0]}
    return {**line, "took_s": round(time.monotonic() - begun, 1)}


def table(lines: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    rows = ["| attack | refused in its | others' mixtures change by | plain FedAvg by | what is said |", "|---|---|---:|---:|---|"]
    for line in lines:
        if line["ok"] and (line["attack"] == SHOWN or not line["attack"].startswith("(")):
            when = "-" if line["refused_in"] is None else f"round {line['refused_in']}" + (", quarantine" if line["quarantined"] else "")
            fedavg = "destroyed" if line["fedavg"] is None else f"{100 * line['fedavg']:.0f} %"
            rows.append(f"| {line['attack']} | {when} | {100 * max(line['mixtures'].values()):.1f} % | {fedavg} | {line['said']} |")
    return "\n".join(rows)


def run(chosen: Sequence[RealAttack], results: KeptResults) -> None:
    """Do the chosen attacks to one federation; every result is in the file at once."""
    scratch = Path(tempfile.mkdtemp(prefix="real-attacks-"))
    try:
        federation = AttackedFederation(scratch, MOLES[: max(attack.moles for attack in chosen)])
        try:
            courses = Courses(federation.start())
            for attack in chosen:
                line = do(attack, courses)
                results.keep(line)
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        finally:
            federation.close()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main() -> int:
    """Run; returns how many attacks did what they must not."""
    given = options(__doc__, RESULTS, "attacks")
    results = KeptResults.open(given.out, "attacks", "attack", ATTACKS)
    if given.list:
        sys.stdout.write("".join(f"{name}\n" for name in results.chosen(given.only, again=True)))
        return 0
    chosen = results.chosen(given.only, again=given.again)
    if chosen:
        run([ATTACKS[name] for name in chosen], results)
    if given.markdown is not None:
        put_table(given.markdown, BEGIN, END, table(results.in_order()))
    return results.failed(chosen)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
