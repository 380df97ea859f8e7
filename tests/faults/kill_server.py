"""kill -9 of what runs at the server: SuperLink, ServerApp, supervisor, each at several moments of a round."""

import time

from tests.faults.fault import Place, Seen, fault
from tests.faults.federation import Federation
from tests.faults.moments import CLIENT_APP, SERVER_APP, Moment

UPDATE = Moment(CLIENT_APP, "import", r"^fed_backend\.client_app$")
PROBE = Moment(CLIENT_APP, "import", r"^sam_adapters\.probe$")
JUDGED = Moment(CLIENT_APP, "import", r"^sam_adapters\.gate$")
FIRST_SAVE = Moment(SERVER_APP, "os.rename", r"-> .*/server\.safetensors$")
LAST_SAVE = Moment(SERVER_APP, "os.rename", r"-> .*/server\.safetensors$", skip=2)
MOMENTS = {
    "before the update": (UPDATE, ("A", "B")),
    "in the probe": (PROBE, ("P", "Q")),
    "while the mixture is judged": (JUDGED, ("A", "B")),
    "while the state is written after the updates": (FIRST_SAVE, ("A", "B")),
    "while the state is written at the round's end": (LAST_SAVE, ("A", "B")),
}
VICTIMS = {
    "SuperLink": "fed_backend.superlink_process",
    "ServerApp": "flwr-serverapp",
    "round's process": "fed_backend.schedule.round_process",
}


def killed_and_finished(place: Place, victim: str, moment: Moment, names: tuple[str, ...]) -> Seen:
    """Round 1 is hit at the moment, ends by itself, and round 2 is a whole one."""
    federation = place.federation(*names, start=False)
    reached = federation.moments.hold(moment)
    federation.start()
    federation.ask()
    reached.wait()
    if victim == "supervisor":
        federation.kept["server"].kill()
    else:
        federation.kill(VICTIMS[victim])
    begun = time.monotonic()
    reached.release()
    return after_a_killed_round(place, federation, begun)


def after_a_killed_round(place: Place, federation: Federation, begun: float) -> Seen:
    """Round 1 ends by itself, and round 2 is a whole one."""
    last = federation.wait_ended(1)
    took = time.monotonic() - begun
    federation.round(2)
    assert federation.refusals(2) == {} or set(federation.refusals(2).values()) == {TOO_FEW}, federation.refusals(2)
    place.sound(2)
    tries = "was finished all the same" if last.attempts == 1 else f"was taken up by itself (attempt {last.attempts})"
    return Seen(f"Round 1 {tries}; round 2 was whole.", took)


TOO_FEW = "The site declined: It has usable labelled training cases of fewer than two patients: too few to compare."


def _register() -> None:
    for victim in ("SuperLink", "ServerApp", "supervisor"):
        for when, (moment, names) in MOMENTS.items():

            def scenario(place: Place, victim: str = victim, moment: Moment = moment, names: tuple[str, ...] = names) -> Seen:
                return killed_and_finished(place, victim, moment, names)

            fault(f"kill -9 of the {victim} {when}", "kill", quick=(victim, when) == ("ServerApp", "while the state is written at the round's end"))(scenario)


_register()
