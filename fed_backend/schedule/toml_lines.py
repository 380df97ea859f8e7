"""In which line of a TOML file a key stands, for messages. Reads the plain form that people write: sections, one key a line. Pure."""

import re
from collections import Counter

_TABLE = re.compile(r"\s*\[\s*([\w.\-]+)\s*\]\s*(#.*)?$")
_ARRAY = re.compile(r"\s*\[\[\s*([\w.\-]+)\s*\]\]\s*(#.*)?$")
_KEY = re.compile(r"\s*(?:([\w.\-]+)\.)?([\w\-]+)\s*=")

Place = tuple[str, int, str]
"""Section, which one of an array of tables (0 for a plain section), key ("" for the section itself)."""


def key_lines(text: str) -> dict[Place, int]:
    """Line numbers from 1 on, of the first time that each key stands in each section."""
    found: dict[Place, int] = {}
    seen: Counter[str] = Counter()
    section, index = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _ARRAY.match(line):
            section, index = match[1], seen[match[1]]
            seen[section] += 1
            found.setdefault((section, index, ""), number)
        elif match := _TABLE.match(line):
            section, index = match[1], 0
            found.setdefault((section, 0, ""), number)
        elif match := _KEY.match(line):
            within = ".".join(filter(None, (section, match[1])))  # `a.b = 1` is b of [a]
            found.setdefault((within, 0 if match[1] else index, match[2]), number)
    return found
