"""The operator's work on a SuperLink that is up: submit a run and wait for its end, read what happened, let sites in.

Processes: starts `flwr run`, which prints the server's log and ends with the run; at the deadline it is ended. The rounds themselves run in
the ServerApp's process, which the SuperLink started.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fed_backend import launch
from fed_backend.enrolment.roster import ROSTER_FILE
from fed_backend.enrolment.superlink_nodes import SuperLinkNodes
from fed_backend.errors import RoundError
from fed_backend.launch import ServerAddress
from fed_backend.round_report import read_round, round_files
from fed_backend.run_config import FederationSettings

_START_SECONDS = 60.0  # for processes to start and a first layout to be worked out
_STOP_SECONDS = 10.0


def run_config(state_folder: Path, settings: FederationSettings, rounds: int, until_round: int = 0) -> dict[str, launch.ConfigValue]:
    """The whole run config of a run; see `run_rounds`."""
    return {"state-dir": str(state_folder.resolve()), "rounds": rounds, "until-round": until_round, **settings.to_run_config()}


def longest_run(settings: FederationSettings, rounds: int) -> float:
    """Seconds after which a run must have ended, because every wait in it has."""
    waits = settings.join_seconds + settings.update_seconds + settings.probe_seconds + settings.mixture_seconds
    return rounds * (waits + _START_SECONDS) + _START_SECONDS


def run_rounds(state_folder: Path, rounds: int = 1, *, until_round: int = 0) -> list[Mapping[str, Any]]:
    """Run rounds and return their reports, as they stand in `<state>/rounds/`.

    Args:
        until_round: no round beyond this number; 0 means no such limit. A run that Flower delivers twice, or late, then does nothing the
            second time.

    Raises:
        RoundError, LaunchError: the federation was never started, its SuperLink does not answer, or the run ended without doing the rounds.
    """
    settings, environment = FederationSettings.load(state_folder), _connected(state_folder)
    if (state_folder / ROSTER_FILE).exists():
        SuperLinkNodes(state_folder).synchronise()  # nobody takes part whom the roster does not name
    before = {path.name: path.read_bytes() for path in round_files(state_folder)}
    argv = launch.run_argv(run_config(state_folder, settings, rounds, until_round))
    _run(argv, environment, longest_run(settings, rounds))
    # A killed round is run again, and its report is another one then; one that was there before, damaged or not, is left alone.
    done = [read_round(path) for path in round_files(state_folder) if before.get(path.name) != path.read_bytes()]
    if len([report for report in done if report["status"] != "running"]) < rounds:
        raise RoundError(f"The run ended after {len(done)} of {rounds} rounds: its log is above, and in the SuperLink's output.")
    return done


def register_site(state_folder: Path, name: str, public_key: Path) -> None:
    """Register a site's node at the running SuperLink.

    Raises:
        RoundError, LaunchError: the SuperLink does not answer, or refuses.
    """
    environment = _connected(state_folder)
    _run(launch.register_argv(site_name=name, public_key=public_key), environment, _START_SECONDS)


def _connected(state_folder: Path) -> dict[str, str]:
    """Environment of `flwr` with a connection to the running SuperLink."""
    server = ServerAddress.load(state_folder)
    if not launch.answers(*launch.split_address(server.address), seconds=5.0):
        raise RoundError(f"Nothing answers at {server.address}: start the server with `fedsca server start --state {state_folder}`.")
    flwr_home = state_folder / launch.SERVER_FLWR_HOME
    root = Path(server.root_certificates) if server.root_certificates else None
    launch.write_connection(flwr_home, address=server.address, root_certificates=root)
    return launch.flower_environment(flwr_home)


def _run(argv: list[str], environment: Mapping[str, str], seconds: float) -> None:
    with subprocess.Popen(argv, env=dict(environment), stdin=subprocess.DEVNULL) as process:
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise RoundError(f"`flwr {argv[1]}` has not ended after {seconds:.0f} s, longer than all its waits together.") from error
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(timeout=_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
    if code != 0:
        raise RoundError(f"`{' '.join(['flwr', *argv[1:3]])}` ended with code {code}: its message is above.")
