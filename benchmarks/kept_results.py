"""Results of a list of named things, done one after the other and kept in a JSON file after each: a run that was ended goes on."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from sam_adapters import atomic

Line = dict[str, Any]


def options(description: str | None, out: Path, things: str) -> argparse.Namespace:
    """The command line: `out`, `only`, `again`, `markdown`, `list`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=out, help="the results, JSON")
    parser.add_argument("--only", nargs="*", default=[], help=f"parts of the names of {things}")
    parser.add_argument("--again", action="store_true", help="also those whose result is in the file already")
    parser.add_argument("--markdown", type=Path, help="the document whose table is written")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    return parser.parse_args()


@dataclass
class KeptResults:
    """The file.

    Attributes:
        file: where it is.
        things: the list's name in it.
        key: the name of a thing in its line.
        order: every name, in order.
        lines: name -> its line; `ok` says whether it went as it must.
    """

    file: Path
    things: str
    key: str
    order: Sequence[str]
    lines: dict[str, Line]

    @classmethod
    def open(cls, file: Path, things: str, key: str, order: Iterable[str]) -> "KeptResults":
        """Read the file, if there is one."""
        known = json.loads(file.read_text(encoding="utf-8"))[things] if file.exists() else []
        return cls(file, things, key, tuple(order), {line[key]: line for line in known})

    def chosen(self, only: Sequence[str], *, again: bool) -> list[str]:
        """Names that have a part of `only` in them (all, if that is empty) and no good result yet, or all the same with `again`."""
        named = [name for name in self.order if not only or any(part in name for part in only)]
        return [name for name in named if again or not self.lines.get(name, {}).get("ok")]

    def keep(self, line: Mapping[str, Any]) -> None:
        """Add a result; it is on the disk when this returns."""
        self.lines[line[self.key]] = dict(line)
        atomic.write_json(self.file, {"machine": machine(), self.things: self.in_order()})

    def in_order(self) -> list[Line]:
        """The lines there are."""
        return [self.lines[name] for name in self.order if name in self.lines]

    def failed(self, names: Iterable[str]) -> int:
        """How many of them went as they must not."""
        return sum(self.lines[name]["ok"] is False for name in names)
