"""A real federation of four honest sites and one or two that attack: SuperLink with node keys over TLS, a SuperNode for each site.

Made once, with one round of the honest sites behind it. Before every attack what server and sites remember is put back to that; their
processes stay, since Flower starts one for every run and every message.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from fed_backend import launch
from fed_backend.enrolment.superlink_nodes import SuperLinkNodes
from fed_backend.member import Member, site_schema
from fed_backend.quarantine import QUARANTINE_FILE
from fed_backend.round_report import ROUNDS_FOLDER, read_round, round_files
from fed_backend.schema_cache import SCHEMA_FILE
from fed_backend.server_state_file import STATE_FILE
from sam_adapters import adapter_files, atomic
from sam_adapters.provenance import Provenance
from sam_adapters.registry import Registry
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.settings import SiteSettings
from tests.attacks import stand_in
from tests.attacks.attack_list import HONEST
from tests.fed_backend.site_fixture import make_site
from tests.integration.fedsca_processes import FEDSCA, ROUND_SECONDS, process, wait_until_up
from tests.integration.test_enrolled_federation import become_member

HOOK = Path(__file__).parent / "hook"
ONLINE_SECONDS = 240.0
_STAYS = {"federation", "studies", "flower", "site.json", "split.json"}
_SERVER = (STATE_FILE, STATE_FILE + ".previous", QUARANTINE_FILE, ROUNDS_FOLDER, "audit.jsonl")


class AttackedFederation:
    """See the module. Leave it with `close`."""

    def __init__(self, folder: Path, moles: tuple[str, ...]) -> None:
        self.folder, self.moles = folder, moles
        self.state = folder / "server"
        self.port = launch.free_port()
        self.sites = {name: make_site(folder / name, name, train=2, validation=0) for name in (*HONEST, *moles)}
        self.schema = self._layout_and_adapters()
        self._stack = ExitStack()
        self._running: dict[str, ExitStack] = {}
        self._environment = dict(os.environ)

    def _layout_and_adapters(self) -> AdapterSchema:
        from sam_adapters.loading import write_untuned  # torch

        first = self.sites[HONEST[0]]
        schema = site_schema(Member.open(first.root))
        untuned = self.folder / "untuned"
        write_untuned(SiteSettings.load(first.settings_file), untuned)
        for name, site in self.sites.items():
            atomic.write_bytes(site.work / SCHEMA_FILE, (first.work / SCHEMA_FILE).read_bytes())
            values = stand_in.adapters(name, schema.size).astype(np.float16).astype(np.float32)
            made = self.folder / f"made-{name}"
            adapter_files.write_mixture(untuned, AdapterState.from_vector(schema, values), made)
            with Registry(site) as registry:
                version = registry.add(made, Provenance(kind="local", base=schema.base, schema_id=schema.id, site=name, cases=2))
                registry.activate(version.id, reason="Made for a test.", by="test")
        return schema

    # --- processes --------------------------------------------------------------------------------------------------------------------

    def start(self) -> "AttackedFederation":
        """Start server and honest sites, run a first round, and keep what everybody remembers then."""
        done = self.fedsca("server", "init", "--state", self.state, "--host", "127.0.0.1", "--port", self.port, "--name", "north")
        assert done.returncode == 0, done.stdout + done.stderr
        for site in self.sites.values():
            become_member(self.state, site)
        atomic.write_bytes(self.state / SCHEMA_FILE, (self.sites[HONEST[0]].work / SCHEMA_FILE).read_bytes())
        os.environ |= {"FEDSCA_STAND_IN": "1", "PYTHONPATH": os.pathsep.join([str(HOOK), self._environment.get("PYTHONPATH", "")])}
        log = self.folder / "server.log"
        argv = [
            "server",
            "start",
            "--no-config",
            "--state",
            str(self.state),
            "--port",
            str(self.port),
            "--expected-sites",
            str(len(HONEST)),
        ]
        for phase in ("join", "update", "probe", "mixture"):
            argv += [f"--{phase}-seconds", "240"]
        server = self._stack.enter_context(process(argv, log))
        wait_until_up(self.port, server, log)
        for name in HONEST:
            self.start_site(name)
        self.wait_online(HONEST)
        self.run_round()
        self._keep()
        return self

    def start_site(self, name: str) -> None:
        """Start a site's SuperNode; an attacker's is told where its plan lies."""
        if name in self.moles:
            os.environ["FEDSCA_ATTACK"] = str(self.plan_of(name))
        stack = self._running[name] = self._stack.enter_context(ExitStack())
        stack.enter_context(process(["site", "start", "--site", str(self.sites[name].root)], self.folder / f"{name}.log"))
        os.environ.pop("FEDSCA_ATTACK", None)

    def stop_site(self, name: str) -> None:
        """Stop a site's SuperNode, and wait until the server knows."""
        self._running.pop(name).close()

    def wait_online(self, names: tuple[str, ...]) -> None:
        """Wait until exactly these sites are online."""
        nodes, deadline = SuperLinkNodes(self.state), time.monotonic() + ONLINE_SECONDS
        while sorted(node.name for node in nodes.list() if node.status == "online") != sorted(names):
            assert time.monotonic() < deadline, f"{names} are not online: {nodes.list()}\n{self.logs()}"
            time.sleep(0.2)

    def present(self, moles: tuple[str, ...]) -> None:
        """Have exactly these attackers online beside the honest sites."""
        for name in [*self._running]:
            if name in self.moles and name not in moles:
                self.stop_site(name)
        for name in moles:
            if name not in self._running:
                self.start_site(name)
        self.wait_online((*HONEST, *moles))

    def close(self) -> None:
        """End everything."""
        self._stack.close()
        os.environ.clear()
        os.environ.update(self._environment)

    def fedsca(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        argv = [*FEDSCA, *map(str, arguments)]
        return subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=ROUND_SECONDS, stdin=subprocess.DEVNULL, check=False)

    # --- rounds -----------------------------------------------------------------------------------------------------------------------

    def plan_of(self, mole: str) -> Path:
        """The file that says what an attacker does."""
        return self.folder / "plans" / f"{mole}.json"

    def run_round(self) -> tuple[Mapping[str, Any], str]:
        """Run a round; its report and what the command printed, the server's log among it."""
        done = self.fedsca("server", "run-round", "--state", self.state)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{self.logs()}"
        report = read_round(round_files(self.state)[-1])
        assert report["status"] == "finished", report["reason"]
        return report, done.stdout + done.stderr

    def logs(self, lines: int = 40) -> str:
        """The end of every log."""
        texts = {path.name: path.read_text(encoding="utf-8", errors="replace").splitlines() for path in self.folder.glob("*.log")}
        return "\n".join(f"--- {name}\n" + "\n".join(text[-lines:]) for name, text in texts.items())

    def mixture(self, name: str, report: Mapping[str, Any]) -> np.ndarray:
        """The shared part that a site has from a round's mixture: from its own registry, or its active version if nothing changed."""
        site = self.sites[name]
        with Registry(site) as registry:
            record = registry.find_round(report["federation"], report["round"])
            assert record is not None, f"{name} has no line of round {report['round']}"
            version = record.received_version or record.sent_version
            assert version is not None
            return adapter_files.read_shared_state(registry.folder(version), self.schema).to_vector().astype(np.float64)

    def sent(self, name: str, report: Mapping[str, Any]) -> np.ndarray:
        """The shared part that an honest site sent in a round."""
        with Registry(self.sites[name]) as registry:
            record = registry.find_round(report["federation"], report["round"])
            assert record is not None
            assert record.sent_version is not None
            return adapter_files.read_shared_state(registry.folder(record.sent_version), self.schema).to_vector().astype(np.float64)

    # --- what is put back -------------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        for name, site in self.sites.items():
            _copy(site.root, self.folder / "template" / name)
        for entry in _SERVER:
            _copy_entry(self.state / entry, self.folder / "template" / "server" / entry)

    def restore(self) -> None:
        """Put back what server and sites remembered after the first round."""
        for name, site in self.sites.items():
            _clear(site.root)
            _copy(self.folder / "template" / name, site.root)
        for entry in _SERVER:
            _remove(self.state / entry)
            _copy_entry(self.folder / "template" / "server" / entry, self.state / entry)
        shutil.rmtree(self.folder / "plans", ignore_errors=True)
        (self.folder / "plans").mkdir()


def _clear(root: Path) -> None:
    for entry in root.iterdir():
        if entry.name == "work":
            _clear(entry)
        elif entry.name not in _STAYS:
            _remove(entry)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name == "work":
            _copy(entry, target / entry.name)
        elif entry.name not in _STAYS:
            _copy_entry(entry, target / entry.name)


def _copy_entry(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.is_file():
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
