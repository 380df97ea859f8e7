"""What came back from one node in a round, and how much of it is believed: sizes, ranges, names. No Flower, no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sam_adapters.site_directory import checked_site_name

_MAX_TEXT = 1000
_MAX_FIGURES = 100_000

Value = bool | int | float | str | bytes


@dataclass(frozen=True)
class SiteAnswer:
    """What came back from one node.

    Attributes:
        node: the transport's number of the node; another one after every restart where nodes are not authenticated.
        registered: the name under which the operator registered the node, which can be trusted; None where nodes are not authenticated.
        fields: the reply; empty when there is an error.
        error: why there is no reply; "" when there is one.
    """

    node: int
    registered: str | None = None
    fields: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""

    @property
    def label(self) -> str:
        """What to call the node while its site is not known."""
        return self.registered or f"node {self.node}"

    @property
    def payload(self) -> bytes:
        """The counted part of the reply; empty when there is none."""
        value = self.fields.get("payload", b"")
        return value if isinstance(value, bytes) else b""

    def text(self, key: str) -> str:
        """A text field, cut to a sane length; "" when there is none."""
        value = self.fields.get(key, "")
        return value[:_MAX_TEXT] if isinstance(value, str) else ""

    def site(self) -> str:
        """The site this answer is from.

        Where nodes are authenticated that is the registered name, else what the site says of itself: good enough on one machine only.

        Raises:
            SettingError: a name that cannot be used, or none.
        """
        return checked_site_name(self.registered or self.text("site"))

    def number(self, key: str, below: float) -> float | None:
        """A number from 0 to below `below`; None when there is none, or another one."""
        value = self.fields.get(key)
        return value if isinstance(value, float) and 0 <= value < below else None

    def figures(self) -> dict[str, Any]:
        """The gate's figures that a site tells; {} if they are not a JSON object of sane size with finite numbers."""
        text = self.fields.get("figures", "")
        if not isinstance(text, str) or len(text) > _MAX_FIGURES:
            return {}
        try:
            value = json.loads(text or "{}")
            json.dumps(value, allow_nan=False)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}
