"""Put results of one budget on the same hospitals together: seeds that ran side by side, experiments, arms that were run again.

    fedsca bench merge OUT.json FIRST.json SECOND.json ...

Where two files have the same trial (arm, method, seed), the one named later counts, whole, and its name is printed. Each figure keeps the
machine and commit that computed it. OUT may be one of the others; `fedsca bench federated --out OUT.json` goes on from it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.federated.configuration import completed
from benchmarks.federated.known_units import Key, key_of
from sam_adapters import atomic
from sam_adapters.errors import FedscaError, SettingError

SAME = ("schema", "root", "configuration", "sites")
"""What has to be the same in all files: figures of two budgets must not meet in one table."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, put together, write."""
    parser = argparse.ArgumentParser(prog="fedsca bench merge", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.json", help="where the whole is written")
    parser.add_argument("results", type=Path, nargs="+", metavar="F.json", help="results of `fedsca bench federated`")
    options = parser.parse_args(arguments)
    try:
        merged, replaced = merge({str(path): read(path) for path in options.results})
    except FedscaError as error:
        sys.exit(f"{error}")
    for key, name in replaced.items():
        print(f"{', '.join(map(str, key))}: from {name}")
    atomic.write_json(options.out, merged)
    trials = {key_of(unit) for unit in merged["units"]}
    print(f"{options.out}: {len(trials)} trials, seeds {', '.join(map(str, merged['seeds']))}.")


def read(path: Path) -> dict[str, Any]:
    """A result file, with the settings that software of its time did not have.

    Raises:
        SettingError: it is none.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["configuration"] = completed(found["configuration"])
        for unit in found["units"]:
            found["machines"][unit["machine"]], key_of(unit), unit["round"]
        _ = [found[field] for field in (*SAME, "arms", "complete", "experiment")]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise SettingError(f"{path} is no result of `fedsca bench federated` ({type(error).__name__}: {error}).") from error
    return found


def merge(results: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[Key, str]]:
    """One result of several.

    Args:
        results: name -> content; at least one.

    Returns:
        the result; and the trials that several files have with different figures -> the name of the file that counts.

    Raises:
        SettingError: another budget or other hospitals, or an arm that differs.
    """
    first_name, first = next(iter(results.items()))
    trials: dict[Key, list[dict[str, Any]]] = {}
    replaced: dict[Key, str] = {}
    machines: list[Any] = []
    arms: dict[str, Any] = {}
    for name, result in results.items():
        if differ := [field for field in SAME if result[field] != first[field]]:
            raise SettingError(
                f"{name} and {first_name} differ in {' and '.join(differ)}: only results of one budget and the same hospitals fit."
            )
        if other := [arm for arm, changes in result["arms"].items() if arms.setdefault(arm, changes) != changes]:
            raise SettingError(f"{name} means something else by {' and '.join(other)} than a file before it.")
        for key, units in _trials(result, machines).items():
            if key in trials and trials[key] != units:
                replaced[key] = name
            trials[key] = units
    merged = {
        **first,
        "machines": machines,
        "arms": arms,
        "seeds": sorted({seed for _, _, seed in trials}),
        "complete": all(result["complete"] for result in results.values()),
        "units": [unit for key in sorted(trials) for unit in trials[key]],
    }
    return merged, replaced


def _trials(result: Mapping[str, Any], machines: list[Any]) -> dict[Key, list[dict[str, Any]]]:
    """A result's units by trial, in the order of rounds, their machines' places being those in `machines`, which grows."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for unit in sorted(result["units"], key=lambda unit: int(unit["round"])):
        machine = result["machines"][unit["machine"]]
        if machine not in machines:
            machines.append(machine)
        found.setdefault(key_of(unit), []).append({**unit, "machine": machines.index(machine)})
    return found


if __name__ == "__main__":
    main()
