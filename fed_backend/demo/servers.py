"""The processes of the demo: per hospital a MONAI Label server and a SuperNode, and one SuperLink. Commands as anybody would type them."""

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fed_backend import launch
from fed_backend.demo.errors import DemoError
from fed_backend.demo.hospital import Hospital
from fed_backend.demo.options import DemoOptions
from fed_backend.demo.plan import DemoPlan
from fed_backend.demo.processes import ManagedProcess, Supervisor, free_ports
from fed_backend.demo.rest_client import RestClient

READY_SECONDS = 180.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Several processes share few cores: each computes on one thread."""


@dataclass(frozen=True)
class Addresses:
    """Where everything listens: loopback ports, hospitals by name."""

    superlink: int
    nodes: Mapping[str, int]
    servers: Mapping[str, int]

    def server(self, name: str) -> str:
        """Address of a hospital's MONAI Label server."""
        return f"http://127.0.0.1:{self.servers[name]}"


def choose_addresses(names: Sequence[str]) -> Addresses:
    """Free ports for all."""
    ports = free_ports(1 + 2 * len(names))
    return Addresses(ports[0], dict(zip(names, ports[1::2], strict=True)), dict(zip(names, ports[2::2], strict=True)))


def app_folder() -> Path:
    """The folder that `--app` names: the installed `monailabel_app` package, found without importing it."""
    spec = importlib.util.find_spec("monailabel_app")
    if spec is None or not spec.submodule_search_locations:
        raise DemoError("The package monailabel_app is not installed: run `make setup`.")
    return Path(next(iter(spec.submodule_search_locations)))


def site_settings(hospital: Hospital, plan: DemoPlan, options: DemoOptions) -> dict[str, str]:
    """The `--conf` keys of one hospital's server."""
    after = plan.of(hospital.name).tune_after
    return {
        "site": str(hospital.root),
        "name": hospital.name,
        "base": options.base,
        "device": "cpu",
        "image_size": str(options.image_size),
        "tune_after": str(after),
        "tune_minimum": str(min(3, after)),
        "tune_steps": str(plan.level.steps),
        "seed": str(options.seed),
        "threads": "1",
        "cpu_engine": "torch",  # every version serves for minutes only: compiling each of them would cost more than it saves
        "prefetch": "false",  # all hospitals share this machine, and its scripted radiologist never looks before a click
        "uncertainty": "true" if options.strategy == "least_certain" else "false",
        **plan.extra_settings,
    }


def server_command(hospital: Hospital, port: int, conf: Mapping[str, str]) -> list[str]:
    """`monailabel start_server`, as the `monailabel` script runs it."""
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app_folder())]
    command += ["--studies", str(hospital.root / "studies"), "--host", "127.0.0.1", "--port", str(port)]
    for key, value in conf.items():
        command += ["--conf", key, value]
    return command


def start_servers(
    supervisor: Supervisor, hospitals: Sequence[Hospital], plan: DemoPlan, options: DemoOptions, addresses: Addresses
) -> dict[str, ManagedProcess]:
    """Start every hospital's MONAI Label server; returns at once."""
    started = {}
    for hospital in hospitals:
        command = server_command(hospital, addresses.servers[hospital.name], site_settings(hospital, plan, options))
        environment = {**ONE_THREAD, "MONAI_LABEL_TRACKING_ENABLED": "false"}
        started[hospital.name] = supervisor.start(f"monailabel-{hospital.name}", command, env=environment, cwd=hospital.root)
    return started


def wait_for_servers(supervisor: Supervisor, servers: Mapping[str, ManagedProcess], clients: Mapping[str, RestClient]) -> None:
    """Wait until every server answers, each at most `READY_SECONDS`."""
    for name, process in servers.items():
        supervisor.wait_until(process, clients[name].ready, seconds=READY_SECONDS, what=f"GET {clients[name].address}/info/")


def server_home(run: Path) -> Path:
    """The federation server's folder: state, rounds, Flower's own files."""
    return run / "federation"


def start_superlink(supervisor: Supervisor, run: Path, addresses: Addresses) -> ManagedProcess:
    """Start the SuperLink and wait until it listens."""
    home = server_home(run)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {**launch.flower_environment(home / "flower"), **ONE_THREAD}
    process = supervisor.start(
        "superlink", launch.superlink_argv(port=addresses.superlink, database=home / "superlink.db"), env=environment, cwd=home
    )
    supervisor.wait_until(
        process, lambda: launch.answers("127.0.0.1", addresses.superlink), seconds=READY_SECONDS, what=f"port {addresses.superlink}"
    )
    launch.write_connection(home / "flower", address=f"127.0.0.1:{addresses.superlink}")
    return process


def start_node(supervisor: Supervisor, hospital: Hospital, addresses: Addresses) -> ManagedProcess:
    """Start a hospital's SuperNode."""
    command = launch.supernode_argv(
        superlink=f"127.0.0.1:{addresses.superlink}",
        port=addresses.nodes[hospital.name],
        site_name=hospital.name,
        site_directory=hospital.root,
    )
    environment = {**launch.flower_environment(hospital.root / "work" / "flower"), **ONE_THREAD}
    return supervisor.start(f"supernode-{hospital.name}", command, env=environment, cwd=hospital.root)
