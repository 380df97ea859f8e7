"""The server's side of a run, as Flower starts it: run config in, rounds done, state file and round reports out.

A reply whose upload broke off (the network was cut in the middle of it) is not waited for long: Flower would look for its parts for three
minutes, and the replies of all other sites, which come after it, would expire meanwhile.

Processes: Flower starts one process a run. It holds <state>/server.lock while it works, so two runs never share a state folder.
"""

from functools import partial
from pathlib import Path
from typing import Any, cast

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import http_grid

from fed_backend import server_state_file
from fed_backend.errors import RoundError
from fed_backend.payload_codec import Encoding
from fed_backend.run_config import FederationSettings
from fed_backend.schema_cache import SCHEMA_FILE, cached_schema
from fed_backend.server_state import ServerState
from fed_backend.server_state_file import STATE_FILE
from fed_backend.strategy import SgcaStrategy
from fed_backend.wire_budget import update_limit
from sam_adapters import file_lock
from sam_adapters.errors import RegistryError
from sam_adapters.schema import AdapterSchema

LOCK_FILE = "server.lock"
_LOCK_SECONDS = 2.0
_WHOLE_SECONDS = 15.0
_SLOW_LINE = 12_500  # bytes a second: a tenth of a megabit

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]  # flwr is not followed by the type checker
def main(grid: Grid, context: Context) -> None:
    """Run `rounds` rounds on the state folder `state-dir`, none beyond number `until-round`; these stand in the run config."""
    settings = FederationSettings.from_run_config(context.run_config)
    folder = state_folder(context.run_config.get("state-dir", ""))
    rounds = context.run_config.get("rounds", 1)
    if not isinstance(rounds, int) or not 1 <= rounds <= 10_000:
        raise RoundError(f"rounds is {rounds!r}, expected 1 to 10000.")
    try:
        with file_lock.locked(folder / LOCK_FILE, timeout=_LOCK_SECONDS):
            state = open_state(folder, settings)
            bound_pulls(whole_seconds(update_limit(cast(Encoding, settings.encoding), state.schema.size)))
            left = rounds_left(state.round, rounds, context.run_config.get("until-round", 0))
            SgcaStrategy(state, settings, folder, run=str(context.run_id)).start(grid, num_rounds=left)
    except RegistryError as error:
        raise RoundError(f"Another run works on {folder}: wait until it has ended. ({error})") from error


def whole_seconds(size: int) -> float:
    """How long the parts of a reply of `size` bytes may take to arrive after its head: as long as on a slow line, with some to spare."""
    return max(_WHOLE_SECONDS, 1.5 * size / _SLOW_LINE)


def bound_pulls(seconds: float) -> None:
    """Give up a reply that is not whole after `seconds`; see the module. Flower has no setting for it."""
    pull = getattr(http_grid.pull_objects, "func", http_grid.pull_objects)
    http_grid.pull_objects = partial(pull, max_time=seconds)


def rounds_left(behind: int, rounds: int, until: Any) -> int:
    """How many rounds this run still has to do, when round `behind` is the last one that the federation has behind it.

    Raises:
        RoundError: `until` is no round number.
    """
    if type(until) is not int or until < 0:
        raise RoundError(f"until-round is {until!r}, expected a round's number, or 0 for no limit.")
    return max(0, min(rounds, until - behind)) if until else rounds


def state_folder(text: Any) -> Path:
    """The run config's `state-dir` as a folder, made if it is missing.

    Raises:
        RoundError: not an absolute path.
    """
    if not isinstance(text, str) or not Path(text).is_absolute():
        raise RoundError(f"state-dir is {text!r}, expected the absolute path of the server's state folder.")
    folder = Path(text)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def open_state(folder: Path, settings: FederationSettings) -> ServerState:
    """The federation's state, or that of a new one.

    Raises:
        ServerStateError: the file cannot be used, or belongs to a federation with another base or layout.
    """
    return server_state_file.load_or_new(folder / STATE_FILE, agreed_schema(folder, settings))


def agreed_schema(folder: Path, settings: FederationSettings) -> AdapterSchema:
    """The layout that the federation has agreed on; the first call starts torch, later ones read <state>/schema.json."""
    return cached_schema(folder / SCHEMA_FILE, settings)
