"""Under which names sites reach the server, and with whose certificate: `<state>/identity.json`.

The file is written last by `fedsca server init`; a state folder that has it is an enrolled federation (TLS and node authentication on).
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fed_backend.enrolment.authority import AUTHORITY_FOLDER, CA_FILE, SERVER_FILE, Authority
from fed_backend.errors import EnrolmentError
from fed_backend.launch import ServerTls, format_address
from sam_adapters import atomic

IDENTITY_FILE = "identity.json"
FORMAT = 1
LOOPBACK = ("127.0.0.1", "localhost")  # always in the certificate: the operator's own commands connect there


@dataclass(frozen=True)
class ServerIdentity:
    """Who the server is to its sites.

    Attributes:
        hosts: names and addresses, at least one; the first is the one that sites are told.
        port: TCP port that sites are told, 1 to 65535.
        own_ca, own_certificate, own_key: the hospital's own PEM files, all three or none; with none the authority's are used.
    """

    hosts: tuple[str, ...]
    port: int
    own_ca: str | None = None
    own_certificate: str | None = None
    own_key: str | None = None

    @property
    def address(self) -> str:
        """HOST:PORT that sites connect to."""
        return format_address(self.hosts[0], self.port)

    def tls(self, state: Path) -> ServerTls:
        """The PEM files that the SuperLink starts with."""
        if self.own_ca and self.own_certificate and self.own_key:
            return ServerTls(Path(self.own_ca), Path(self.own_certificate), Path(self.own_key))
        folder = (state / AUTHORITY_FOLDER).resolve()
        return ServerTls(folder / CA_FILE, folder / SERVER_FILE, folder / SERVER_FILE)

    def save(self, state: Path) -> None:
        """Write the file, atomically."""
        atomic.write_json(state / IDENTITY_FILE, {"format": FORMAT, **asdict(self)})

    @classmethod
    def load(cls, state: Path) -> "ServerIdentity | None":
        """Read it; None in a state folder without enrolment.

        Raises:
            EnrolmentError: it cannot be read.
        """
        path = state / IDENTITY_FILE
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}, this software knows {FORMAT}")
            own = (value["own_ca"], value["own_certificate"], value["own_key"])
            return cls(tuple(value["hosts"]), int(value["port"]), *own)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnrolmentError(f"{path} cannot be read ({error}): bring it back from a backup.") from error

    @classmethod
    def require(cls, state: Path) -> "ServerIdentity":
        """Read it.

        Raises:
            EnrolmentError: it is missing or cannot be read.
        """
        identity = cls.load(state)
        if identity is None:
            raise EnrolmentError(f"{state} has no authority yet: make one first, `fedsca server init --state {state} --host NAME`.")
        return identity


def init_server(
    state: Path, federation: str, hosts: Sequence[str], port: int, now: datetime.datetime, own: ServerTls | None = None
) -> tuple[ServerIdentity, Authority]:
    """Make authority, server certificate and identity.

    Killed on the way it leaves no identity, and the next call begins anew: nothing has been handed out yet.

    Raises:
        EnrolmentError: there is one already, or a host cannot stand in a certificate.
    """
    if ServerIdentity.load(state) is not None:
        raise EnrolmentError(f"{state} has an authority already: `fedsca server renew` renews its certificates, and sites stay members.")
    if not hosts:
        raise EnrolmentError("No host was given: name at least one under which the sites reach this server, --host NAME.")
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority.create(state, federation, now)
    identity = ServerIdentity(tuple(hosts), port)
    if own is None:
        authority.issue_server_certificate(certified_hosts(hosts), now)
    else:
        identity = ServerIdentity(tuple(hosts), port, str(own.ca), str(own.certificate), str(own.key))
    identity.save(state)
    return identity, authority


def certified_hosts(hosts: Sequence[str]) -> tuple[str, ...]:
    """`hosts` and loopback's names, each once, in this order."""
    return tuple(dict.fromkeys((*hosts, *LOOPBACK)))
