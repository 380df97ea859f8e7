"""Which values a label may hold: those its sender declared, else those of the site's settings. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monailabel_app.app_errors import RequestError
from sam_adapters.errors import LabelError
from sam_adapters.settings import SiteSettings

DECLARATION = "label_info"
"""Key of `params` under which the official plug-in declares a label's segments: [{"name": "liver", "idx": 1}, …]."""

MAX_DECLARED = 10_000
MAX_VALUE = 65_535
MAX_SHOWN = 10
PLUG_IN_SKIPS = 3
"""The official plug-in leaves out the segments background, foreground_scribbles and background_scribbles, but counts them in `idx`."""


@dataclass(frozen=True)
class DeclaredValues:
    """What was declared.

    Attributes:
        names: value -> name of the structure, without 0, the background; None: nothing was declared, any value may be.
        where: where it was declared, for messages.
    """

    names: Mapping[int, str] | None
    where: str

    def check(self, values: Iterable[int]) -> None:
        """Raise LabelError if there is a value that was not declared."""
        found = set(values) - {0}
        if self.names is None or found <= set(self.names) or found <= self._exported_by_the_plug_in():
            return
        undeclared = sorted(found - set(self.names))
        declared = ", ".join(["0 (background)", *(f"{value} ({name})" for value, name in sorted(self.names.items())[:MAX_SHOWN])])
        many = "value" if len(undeclared) == 1 else "values"
        raise LabelError(
            f"The label holds the {many} {_listed(undeclared)}, which nobody declared: expected {declared}, by {self.where}. "
            f'Remove what does not belong, or declare it in params as {DECLARATION}: [{{"name": "…", "idx": {undeclared[0]}}}].'
        )

    def _exported_by_the_plug_in(self) -> set[int]:
        """The plug-in numbers what it exports from 1, whatever `idx` it declares; see `PLUG_IN_SKIPS`."""
        skipped = [value - place for place, value in enumerate(self.names or (), start=1)]
        like_the_plug_in = skipped == sorted(skipped) and all(0 <= count <= PLUG_IN_SKIPS for count in skipped)
        return set(range(1, len(skipped) + 1)) if like_the_plug_in else set()


def declared_values(info: Mapping[str, Any], settings: SiteSettings) -> DeclaredValues:
    """What a label's `params` declare, else what the site's settings say (`label_value`; 0 means any value).

    Raises:
        RequestError: `label_info` is not a list of {"name": text, "idx": 0 to 65535}.
    """
    given = info.get(DECLARATION)
    if given:
        return DeclaredValues(_names(given), "the request's label_info")
    if settings.label_value:
        return DeclaredValues({settings.label_value: settings.label_name}, "this site's label_value")
    return DeclaredValues(None, "nobody")


def _names(given: object) -> dict[int, str]:
    if not isinstance(given, list) or len(given) > MAX_DECLARED:
        raise RequestError(f"{DECLARATION} is {str(given)[:80]}, expected a list of at most {MAX_DECLARED:,} entries.")
    names: dict[int, str] = {}
    for entry in given:
        value = entry.get("idx") if isinstance(entry, dict) else None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_VALUE:
            raise RequestError(f'{DECLARATION} holds {str(entry)[:80]}, expected {{"name": "…", "idx": 0 to {MAX_VALUE}}}.')
        if value:
            names[value] = str(entry.get("name", ""))[:80] or "no name"
    return names


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:MAX_SHOWN]))
    return shown if len(values) <= MAX_SHOWN else f"{shown} and {len(values) - MAX_SHOWN:,} more"
