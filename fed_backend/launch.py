"""Command lines, environment and configuration file for Flower's processes, as pure functions. Starts nothing itself.

Every process is started with telemetry and update checks off, with installation of app dependencies at run time off, on explicit ports
and, unless TLS files are given, on loopback only. Flower keeps its own files (installed bundles, connections) under FLWR_HOME; each
server and each site gets a FLWR_HOME of its own, so that two of them on one machine never share anything.

Processes: `flower-superlink` and `flower-supernode` each start one `flower-superexec`, which starts a ServerApp process a run and a
ClientApp process a message. These end by themselves within a second after their parent.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fed_backend.errors import LaunchError
from sam_adapters import atomic
from sam_adapters.loopback import is_loopback
from sam_adapters.site_directory import checked_site_name

ConfigValue = bool | int | float | str

CONNECTION = "federation"  # name of the one connection in config.toml
FLOWER_APP = Path(__file__).parent / "flowerapp"  # the bundle's folder; a name without underscores, as Flower demands
DEFAULT_SUPERLINK_PORT = 9092  # Flower's own default, 8000, is MONAI Label's default too
DEFAULT_SUPERNODE_PORT = 9094
SERVER_FILE = "server.json"
SERVER_FLWR_HOME = "flower"  # FLWR_HOME of a server, in its state folder
SITE_FLWR_HOME = "flower"  # FLWR_HOME of a site, in its work folder
POLL_SECONDS = 0.2  # how often SuperExec looks for work; Flower's default is 1 s


@dataclass(frozen=True)
class ServerTls:
    """PEM files of the server: the certificate needs the host name or address in its subject alternative names."""

    ca: Path
    certificate: Path
    key: Path


def split_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` as host (without brackets) and port.

    Raises:
        LaunchError: not of that form, or a port outside 1 to 65535.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise LaunchError(f"Address {address!r} cannot be used: expected HOST:PORT, for example 127.0.0.1:{DEFAULT_SUPERLINK_PORT}.")
    return host.strip("[]"), int(port)


def format_address(host: str, port: int) -> str:
    """`HOST:PORT`, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reached_at(host: str) -> str:
    """Where this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound


def require_tls_beyond_loopback(host: str, tls: bool) -> None:
    """Refuse plain HTTP on anything but loopback.

    Raises:
        LaunchError: `host` can be reached from other machines and there is no TLS.
    """
    if not tls and not is_loopback(host):
        raise LaunchError(
            f"Host {host!r} can be reached by other machines, and without TLS anybody on the way could read and change what is sent. "
            "Give the TLS files (--ssl-ca, --ssl-cert and --ssl-key at the server; --root-certificates at the sites), "
            "or stay on 127.0.0.1, which is meant for trying things on one machine."
        )


def flower_command(name: str) -> str:
    """Path of Flower's executable `name` beside the running Python interpreter.

    Raises:
        LaunchError: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise LaunchError(f"{path} does not exist: install Flower into this environment (`make setup`).")
    return str(path)


def flower_environment(flwr_home: Path, *, parent: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment of every Flower process: `parent` (default: this process's) with FLWR_HOME, PATH and switches set.

    PATH starts with the running interpreter's folder, because Flower starts its helpers by bare name.
    """
    environment = dict(os.environ if parent is None else parent)
    binaries = str(Path(sys.executable).parent)
    environment.update(
        {
            "FLWR_HOME": str(flwr_home.resolve()),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(POLL_SECONDS),
            "PATH": os.pathsep.join([binaries, environment.get("PATH", os.defpath)]),
        }
    )
    return environment


def superlink_argv(
    *,
    port: int,
    database: Path,
    host: str = "127.0.0.1",
    tls: ServerTls | None = None,
    node_authentication: bool = False,
) -> list[str]:
    """Command line of the SuperLink, the server's one listening process.

    Args:
        port: for sites and operator alike.
        database: SQLite file; with it, SuperNodes survive a restart of the SuperLink.
        host: address to listen on; beyond loopback only with `tls`.
        tls: PEM files; None means plain HTTP.
        node_authentication: let only registered SuperNodes in (needs `tls`); their registered names are then the sites' names.

    Raises:
        LaunchError: a host beyond loopback, or node authentication, without TLS; Flower not installed.
    """
    require_tls_beyond_loopback(host, tls is not None)
    if node_authentication and tls is None:
        raise LaunchError("Node authentication needs TLS: give --ssl-ca, --ssl-cert and --ssl-key.")
    flower_command("flower-superlink")  # that it is installed is found here
    argv = [
        sys.executable,
        "-m",
        "fed_backend.superlink_process",
        "--host",
        host,
        "--port",
        str(port),
        "--database",
        str(database.resolve()),
    ]
    argv.append("--disable-runtime-dependency-installation")
    if tls is None:
        argv.append("--insecure")
    else:
        argv += ["--ssl-ca-certfile", str(tls.ca), "--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    return argv + (["--enable-supernode-auth"] if node_authentication else [])


def supernode_argv(
    *,
    superlink: str,
    port: int,
    site_name: str,
    site_directory: Path,
    studies: Path | None = None,
    root_certificates: Path | None = None,
    node_key: Path | None = None,
    trusted_entities: Path | None = None,
) -> list[str]:
    """Command line of a SuperNode, a hospital's one outbound connection.

    Args:
        superlink: HOST:PORT of the SuperLink.
        port: loopback port on which the SuperNode talks to its own ClientApp processes; one of its own for each SuperNode of a machine.
        site_name: what the site calls itself; the server believes it only where node authentication is off.
        site_directory: the site's folder; its path stays on this machine.
        studies: the MONAI Label datastore, where it is not `<site>/studies`.
        root_certificates: PEM file of the authority that signed the server's certificate; None means plain HTTP.
        node_key: private key of a registered SuperNode (`ssh-keygen -t ecdsa -b 384`).
        trusted_entities: YAML file of public keys; only bundles signed by one of them are run.

    Raises:
        LaunchError: a server beyond loopback, or a node key, without TLS; a bad address; Flower not installed.
        SettingError: a site name that cannot be used.
    """
    host, _ = split_address(superlink)
    require_tls_beyond_loopback(host, root_certificates is not None)
    if node_key is not None and root_certificates is None:
        raise LaunchError("A node key needs TLS: give --root-certificates.")
    node_config: dict[str, ConfigValue] = {"site": checked_site_name(site_name), "site-directory": str(site_directory.resolve())}
    if studies is not None:
        node_config["studies"] = str(studies.resolve())
    argv = [flower_command("flower-supernode"), "--superlink", superlink, "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--insecure"] if root_certificates is None else ["--root-certificates", str(root_certificates)]
    if node_key is not None:
        argv += ["--auth-supernode-private-key", str(node_key)]
    if trusted_entities is not None:
        argv += ["--trusted-entities", str(trusted_entities)]
    return [*argv, "--node-config", config_text(node_config)]


def run_argv(run_config: Mapping[str, ConfigValue], *, app: Path = FLOWER_APP, stream: bool = True) -> list[str]:
    """Command line that submits one run (one or more rounds) through the connection of `write_connection`; see `run_config` for keys.

    With `stream` the command prints the server's log and returns when the run has ended; else it returns at once.
    """
    argv = [flower_command("flwr"), "run", str(app), CONNECTION, "--run-config", config_text(run_config)]
    return argv + (["--stream"] if stream else [])


def register_argv(*, site_name: str, public_key: Path) -> list[str]:
    """Command line that registers a site's node at a SuperLink with node authentication, through the connection of `write_connection`.

    Raises:
        SettingError: a site name that cannot be used.
    """
    return [flower_command("flwr"), "supernode", "register", str(public_key), CONNECTION, "--name", checked_site_name(site_name)]


def write_connection(flwr_home: Path, *, address: str, root_certificates: Path | None = None) -> Path:
    """Write `<flwr_home>/config.toml`, the file from which `flwr run` learns where the SuperLink is. Returns its path.

    Raises:
        LaunchError: a server beyond loopback without certificates, or a bad address.
    """
    host, _ = split_address(address)
    require_tls_beyond_loopback(host, root_certificates is not None)
    lines = ["[superlink]", f'default = "{CONNECTION}"', "", f"[superlink.{CONNECTION}]", f"address = {toml_text(address)}"]
    lines.append("insecure = true" if root_certificates is None else f"root-certificates = {toml_text(str(root_certificates.resolve()))}")
    flwr_home.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = flwr_home / "config.toml"
    atomic.write_bytes(path, ("\n".join(lines) + "\n").encode())
    return path


def config_text(values: Mapping[str, ConfigValue]) -> str:
    """`key=value …` as Flower's --run-config and --node-config read it."""
    return " ".join(f"{key}={_toml_value(value)}" for key, value in values.items())


def toml_text(value: str) -> str:
    """`value` as a TOML string in quotes that do not occur in it, as Flower's command-line reader knows no escaped quotes.

    Raises:
        LaunchError: it holds both kinds of quotes, or a control character.
    """
    if any(ord(character) < 32 for character in value) or ("'" in value and '"' in value):
        raise LaunchError(
            f"{value!r} cannot be handed to Flower: use a name without control characters and with at most one kind of quotes."
        )
    return f"'{value}'" if "'" not in value else '"' + value.replace("\\", "\\\\") + '"'


def _toml_value(value: ConfigValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return toml_text(value) if isinstance(value, str) else repr(value)


def free_port() -> int:
    """A loopback TCP port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int, *, seconds: float = 1.0) -> bool:
    """Whether something accepts connections at `host:port` within `seconds`."""
    try:
        with socket.create_connection((host, port), timeout=seconds):
            return True
    except OSError:
        return False


@dataclass(frozen=True)
class ServerAddress:
    """How the operator's machine reaches the running SuperLink; `<state>/server.json`."""

    address: str
    root_certificates: str | None = None

    def save(self, state_folder: Path) -> None:
        """Write the file, atomically."""
        atomic.write_json(state_folder / SERVER_FILE, {"address": self.address, "root_certificates": self.root_certificates})

    @classmethod
    def load(cls, state_folder: Path) -> "ServerAddress":
        """Read the file.

        Raises:
            LaunchError: it is missing or cannot be read.
        """
        path = state_folder / SERVER_FILE
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(value["address"]), value["root_certificates"])
        except FileNotFoundError as error:
            raise LaunchError(f"{path} does not exist: start the server first, `fedsca server start --state {state_folder}`.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LaunchError(f"{path} cannot be read ({error}): start the server again with `fedsca server start`.") from error
