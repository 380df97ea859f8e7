"""What a configuration means for the machine: command lines, addresses, files to watch. Starts nothing."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fed_backend import launch
from fed_backend.enrolment.server_identity import ServerIdentity
from fed_backend.schedule.configuration import Configuration

DATABASE = "superlink.sqlite"


@dataclass(frozen=True)
class ServerPlan:
    """How the SuperLink is started and reached.

    Attributes:
        argv, environment: its command line.
        host, port: where this machine reaches it.
        root_certificates: the authority's PEM file with which the operator's commands check it; None without TLS.
        watched: files that it reads once, when it starts: authority, certificate and key; none without TLS.
        enrolled: whether a roster says who is let in.
    """

    argv: Sequence[str]
    environment: Mapping[str, str]
    host: str
    port: int
    root_certificates: Path | None
    watched: Sequence[Path]
    enrolled: bool

    @property
    def address(self) -> launch.ServerAddress:
        """For `<state>/server.json`."""
        root = str(self.root_certificates) if self.root_certificates else None
        return launch.ServerAddress(launch.format_address(self.host, self.port), root)


def server_plan(configuration: Configuration) -> ServerPlan:
    """The SuperLink's plan.

    Raises:
        LaunchError, EnrolmentError: it cannot be started so.
    """
    state = configuration.state
    identity = ServerIdentity.load(state)
    tls = configuration.tls or (identity.tls(state) if identity else None)
    argv = launch.superlink_argv(
        host=configuration.host,
        port=configuration.port,
        database=state / DATABASE,
        tls=tls,
        node_authentication=configuration.node_authentication or identity is not None,
    )
    return ServerPlan(
        argv=argv,
        environment=launch.flower_environment(state / launch.SERVER_FLWR_HOME),
        host=launch.reached_at(configuration.host),
        port=configuration.port,
        root_certificates=tls.ca if tls else None,
        watched=(tls.ca, tls.certificate, tls.key) if tls else (),
        enrolled=identity is not None,
    )


def page_argv(configuration: Configuration) -> list[str] | None:
    """Command line of the operator's page; None when it is not wanted."""
    page = configuration.page
    if page is None:
        return None
    argv = [sys.executable, "-m", "fed_backend.cli", "server", "page", "--state", str(configuration.state)]
    argv += ["--host", page.host, "--port", str(page.port), "--minutes", str(page.minutes)]
    if page.certificate and page.key:
        argv += ["--ssl-cert", str(page.certificate), "--ssl-key", str(page.key)]
    return argv + (["--metrics-token", str(configuration.page_token)] if configuration.page_token else [])


def round_argv(state: Path, target: int) -> list[str]:
    """Command line of one round."""
    return [sys.executable, "-m", "fed_backend.schedule.round_process", "--state", str(state), "--target", str(target)]


def plain_environment() -> dict[str, str]:
    """The environment of processes that are not Flower's."""
    return dict(os.environ)
