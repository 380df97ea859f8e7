"""Who is not believed at present, and why: what the server remembers of its checks, in one atomic file. No torch.

A site whose update is refused by a check of `plausibility` gives nothing with that update. The second time within ten rounds it is
in quarantine:
its messages are still read and judged, but none of its adapters, old or new, enters a mixture. It ends by itself after three
plausible updates
in a row, or when the operator releases it. Nobody is shut out for ever.

Every step may be repeated for the same round without changing the result. The file <state>/quarantine.json is changed under a lock
between processes, a round and the operator's command being the two that do; the lock is held for one reading and writing.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_backend.errors import ServerStateError
from fed_backend.plausibility import is_same
from sam_adapters import atomic
from sam_adapters.file_lock import locked

QUARANTINE_FILE = "quarantine.json"
FORMAT = 1
STRIKES = 2
STRIKE_ROUNDS = 10
GOOD_UPDATES = 3
MEMORIES = 20
_LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class SiteTrust:
    """What is remembered of one site.

    Attributes:
        strikes: rounds in which a check refused it, the last `STRIKE_ROUNDS` rounds'.
        reason: why, the last time.
        since: round in which its quarantine began; None if it is in none.
        good: rounds of plausible updates since then.
        accepted: round and `plausibility.memory_of` of the last updates that were taken, oldest first.
        sent: memories of the last mixtures that it was sent, oldest first: its gate may keep it at one that is some rounds old.
    """

    strikes: tuple[int, ...] = ()
    reason: str = ""
    since: int | None = None
    good: tuple[int, ...] = ()
    accepted: tuple[tuple[int, tuple[float, ...]], ...] = ()
    sent: tuple[tuple[float, ...], ...] = ()

    def first_seen(self, memory: Sequence[float]) -> int | None:
        """The round in which these adapters were first taken, if the site has sent others since; None for new ones and for the
        last ones again."""
        rounds = [number for number, known in self.accepted if is_same(known, memory)]
        last = self.accepted[-1][0] if self.accepted else None
        return rounds[0] if rounds and rounds[-1] != last else None


@dataclass(frozen=True)
class TrustBook:
    """What is remembered of all sites. Immutable."""

    sites: Mapping[str, SiteTrust] = field(default_factory=dict)

    def of(self, site: str) -> SiteTrust:
        """What is remembered of `site`."""
        return self.sites.get(site, SiteTrust())

    def withheld(self, last_rounds: Mapping[str, int]) -> frozenset[str]:
        """Sites whose adapters enter no mixture: in quarantine, or what the server has of them is what was refused.

        Args:
            last_rounds: site -> the round of the adapters that the server has.
        """
        return frozenset(site for site, number in last_rounds.items() if self.of(site).since is not None or number in self.of(site).strikes)

    def quarantined(self) -> dict[str, SiteTrust]:
        """The sites in quarantine."""
        return {site: trust for site, trust in sorted(self.sites.items()) if trust.since is not None}


Step = Callable[[TrustBook], TrustBook]


def with_strike(book: TrustBook, site: str, round: int, reason: str) -> TrustBook:
    """`book` after a check refused the site's update of `round`."""
    known = book.of(site)
    strikes = (*(number for number in known.strikes if round - STRIKE_ROUNDS < number < round), round)
    since = known.since if known.since is not None else round if len(strikes) >= STRIKES else None
    return _with(book, site, dataclasses.replace(known, strikes=strikes, reason=reason, since=since, good=()))


def with_plausible(book: TrustBook, site: str, round: int, memory: Sequence[float]) -> TrustBook:
    """`book` after all checks took the site's update of `round`; the last of `GOOD_UPDATES` ends its quarantine."""
    known = book.of(site)
    accepted = (*(item for item in known.accepted if item[0] < round), (round, tuple(memory)))[-MEMORIES:]
    changed = dataclasses.replace(known, accepted=accepted)
    if known.since is not None:
        good = (*(number for number in known.good if number < round), round)
        changed = dataclasses.replace(changed, good=good)
        if len(good) >= GOOD_UPDATES:
            changed = dataclasses.replace(changed, since=None, good=(), strikes=())
    return _with(book, site, changed)


def with_sent(book: TrustBook, site: str, memory: Sequence[float]) -> TrustBook:
    """`book` after the site was sent a mixture."""
    earlier = tuple(known for known in book.of(site).sent if not is_same(known, memory))
    return _with(book, site, dataclasses.replace(book.of(site), sent=(*earlier, tuple(memory))[-MEMORIES:]))


def released(book: TrustBook, site: str) -> TrustBook:
    """`book` after the operator let a site out; what was refused of it before is forgotten."""
    return _with(book, site, dataclasses.replace(book.of(site), since=None, good=(), strikes=()))


def notice(trust: SiteTrust) -> str:
    """What a site in quarantine is told when its update was plausible."""
    left = GOOD_UPDATES - len(trust.good)
    return (
        f"It is in quarantine since round {trust.since} ({trust.reason}) This update was plausible and gives nothing yet: "
        f"{left} more in a row end the quarantine, or the federation's operator releases it."
    )


def load(state_folder: Path) -> TrustBook:
    """What is remembered in a state folder; nothing where there is no file.

    Raises:
        ServerStateError: the file cannot be read.
    """
    path = state_folder / QUARANTINE_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}, expected {FORMAT}")
        return TrustBook({site: _trust(item) for site, item in value["sites"].items()})
    except FileNotFoundError:
        return TrustBook()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServerStateError(
            f"{path} cannot be read ({error}): move it away to go on. Who was in quarantine is forgotten then; the audit log still says it."
        ) from error


def change(state_folder: Path, step: Step) -> TrustBook:
    """Apply `step` to what is remembered, and write it down.

    Raises:
        ServerStateError: the file cannot be read. RegistryError: another process keeps the lock.
    """
    with locked(state_folder / (QUARANTINE_FILE + ".lock"), timeout=_LOCK_SECONDS):
        book = step(load(state_folder))
        sites = {site: dataclasses.asdict(trust) for site, trust in book.sites.items()}
        atomic.write_json(state_folder / QUARANTINE_FILE, {"format": FORMAT, "sites": sites})
    return book


def _with(book: TrustBook, site: str, trust: SiteTrust) -> TrustBook:
    return TrustBook({**book.sites, site: trust})


def _trust(value: Mapping[str, Any]) -> SiteTrust:
    return SiteTrust(
        strikes=tuple(int(number) for number in value["strikes"]),
        reason=str(value["reason"]),
        since=None if value["since"] is None else int(value["since"]),
        good=tuple(int(number) for number in value["good"]),
        accepted=tuple((int(number), tuple(float(x) for x in memory)) for number, memory in value["accepted"]),
        sent=tuple(tuple(float(x) for x in memory) for memory in value["sent"]),
    )
