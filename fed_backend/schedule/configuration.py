"""federation.toml, checked: the one file that says what a federation agrees on, when its rounds run and where its server listens.

`fedsca server init` writes a commented one; `fedsca server check-config` names everything that is wrong with it at once, each with its
line. The agreement in it is copied to <state>/federation.json when the server starts, where rounds, page and bundles read it.
"""

import datetime
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fed_backend.errors import ConfigurationError, LaunchError, RoundError
from fed_backend.launch import ServerTls, require_tls_beyond_loopback
from fed_backend.page.page_options import PageOptions
from fed_backend.run_config import FederationSettings
from fed_backend.schedule.agreed_keys import Key
from fed_backend.schedule.blackout import Blackout, parse_blackout
from fed_backend.schedule.server_keys import BLACKOUT_KEYS, BLACKOUT_SECTION, all_keys
from fed_backend.schedule.timetable import Timetable, parse_zone
from fed_backend.schedule.toml_lines import key_lines
from sam_adapters.settings import as_once_meant

CONFIGURATION_FILE = "federation.toml"
_MAX_BYTES = 1 << 20
_MOST_HOURS = 24.0 * 14
_TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}


@dataclass(frozen=True)
class Configuration:
    """A configuration without mistakes.

    Attributes:
        path: the file.
        settings: what the federation agrees on.
        timetable: when rounds are due.
        catch_up: how old a missed due time may be to be made up for.
        state: folder of the server's state.
        host, port: where the SuperLink listens.
        tls: the hospital's own PEM files, if given.
        node_authentication: whether only registered sites are let in.
        stop_seconds: how long a running round may go on after the order to stop.
        page: how the operator's page is served; None when it is not.
        page_token: the file of the page's token for metrics, if there is one.
    """

    path: Path
    settings: FederationSettings
    timetable: Timetable
    catch_up: datetime.timedelta
    state: Path
    host: str
    port: int
    tls: ServerTls | None
    node_authentication: bool
    stop_seconds: float
    page: PageOptions | None
    page_token: Path | None


def load_configuration(path: Path) -> Configuration:
    """Read and check the file.

    Raises:
        ConfigurationError: it cannot be read, or something in it is wrong; the message names every mistake with its line.
    """
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise ConfigurationError(f"{path} has {len(data)} bytes, expected at most {_MAX_BYTES}: is this the right file?")
        text = data.decode("utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): `fedsca server init` writes one.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML file: {error}. Texts need quotes; see deploy/federation.example.toml.") from error
    return _Reader(path, text, document).configuration()


@dataclass
class _Reader:
    """Collects mistakes while it reads, so that all are told at once."""

    path: Path
    text: str
    document: Mapping[str, Any]
    problems: list[tuple[int, str]] = field(default_factory=list)

    def configuration(self) -> Configuration:
        self._lines = key_lines(self.text)
        keys = all_keys()
        self._find_unknown(keys)
        values = {(key.section, key.name): self._value(key) for key in keys}
        settings = self._settings(keys, values)
        timetable = self._timetable(values)
        catch_up = values["schedule", "catch_up_hours"]
        self._expect(0 <= catch_up <= _MOST_HOURS, "schedule", "catch_up_hours", catch_up, f"0 to {_MOST_HOURS:g}")
        stop = values["server", "stop_seconds"]
        self._expect(0 <= stop <= 3600, "server", "stop_seconds", stop, "0 to 3600")
        tls = self._tls(values)
        page, token = self._page(values)
        if self.problems:
            told = "\n".join(f"  line {line}: {what}" if line else f"  {what}" for line, what in sorted(self.problems))
            raise ConfigurationError(f"{self.path} cannot be used:\n{told}")
        return Configuration(
            path=self.path,
            settings=settings,
            timetable=timetable,
            catch_up=datetime.timedelta(hours=catch_up),
            state=self._folder(values),
            host=values["server", "host"],
            port=values["server", "port"],
            tls=tls,
            node_authentication=values["server", "node_authentication"],
            stop_seconds=stop,
            page=page,
            page_token=token,
        )

    # --- keys and types ---------------------------------------------------------------------------------------------------------------

    def _find_unknown(self, keys: list[Key]) -> None:
        known: dict[str, list[str]] = {}
        for key in keys:
            known.setdefault(key.section, []).append(key.name)
        known["schedule"] = [*known["schedule"], "blackout"]
        for section, table in self.document.items():
            if section not in known:
                self._tell(section, "", f"[{section}] is no section of this file{_meant(section, list(known))}")
            elif not isinstance(table, Mapping):
                self._tell("", section, f"{section} is a value, expected a section: [{section}]")
            else:
                for name in set(table) - set(known[section]):
                    self._tell(section, name, f"{name} is no key of [{section}]{_meant(name, known[section], _elsewhere(name, keys))}")

    def _value(self, key: Key) -> Any:
        """The value as given, in the type of the default; the default where nothing or nonsense is given."""
        table = self.document.get(key.section)
        table = as_once_meant(table) if isinstance(table, Mapping) else {}
        if key.name not in table:
            return key.default
        value, kind = table[key.name], type(key.default)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            self._tell(key.section, key.name, f"{key.name} is {value!r}, expected {_TYPES[kind]}")
            return key.default
        return value

    def _tell(self, section: str, name: str, what: str, index: int = 0) -> None:
        line = self._lines.get((section, index, name)) or self._lines.get((section, index, "")) or self._lines.get((section, 0, "")) or 0
        self.problems.append((line, what + "."))

    def _expect(self, good: bool, section: str, name: str, value: object, expected: str) -> None:
        if not good:
            self._tell(section, name, f"{name} is {value!r}, expected {expected}")

    # --- parts ------------------------------------------------------------------------------------------------------------------------

    def _settings(self, keys: list[Key], values: Mapping[tuple[str, str], Any]) -> FederationSettings:
        """Each value is tried alone, so that every bad one is named."""
        good: dict[str, Any] = {}
        for key in keys:
            if key.field:
                try:
                    FederationSettings(**{key.field: values[key.section, key.name]})
                    good[key.field] = values[key.section, key.name]
                except RoundError as error:
                    said = str(error).removeprefix(f"Federation setting {key.field} ").rstrip(".")
                    self._tell(key.section, key.name, f"{key.name} {said}")
        return FederationSettings(**good)

    def _timetable(self, values: Mapping[tuple[str, str], Any]) -> Timetable:
        try:
            zone = parse_zone(values["schedule", "time_zone"])
        except ValueError as error:
            self._tell("schedule", "time_zone", str(error))
            zone = parse_zone("UTC")
        try:
            timetable = Timetable(values["schedule", "cron"], zone, self._blackouts())
        except ValueError as error:
            self._tell("schedule", "cron", f"cron cannot be used: {error}")
            return Timetable()
        if timetable.cron.strip() and timetable.next_after(datetime.datetime.now(datetime.UTC)) is None:
            self._tell("schedule", "cron", f"{timetable.cron!r} never comes, or always within a blackout: no round would ever run")
        return timetable

    def _blackouts(self) -> list[Blackout]:
        schedule = self.document.get("schedule")
        tables = schedule.get("blackout", []) if isinstance(schedule, Mapping) else []
        if not isinstance(tables, list):
            self._tell(BLACKOUT_SECTION, "", f"[{BLACKOUT_SECTION}] needs two brackets on each side: [[{BLACKOUT_SECTION}]]")
            return []
        found = []
        for index, table in enumerate(tables):
            if not isinstance(table, Mapping):
                self._tell(BLACKOUT_SECTION, "", f"a blackout is {table!r}, expected [[{BLACKOUT_SECTION}]] with from and until")
                continue
            for name in set(table) - set(BLACKOUT_KEYS):
                self._tell(BLACKOUT_SECTION, name, f"{name} is no key of a blackout{_meant(name, list(BLACKOUT_KEYS))}", index)
            try:
                found.append(parse_blackout(table.get("from"), table.get("until"), table.get("days")))
            except ValueError as error:
                self._tell(BLACKOUT_SECTION, "", f"this blackout cannot be used: {error}", index)
        return found

    def _tls(self, values: Mapping[tuple[str, str], Any]) -> ServerTls | None:
        names = ("ssl_ca", "ssl_cert", "ssl_key")
        files = {name: self._file("server", name, values) for name in names}
        given = [name for name in names if values["server", name]]
        if given and len(given) < len(names):
            self._tell("server", given[0], f"TLS needs all three of {', '.join(names)}")
        self._expect(1 <= values["server", "port"] <= 65535, "server", "port", values["server", "port"], "1 to 65535")
        ca, certificate, key = (files[name] for name in names)
        tls = ServerTls(ca, certificate, key) if ca and certificate and key else None
        if tls is None and not given and not (self._folder(values) / "identity.json").exists():
            try:
                require_tls_beyond_loopback(values["server", "host"], tls=False)
            except LaunchError:
                self._tell(
                    "server",
                    "host",
                    "without TLS only 127.0.0.1 can be listened on: call `fedsca server init` once, or give ssl_ca, ssl_cert and ssl_key",
                )
            if values["server", "node_authentication"]:
                self._tell("server", "node_authentication", "node_authentication needs TLS: call `fedsca server init` once")
        return tls

    def _page(self, values: Mapping[tuple[str, str], Any]) -> tuple[PageOptions | None, Path | None]:
        if not values["page", "enabled"]:
            return None, None
        certificate, key, token = (self._file("page", name, values) for name in ("ssl_cert", "ssl_key", "metrics_token"))
        port = values["page", "port"]
        self._expect(1 <= port <= 65535, "page", "port", port, "1 to 65535")
        self._expect(port != values["server", "port"], "page", "port", port, "another one than the server's")
        try:
            return PageOptions(self._folder(values), values["page", "host"], port, certificate, key, values["page", "minutes"]), token
        except LaunchError as error:
            self._tell("page", "", str(error).rstrip("."))
            return None, None

    def _folder(self, values: Mapping[tuple[str, str], Any]) -> Path:
        return (self.path.parent / str(values["server", "state"])).resolve()

    def _file(self, section: str, name: str, values: Mapping[tuple[str, str], Any]) -> Path | None:
        if not values[section, name]:
            return None
        path = (self.path.parent / str(values[section, name])).resolve()
        self._expect(path.is_file(), section, name, values[section, name], f"a file that exists ({path} does not)")
        return path


def _meant(wrong: str, names: list[str], elsewhere: str = "") -> str:
    """A hint: what was meant, or what there is."""
    if elsewhere:
        return f": it belongs to [{elsewhere}]"
    close = difflib.get_close_matches(wrong, names, n=1)
    return f": perhaps {close[0]} was meant" if close else f", expected one of {', '.join(names)}"


def _elsewhere(name: str, keys: list[Key]) -> str:
    return next((key.section for key in keys if key.name == name), "")
