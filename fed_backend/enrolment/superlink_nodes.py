"""Brings the nodes that a running SuperLink lets in in line with the roster: registers who is missing, removes who does not belong.

What to do is a pure function of both lists (`plan`), so that an interrupted `synchronise` is finished by the next one. It is called after
every change of the roster, when the SuperLink has started, and before rounds. A node that nobody approved is removed as well: with Flower
1.41 whoever can run commands on the server's machine can register one.

Processes: starts `flwr supernode register|unregister` and `list_nodes`, one after the other, each with a deadline; <state>/nodes.lock keeps
two callers apart.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from fed_backend import launch
from fed_backend.enrolment import roster
from fed_backend.enrolment.roster import Entry, Roster
from fed_backend.errors import RoundError
from sam_adapters.file_lock import locked

LOCK_FILE = "nodes.lock"
UNREGISTERED = "unregistered"
_COMMAND_SECONDS = 60.0
_LOCK_SECONDS = 300.0
_POLL_SECONDS = 0.2

Run = Callable[[Sequence[str], Mapping[str, str]], str]


@dataclass(frozen=True)
class Node:
    """One line of the SuperLink's list.

    Attributes:
        id: decimal digits.
        name: under which it was registered; "" if it was registered without.
        public_key: PEM.
        status: Flower's word: `registered`, `online`, `offline` or `unregistered`.
    """

    id: str
    name: str
    public_key: str
    status: str


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        register: entries that the SuperLink does not know.
        remove: nodes that it must not let in.
        refused: entries whose key the SuperLink has removed once and will not take again.
    """

    register: Sequence[Entry] = ()
    remove: Sequence[Node] = ()
    refused: Sequence[Entry] = ()

    @property
    def sentences(self) -> list[str]:
        """For people."""
        return [
            *(f"Site {entry.name} is let in." for entry in self.register),
            *(f"Node {node.id} ({node.name or 'without name'}) is let in no longer." for node in self.remove),
            *(
                f"Site {entry.name} cannot be let in: the SuperLink has removed its key before, and Flower takes no key twice. "
                "Ask it for new keys, `fedsca site enrol --new-keys`, and approve them with --replace."
                for entry in self.refused
            ),
        ]


def plan(known: Roster, nodes: Sequence[Node]) -> Plan:
    """What brings `nodes` in line with the roster. Pure."""
    live = {_canonical(node.public_key): node for node in nodes if node.status != UNREGISTERED}
    gone = {_canonical(node.public_key) for node in nodes if node.status == UNREGISTERED}
    wanted = {_canonical(entry.node_key): entry for entry in known.members()}
    missing = {key: entry for key, entry in wanted.items() if key not in live}
    wrong = [node for key, node in live.items() if key not in wanted or wanted[key].name != node.name]
    return Plan(
        register=[entry for key, entry in missing.items() if key not in gone],
        remove=wrong,
        refused=[entry for key, entry in missing.items() if key in gone],
    )


@dataclass
class SuperLinkNodes:
    """The nodes of the SuperLink that `server.json` in the state folder names."""

    state: Path
    run: Run = field(default_factory=lambda: run_command)

    def answers(self) -> bool:
        """Whether the SuperLink is up."""
        if not (self.state / launch.SERVER_FILE).exists():
            return False
        return launch.answers(*launch.split_address(launch.ServerAddress.load(self.state).address))

    def when_up(self, seconds: float) -> Plan:
        """`synchronise` as soon as the SuperLink answers.

        Raises:
            RoundError: it does not within `seconds`, or refuses.
        """
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() >= deadline:
                raise RoundError(f"The SuperLink of {self.state} does not answer after {seconds:g} s: start it with `fedsca server start`.")
            time.sleep(_POLL_SECONDS)
        return self.synchronise()

    def list(self) -> list[Node]:
        """All nodes, removed ones too.

        Raises:
            RoundError: the SuperLink does not answer.
        """
        output = self.run([sys.executable, "-m", "fed_backend.enrolment.list_nodes"], self._environment())
        try:
            return [Node(**row) for row in json.loads(output.strip().splitlines()[-1])]
        except (ValueError, TypeError, IndexError) as error:
            raise RoundError(f"The SuperLink's list of nodes cannot be read ({error}): is Flower's version the pinned one?") from error

    def synchronise(self) -> Plan:
        """Do what `plan` says; returns what was done.

        Raises:
            RoundError: the SuperLink does not answer, or refuses.
            EnrolmentError: the roster cannot be read.
        """
        with locked(self.state / LOCK_FILE, timeout=_LOCK_SECONDS):
            todo = plan(roster.load(self.state), self.list())
            environment = self._environment()
            for node in todo.remove:
                self.run([launch.flower_command("flwr"), "supernode", "unregister", node.id, launch.CONNECTION], environment)
            for entry in todo.register:
                self._register(entry, environment)
        return todo

    def _register(self, entry: Entry, environment: Mapping[str, str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            public_key = Path(folder) / "node.pub"
            public_key.write_text(entry.node_key + "\n", encoding="utf-8")
            self.run(launch.register_argv(site_name=entry.name, public_key=public_key), environment)

    def _environment(self) -> dict[str, str]:
        server = launch.ServerAddress.load(self.state)
        flwr_home = self.state / launch.SERVER_FLWR_HOME
        root = Path(server.root_certificates) if server.root_certificates else None
        launch.write_connection(flwr_home, address=server.address, root_certificates=root)
        return launch.flower_environment(flwr_home)


def run_command(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run one command and return what it printed.

    Raises:
        RoundError: it failed or took longer than a minute.
    """
    what = " ".join(Path(word).name for word in argv[:3])
    try:
        done = subprocess.run(
            list(argv),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RoundError(f"`{what}` has not ended after {_COMMAND_SECONDS:.0f} s: look at the SuperLink's output.") from error
    if done.returncode != 0:
        last = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()][-3:]
        raise RoundError(f"`{what}` ended with code {done.returncode}: {' '.join(last)[:600]}")
    return done.stdout


def _canonical(public_key: str) -> bytes:
    """A public key, in PEM or OpenSSH's form, as DER; the text itself if it cannot be read, which then equals no other."""
    try:
        data = public_key.encode()
        ssh = data.startswith((b"ecdsa-", b"ssh-"))
        key = serialization.load_ssh_public_key(data) if ssh else serialization.load_pem_public_key(data)
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return public_key.encode()
