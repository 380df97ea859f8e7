"""kill -9 of what runs at the server: SuperLink, ServerApp, supervisor, the round's process, each at several moments of a round."""

import time

from tests.faults.fault import Seen, fault, recovered
from tests.faults.federation import Federation
from tests.faults.moments import CLIENT_APP, SERVER_APP, Moment

UPDATE = Moment(CLIENT_APP, "import", r"^fed_backend\.client_site$")
PROBE = Moment(CLIENT_APP, "import", r"^sam_adapters\.probe$")
TAKEN = Moment(CLIENT_APP, "open", r"/work/federation\.lock$")
JUDGED = Moment(CLIENT_APP, "import", r"^sam_adapters\.gate$")
STATE = r"-> .*/server\.safetensors$"
FIRST_SAVE = Moment(SERVER_APP, "os.rename", STATE)
LAST_SAVE = Moment(SERVER_APP, "os.rename", STATE, skip=1)
REPORT = Moment(SERVER_APP, "os.rename", r"-> .*/round-\d+\.json$", skip=2)
SMALL, LARGE = ("A", "B"), ("P", "Q")
MOMENTS = {
    "before the update": (UPDATE, SMALL),
    "while the mixture is judged": (JUDGED, LARGE),
    "while the state is written after the updates": (FIRST_SAVE, SMALL),
    "while the state is written at the round's end": (LAST_SAVE, SMALL),
    "after the round's end, before its report": (REPORT, SMALL),
    "in the probe": (PROBE, LARGE),
}
VICTIMS = {
    "SuperLink": "fed_backend.superlink_process",
    "ServerApp": "flwr-serverapp",
    "round's process": "fed_backend.schedule.round_process",
}


def kill_at(federation: Federation, victim: str, moment: Moment) -> Seen:
    """A round is hit at the moment, and ends by itself with every site in it."""
    reached = federation.moments.hold(moment)
    federation.ask()
    reached.wait()
    if victim == "supervisor":
        federation.kept["server"].kill()
    else:
        federation.kill(VICTIMS[victim])
    begun = time.monotonic()
    reached.release()
    how, took = recovered(federation, begun)
    return Seen(f"{how[0].upper()}{how[1:]}.", took)


def _register() -> None:
    pairs = [(victim, when) for when in MOMENTS for victim in ("SuperLink", "ServerApp", "supervisor")]
    pairs.insert(3, ("round's process", "before the update"))
    for victim, when in pairs:
        moment, names = MOMENTS[when]

        def scenario(federation: Federation, victim: str = victim, moment: Moment = moment) -> Seen:
            return kill_at(federation, victim, moment)

        quick = (victim, when) == ("SuperLink", "while the state is written after the updates")
        fault(f"kill -9 of the {victim} {when}", "kill", sites=names, quick=quick)(scenario)


_register()


@fault("the SuperLink hangs before the update", "kill")
def _(federation: Federation) -> Seen:
    """It keeps its port and the connections, and answers nobody."""
    reached = federation.moments.hold(UPDATE)
    federation.ask()
    reached.wait()
    for process in federation.processes(VICTIMS["SuperLink"]):
        process.suspend()
    begun = time.monotonic()
    reached.release()
    how, took = recovered(federation, begun)
    return Seen(f"It was found hanging, killed and started again; {how}.", took)
