"""A whole federation of real processes in one folder, to do harm to: supervised server, SuperLink, SuperNodes, apps, tuning.

Sites are copied from templates, which are made once. `A`, `B` and `C` are small newcomers: a case each and no adapters yet, so that they
have nothing to compare and their mixture is what they have: no round of theirs starts torch. `P` and `Q` have two training cases and one
for validation, at 64 pixels, and adapters of their own: they probe and judge.
"""

import io
import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from fed_backend import launch, server_state_file
from fed_backend.cli import schedule as schedule_commands
from fed_backend.member import Member, site_schema
from fed_backend.schedule import book as books
from fed_backend.schedule.book import LastRound
from fed_backend.schedule.example import example
from fed_backend.schedule.supervisor import is_supervised
from fed_backend.schema_cache import SCHEMA_FILE
from fed_backend.server_state import ServerState
from fed_backend.server_state_file import STATE_FILE
from sam_adapters import atomic
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.faults.kept import Kept
from tests.faults.moments import MARK, Moments, wait_for
from tests.faults.relay import Relay
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toy_sites import reports_of
from tests.slicer_extension.workstation.cable import Cable

FEDSCA = [sys.executable, "-m", "fed_backend.cli"]
WAIT_SECONDS = 420.0
SMALL, LARGE = ("A", "B", "C"), ("P", "Q")


def make_templates(folder: Path, names: Sequence[str] = (*SMALL, *LARGE)) -> Path:
    """Site directories to copy, each with an active version, and another base network; takes torch."""
    from tests.sam_adapters.test_sam_hf import tiny_sam  # takes transformers

    for index, name in enumerate(names):
        cases = {"train": 1, "validation": 0} if name in SMALL else {"train": 2, "validation": 1}
        site = make_site(folder / name, name, seed=index, **cases)
        settings = SiteSettings.load(site.settings_file)
        settings.override({"image_size": "64", "device": "cpu", "tune_steps": "4"}).save(site.settings_file)
        if name in LARGE:
            add_version(site, folder / f"scratch-{name}", seed=index)
        site_schema(Member.open(site.root))
    if "C" in names:
        tiny_sam().save_pretrained(folder / "other-base")
    return folder


class NotHere(Exception):  # noqa: N818 - not an error of anybody
    """This machine cannot make the fault happen, and why."""


@dataclass
class Federation:
    """See the module. Leave it with `close`, whatever happened.

    Attributes:
        folder: everything lies in it.
        names: its sites.
        rounds: deadlines and quorum, as in federation.toml.
        sections: other keys of federation.toml.
        environments: site -> what its processes get besides.
        addresses: site -> where it looks for the server; by default the server's own port.
        small_disks: `server` or a site -> megabytes of the disk of its own that its folder is.
        clocks_of: `server` or sites whose clocks can be set.
        cables_of, relays_of: sites whose way to the server is a `Cable`, or a `Relay`.
    """

    folder: Path
    templates: Path
    names: tuple[str, ...] = ("A", "B")
    rounds: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    small_disks: Mapping[str, int] = field(default_factory=dict)
    clocks_of: tuple[str, ...] = ()
    cables_of: tuple[str, ...] = ()
    relays_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        from tests.faults import small_disk, wrong_clock

        self.folder.mkdir(parents=True, exist_ok=True)
        for name, megabytes in self.small_disks.items():
            small_disk.mount(self.folder / name, megabytes)
        self.clocks = {name: wrong_clock.WrongClock(self.folder, name) for name in self.clocks_of}
        self.state = self.folder / "server"
        self.state.mkdir(mode=0o700, exist_ok=True)
        self.moments = Moments(self.folder / "faults")
        self.port = launch.free_port()
        self.cables = {name: Cable(self.port) for name in self.cables_of}
        self.relays = {name: Relay(self.port) for name in self.relays_of}
        self.addresses |= {name: f"127.0.0.1:{cable.port}" for name, cable in self.cables.items()}
        self.addresses |= {name: f"127.0.0.1:{relay.port}" for name, relay in self.relays.items()}
        self.sites = {name: self._copied(name) for name in self.names}
        first = self.templates / self.names[0]
        atomic.write_bytes(self.state / SCHEMA_FILE, (SiteDirectory.open(first).work / SCHEMA_FILE).read_bytes())
        self.write_configuration()
        self.kept: dict[str, Kept] = {}
        self.begun = {name: self.versions(name) for name in self.names}
        self.took: list[float] = []
        self.done = 0

    def write_configuration(self, **rounds: Any) -> None:
        """federation.toml: nothing is due by itself, nobody's page."""
        waits: dict[str, Any] = {"join_seconds": 120.0, "update_seconds": 120.0, "probe_seconds": 240.0, "mixture_seconds": 240.0}
        waits |= {"min_sites": 2, "expected_sites": len(self.names), "probe_every": 1 if "P" in self.names else 10_000}
        values: dict[tuple[str, str], Any] = {("rounds", key): value for key, value in {**waits, **self.rounds, **rounds}.items()}
        values |= {("server", "port"): self.port, ("server", "stop_seconds"): 1.0, ("page", "enabled"): False, **self.sections}
        atomic.write_bytes(self.state / "federation.toml", example(values).encode())

    def _copied(self, name: str) -> SiteDirectory:
        shutil.copytree(self.templates / name, self.folder / name, dirs_exist_ok=True)
        return SiteDirectory.open(self.folder / name)

    # --- processes --------------------------------------------------------------------------------------------------------------------

    def start(self) -> "Federation":
        """Start server and sites, and run a round that nothing disturbs."""
        self.start_server()
        for name in self.names:
            self.start_site(name)
        self.ask()
        begun = time.monotonic()
        self.finished()
        self.took.append(time.monotonic() - begun)
        self.assert_whole(1)
        return self

    def start_server(self, environment: Mapping[str, str] | None = None) -> Kept:
        """The supervised server, under something that starts it again."""
        argv = [*FEDSCA, "server", "start", "--config", str(self.state / "federation.toml")]
        self.kept["server"] = Kept(
            argv, {**self.moments.environment(), **self._clock("server"), **(environment or {})}, self.folder / "server.log"
        )
        return self.kept["server"]

    def start_site(self, name: str, argv: list[str] | None = None) -> Kept:
        """A site's SuperNode, likewise."""
        address = self.addresses.get(name, f"127.0.0.1:{self.port}")
        command = argv or [*FEDSCA, "site", "join", "--site", str(self.sites[name].root), "--superlink", address]
        environment = {**self.moments.environment(), **self._clock(name), **self.environments.get(name, {})}
        self.kept[name] = Kept(command, environment, self.folder / f"{name}.log")
        return self.kept[name]

    def _clock(self, name: str) -> Mapping[str, str]:
        return self.clocks[name].environment if name in self.clocks else {}

    def processes(self, text: str, home: str = "") -> list[psutil.Process]:
        """Processes of this federation whose command line holds `text`; of a site or of the server if `home` names its folder."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                environment = process.environ()
                ours = environment.get(MARK) == str(self.moments.folder) and home in environment.get("FLWR_HOME", "")
                if ours and text in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def kill(self, text: str, home: str = "") -> int:
        """kill -9 of all of them; returns how many there were, at least one."""
        found = self.processes(text, home)
        assert found, f"no process with {text!r} to kill"
        for process in found:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        return len(found)

    def close(self) -> None:
        """End everything that was started."""
        from tests.faults import small_disk

        for kept in self.kept.values():
            kept.close()
        deadline = time.monotonic() + 30
        while (left := self.processes("")) and time.monotonic() < deadline:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
        for cable in self.cables.values():
            cable.close()
        for relay in self.relays.values():
            relay.close()
        for name in self.small_disks:
            small_disk.unmount(self.folder / name)

    # --- rounds -----------------------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Ask for a round."""
        wait_for("the supervisor", lambda: is_supervised(self.state), WAIT_SECONDS)
        with redirect_stdout(io.StringIO()):
            schedule_commands.now(self.state, wait=0.0)

    def last(self) -> LastRound | None:
        """How the last round ended."""
        return books.load(self.state).last

    def wait_ended(self, number: int, outcome: str | None = "finished") -> LastRound:
        """Wait until the schedule has round `number` behind it."""

        def over() -> bool:
            last = self.last()
            return last is not None and last.round >= number and books.load(self.state).running is None

        try:
            wait_for(f"the end of round {number}", over, WAIT_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error
        last = self.last()
        assert last is not None
        assert last.round == number, f"{last}\n{self.logs()}"
        assert outcome is None or last.outcome == outcome, f"{last}\n{self.logs()}"
        return last

    def finished(self, outcome: str | None = "finished") -> LastRound:
        """Wait for the end of the round that was asked for; from then on it is done."""
        last = self.wait_ended(self.done + 1, outcome)
        self.done += 1
        return last

    def round(self, outcome: str = "finished") -> dict[str, Any]:
        """One more round from beginning to end; returns its report."""
        self.ask()
        self.finished(outcome)
        return self.report(self.done)

    def whole_round(self) -> dict[str, Any]:
        """One more round in which every site takes part and judges its mixture."""
        report = self.round()
        self.assert_whole(self.done)
        return report

    def assert_whole(self, number: int) -> None:
        """Every site took part in that round and judged its mixture."""
        report = self.report(number)
        assert sorted(report["verdicts"]) == sorted(self.names), f"{report['refusals']}\n{self.logs()}"

    # --- what is on the disks ---------------------------------------------------------------------------------------------------------

    def reports(self) -> list[dict[str, Any]]:
        """Round reports."""
        return reports_of(self.state)

    def report(self, number: int) -> dict[str, Any]:
        """One of them."""
        (found,) = [report for report in self.reports() if report["round"] == number]
        return found

    def server_state(self) -> ServerState:
        """What the server remembers."""
        return server_state_file.load(self.state / STATE_FILE)

    def versions(self, name: str) -> set[str]:
        """Ids of a site's versions."""
        with Registry(self.sites[name]) as registry:
            return {version.id for version in registry.versions()}

    def logs(self, lines: int = 60) -> str:
        """The end of every log."""
        parts = []
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.name}\n" + "\n".join(text))
        return "\n".join(parts)

    def refusals(self, number: int) -> dict[str, str]:
        """Site -> why, of a round."""
        return {one["site"]: one["reason"] for one in self.report(number)["refusals"]}

    def reason(self, site: str, number: int = 0) -> str:
        """Why a site had no part in a round (the last one), by its name or, where it could not tell its name, by its node's number."""
        found = self.refusals(number or self.done)
        unnamed = [why for label, why in found.items() if label.startswith("node ")]
        assert site in found or len(unnamed) == 1, f"{found}\n{self.logs()}"
        return found.get(site) or unnamed[0]

    def wait(self, what: str, reached: Callable[[], object], seconds: float = WAIT_SECONDS) -> None:
        """Wait for something, with the logs at the deadline."""
        try:
            wait_for(what, reached, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from error


def read_json(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
