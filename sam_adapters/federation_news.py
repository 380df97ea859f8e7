"""What a site last heard from its federation's server: `<site>/work/federation.json`. Written by the federation, read by whoever shows it.

    format       1
    name         of the federation
    round        the round in which it was heard
    last_heard   UTC, ISO 8601
    next_round   when the server means to begin the next round, UTC, ISO 8601; null when nothing is planned, or it does not say

No torch, no network. The file is replaced atomically; what is in it came from another machine and is checked before it is written.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sam_adapters import atomic
from sam_adapters.site_directory import SiteDirectory

NEWS_FILE = "federation.json"
FORMAT = 1
_LONGEST_NAME, _LONGEST_TIME = 64, 40


@dataclass(frozen=True)
class FederationNews:
    """See the module; times are texts as in the file."""

    name: str
    round: int
    last_heard: str
    next_round: str | None = None

    def save(self, site: SiteDirectory) -> None:
        """Write the file; a name that is too long is cut, and a next round that is no time with a zone is left out."""
        planned = _moment(self.next_round)
        value = {
            **asdict(self),
            "format": FORMAT,
            "name": self.name[:_LONGEST_NAME],
            "next_round": planned.isoformat() if planned else None,
        }
        atomic.write_json(site.work / NEWS_FILE, value)

    def upcoming(self, now: datetime) -> str | None:
        """The next round, if it is still to come at `now` (with time zone)."""
        planned = _moment(self.next_round)
        return self.next_round if planned is not None and planned > now else None


def load_news(site: SiteDirectory) -> FederationNews | None:
    """What the file says; None where there is none, or none that can be read."""
    try:
        value = json.loads((site.work / NEWS_FILE).read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            return None
        planned = value["next_round"]
        return FederationNews(str(value["name"]), int(value["round"]), str(value["last_heard"]), None if planned is None else str(planned))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _moment(text: str | None) -> datetime | None:
    """The time that a text names, UTC; None if it names none, or none with a zone."""
    if text is None or len(text) > _LONGEST_TIME:
        return None
    try:
        moment = datetime.fromisoformat(text)
        return None if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
