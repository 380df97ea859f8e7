"""What the workstation is started with: command line options, checked."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from FedSCALib.errors import FedSCAError
from FedSCALib.translate import tr

DEFAULT_PORT = 8200


@dataclass(frozen=True)
class Settings:
    """Checked options.

    Attributes:
        server: address of a hospital's server to connect to at once, or "".
        studies: a folder of images for which a server is started here, or None.
        conf: settings of that server, as `--conf` of `monailabel start_server`.
        host, port: where the page is served; port 0 takes a free one.
        home: preferences and drafts of this user.
        open_browser: show the page once it is there.
        ready_file: the page's address is written here once it answers, or None.
    """

    server: str = ""
    studies: Path | None = None
    conf: tuple[tuple[str, str], ...] = ()
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    home: Path = Path.home() / ".local" / "share" / "fedsca-workstation"
    open_browser: bool = True
    ready_file: Path | None = None


def read(arguments: Sequence[str] | None = None) -> Settings:
    """The options of a command line; ends the program with a sentence where one cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m workstation", description=tr("Segment in the browser, against a hospital's server."))
    add = parser.add_argument
    add("--server", default="", metavar="URL", help=tr("the hospital's server; by default the one used last"))
    add("--studies", type=Path, metavar="DIR", help=tr("start a server of our own for this folder of images"))
    add("--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help=tr("a setting of that server; may be repeated"))
    add("--host", default="127.0.0.1", help=tr("address to listen on; only this computer by default"))
    add("--port", type=int, default=DEFAULT_PORT, help=tr("port of the page; 0 takes a free one"))
    add("--home", type=Path, default=_home(), metavar="DIR", help=tr("where preferences and unsubmitted work are kept"))
    add("--no-browser", action="store_true", help=tr("only print the page's address"))
    add("--ready-file", type=Path, metavar="FILE", help=tr("write the page's address into this file once it answers"))
    given = parser.parse_args(arguments)
    if given.server and given.studies:
        parser.error(tr("Give --server or --studies, not both: --studies starts a server here."))
    if given.studies is not None and not given.studies.is_dir():
        parser.error(tr("--studies: there is no folder {folder}.").format(folder=given.studies))
    if not 0 <= given.port <= 65535:
        parser.error(tr("--port: {port} is no port, expected 0 to 65535.").format(port=given.port))
    if not is_loopback(given.host):
        parser.error(
            tr("--host: {host} is not this computer. The page has no encryption of its own: use an SSH tunnel.").format(host=given.host)
        )
    return Settings(
        given.server,
        given.studies,
        tuple((key, value) for key, value in given.conf),
        given.host,
        given.port,
        given.home.expanduser(),
        not given.no_browser,
        given.ready_file,
    )


def check_port(settings: Settings) -> None:
    """Raises FedSCAError where something else has the page's port."""
    family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            text = tr(
                "Port {port} cannot be used ({reason}): another workstation may be running. "
                "Choose another one: --port {other}, with make PORT={other}."
            )
            other = min(settings.port + 1, 65535)
            raise FedSCAError(text.format(port=settings.port, reason=error.strerror, other=other)) from error


def is_loopback(host: str) -> bool:
    """Whether a host is this computer only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fedsca-workstation"
