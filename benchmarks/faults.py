"""Does all the harm of `tests/faults` to real federations, one fault after the other, and writes down what came of it.

    python -m benchmarks.faults --out benchmarks/results/faults.json [--only TEXT ...] [--markdown docs/faults.md]

Every fault begins with a federation of its own: a supervised server, its SuperLink, two or three SuperNodes. Results are added to the file
after each fault, so a run may be continued; `--only` chooses faults by a part of their name.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from sam_adapters import atomic
from tests.faults.everything import FAULTS
from tests.faults.fault import Fault, NotHere, Place
from tests.faults.federation import make_templates


def run_one(fault: Fault, folder: Path, templates: Path) -> dict[str, Any]:
    """Make it happen; what was seen, JSON-ready."""
    place, begun = Place(folder, templates), time.monotonic()
    line: dict[str, Any] = {"fault": fault.name, "group": fault.group}
    try:
        seen = fault.scenario(place)
        line |= {"ok": True, "happened": seen.what, "person": seen.person, "recovery_s": None if seen.seconds is None else round(seen.seconds, 1)}
    except NotHere as error:
        line |= {"ok": None, "happened": f"Not tried on this machine: {error}", "person": "", "recovery_s": None}
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(text)
        line |= {"ok": False, "happened": str(error).splitlines()[0] if str(error) else type(error).__name__, "person": "", "recovery_s": None}
    rounds = [took for federation in place.federations for took in federation.took]
    line |= {"whole_rounds_s": [round(took, 1) for took in rounds], "took_s": round(time.monotonic() - begun, 1)}
    place.close()
    return line


def main() -> int:
    """Run; returns the exit code: how many faults did harm that lasted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/faults.json"))
    parser.add_argument("--markdown", type=Path, help="write the table into this document, between its two marks")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of faults")
    parser.add_argument("--again", action="store_true", help="also those whose result is in the file already")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    given = parser.parse_args()
    chosen = [one for one in FAULTS if not given.only or any(part in one.name for part in given.only)]
    if given.list:
        print("\n".join(one.name for one in chosen))
        return 0
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"machine": machine(), "faults": []}
    lines = {line["fault"]: line for line in known["faults"]}
    chosen = [one for one in chosen if given.again or not lines.get(one.name, {}).get("ok")]
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        templates = make_templates(scratch / "templates") if chosen else scratch
        for number, one in enumerate(chosen):
            lines[one.name] = line = run_one(one, scratch / f"{number:02d}", templates)
            print(f"{line['ok']!s:5} {line['recovery_s']!s:>6} s of {line['took_s']:6.1f} s  {one.name}: {line['happened']}", flush=True)
            order = [lines[each.name] for each in FAULTS if each.name in lines]
            atomic.write_json(given.out, {"machine": machine(), "faults": order})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return sum(lines[one.name]["ok"] is False for one in chosen)


if __name__ == "__main__":
    sys.exit(min(main(), 100))
