"""The commented federation.toml that `fedsca server init` writes, made from the same table that checks it. Pure."""

import textwrap
from collections.abc import Mapping

from fed_backend.schedule.server_keys import all_keys

_WIDTH = 110
_HEAD = """
FedSCA Label: a federation's server. After a change: fedsca server check-config, then start the server again.
A key that is left out takes its default. What is agreed with the sites is told to them in bundles (fedsca server bundle).
Base, rank, shared_depth and shared_decoder are fixed once the first round has run.
"""
_SECTIONS = {
    "federation": "What every site agrees to.",
    "rounds": "How many sites a round needs, and how long it waits for them.",
    "privacy": "The privacy rule that sites are asked to follow; a site's own rule can only make it stricter.",
    "schedule": "When rounds run by themselves. In between: fedsca server now | pause | resume | status.",
    "server": "Where this server listens.",
    "page": "The operator's page: rounds, sites, bytes, refusals, certificates.",
}
_BLACKOUTS = """
No round begins within a blackout. As many as needed, of two kinds; times are those of time_zone.

[[schedule.blackout]]
days = ["mon", "tue", "wed", "thu", "fri"]
from = "07:00"
until = "19:00"

[[schedule.blackout]]
from = "2026-12-24 12:00"
until = "2026-12-27"
"""


def example(values: Mapping[tuple[str, str], object] | None = None) -> str:
    """The whole file; `values` (section and key -> value) stand in place of defaults."""
    given, lines, section = values or {}, [*_comment(_HEAD)], ""
    for key in all_keys():
        if key.section != section:
            lines += _comment(_BLACKOUTS) if section == "schedule" else []
            section = key.section
            lines += ["", *_comment(_SECTIONS.get(section, "")), f"[{section}]"]
        lines += [*_comment(key.about), f"{key.name} = {_toml(given.get((key.section, key.name), key.default))}"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _comment(text: str) -> list[str]:
    lines = [line for part in text.strip("\n").splitlines() for line in (textwrap.wrap(part, _WIDTH) or [""])] if text else []
    return [f"# {line}".rstrip() for line in lines]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
