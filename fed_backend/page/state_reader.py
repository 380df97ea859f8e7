"""What the page shows, read from the server's state folder. Nothing is ever written there.

Threads: one lock around `read`. Files that did not change since the last reading (same size and time) are not parsed again, so a year of
rounds costs one listing of the folder. Whoever writes these files replaces them atomically: a reader sees the old file or the new one.
"""

import dataclasses
import hashlib
import json
import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fed_backend import server_state_file
from fed_backend.enrolment.certificate_days import CertificateLife, server_certificates
from fed_backend.errors import EnrolmentError, RoundError, ServerStateError
from fed_backend.page.round_facts import RoundFacts, moment, parse_round
from fed_backend.round_report import read_round, round_files
from fed_backend.run_config import FEDERATION_FILE, FederationSettings
from fed_backend.schedule.book import SCHEDULE_FILE
from fed_backend.server_state_file import STATE_FILE
from sam_adapters.provenance import utc_now

MAX_ROUND_BYTES = 64 << 20
WATCHED_ROUNDS = 3  # older reports are not written again

Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class KnownSite:
    """What the server's own state says of a site; see `server_state.SiteRecord`."""

    name: str
    cases: int
    first_round: int
    last_round: int
    noise: float | None


@dataclass(frozen=True)
class FederationFacts:
    """Everything the page shows.

    Attributes:
        name: the federation's name for people.
        settings: the federation's settings by field name; empty where there is no such file yet.
        rounds: oldest first.
        sites: as the server's state knows them, in the order in which they joined.
        next_round: UTC; None where nothing is planned or nothing plans.
        paused: whether the schedule is paused.
        certificates: of an enrolled federation's server, with the days that they have left.
        problems: what could not be read, as sentences.
        damaged: how many rounds could not be read.
    """

    name: str
    settings: dict[str, Any]
    rounds: tuple[RoundFacts, ...]
    sites: tuple[KnownSite, ...]
    next_round: datetime | None
    paused: bool
    problems: tuple[str, ...]
    damaged: int
    certificates: tuple[CertificateLife, ...] = ()


class StateReader:
    """Reads one state folder again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._rounds: dict[Path, tuple[Stamp, RoundFacts | str]] = {}
        self._state: tuple[Stamp, tuple[KnownSite, ...] | str] | None = None

    def read(self) -> FederationFacts:
        """What the folder holds now. Never raises for what is damaged: `problems` tells it."""
        with self._lock:
            return self._read()

    def stamp(self, now: datetime) -> str:
        """Another text whenever the page may look different: a file of the folder changed, or a minute passed. Parses nothing."""
        try:
            rounds = round_files(self.folder)
        except OSError:
            rounds = []
        watched = [self.folder / name for name in (STATE_FILE, SCHEDULE_FILE, FEDERATION_FILE)] + rounds[-WATCHED_ROUNDS:]
        seen = repr((len(rounds), [_stamp(path) for path in watched], f"{now:%Y-%m-%dT%H:%M}"))
        return hashlib.sha256(seen.encode()).hexdigest()[:16]

    def _read(self) -> FederationFacts:
        problems: list[str] = []
        settings = self._settings(problems)
        found = [self._round(path) for path in self._round_paths(problems)]
        damaged = [item for item in found if isinstance(item, str)]
        sites = self._sites()
        next_round, paused = self._schedule(problems)
        certificates = self._certificates(problems)
        return FederationFacts(
            name=str(settings.get("federation", "")) or "Federation",
            settings=settings,
            rounds=tuple(item for item in found if isinstance(item, RoundFacts)),
            sites=sites if isinstance(sites, tuple) else (),
            next_round=next_round,
            paused=paused,
            problems=tuple(problems + damaged + ([sites] if isinstance(sites, str) else [])),
            damaged=len(damaged),
            certificates=certificates,
        )

    def _settings(self, problems: list[str]) -> dict[str, Any]:
        try:
            return dataclasses.asdict(FederationSettings.load(self.folder))
        except RoundError as error:
            problems.append(str(error))
            return {}

    def _round_paths(self, problems: list[str]) -> list[Path]:
        try:
            paths = round_files(self.folder)
        except OSError as error:
            problems.append(f"The rounds cannot be listed ({error.strerror}): the page's user needs to read {self.folder}.")
            return []
        for gone in set(self._rounds) - set(paths):
            del self._rounds[gone]
        return paths

    def _round(self, path: Path) -> RoundFacts | str:
        stamp = _stamp(path)
        known = self._rounds.get(path)
        if known is not None and known[0] == stamp and stamp is not None:
            return known[1]
        result = self._parse(path, stamp)
        if stamp is not None:
            self._rounds[path] = (stamp, result)
        return result

    def _parse(self, path: Path, stamp: Stamp | None) -> RoundFacts | str:
        try:
            if stamp is not None and stamp[1] > MAX_ROUND_BYTES:
                raise RoundError(f"it has {stamp[1]} bytes, expected at most {MAX_ROUND_BYTES}")
            facts = parse_round(read_round(path))
            if facts.number != int(path.stem.removeprefix("round-")):
                raise RoundError(f"it says that it is round {facts.number}")
        except (RoundError, RecursionError) as error:
            return f"{path.name} is left out: {error}"
        return facts

    def _sites(self) -> tuple[KnownSite, ...] | str:
        path = self.folder / STATE_FILE
        stamp = _stamp(path)
        if stamp is None:
            return ()
        if self._state is None or self._state[0] != stamp:
            try:
                known = server_state_file.load(path)
                result: tuple[KnownSite, ...] | str = tuple(
                    KnownSite(site.name, site.cases, site.first_round, site.last_round, site.noise) for site in known.sites.values()
                )
            except ServerStateError as error:
                result = str(error)
            self._state = (stamp, result)
        return self._state[1]

    def _schedule(self, problems: list[str]) -> tuple[datetime | None, bool]:
        path = self.folder / SCHEDULE_FILE
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return moment(value.get("next_round")), bool(value.get("paused"))
        except FileNotFoundError:
            return None, False
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            problems.append(f"{path.name} cannot be read ({error}): the time of the next round is not known.")
            return None, False

    def _certificates(self, problems: list[str]) -> tuple[CertificateLife, ...]:
        """Those of the server."""
        try:
            return tuple(server_certificates(self.folder, utc_now()))
        except EnrolmentError as error:
            problems.append(str(error))
            return ()


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
