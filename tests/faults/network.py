"""The network between a hospital and the server: cut, hanging, losing answers, delivering twice."""

import time

from tests.faults.fault import Seen, fault
from tests.faults.federation import Federation
from tests.faults.kill_server import TAKEN, UPDATE
from tests.faults.kill_site import PATIENCE, at
from tests.faults.moments import Moment

CUT_SECONDS, LOST_SECONDS = 120.0, 45.0
OPTIONS = {"cables_of": ("A",), **PATIENCE}
PATIENT = {"cables_of": ("A",), "rounds": {"min_sites": 1}}


def disturbed(federation: Federation, moment: Moment, disturb: str, seconds: float) -> Seen:
    """The way is disturbed from the moment on, for so long; the round that comes after that is whole."""
    cable = federation.cables["A"]
    reached = federation.moments.hold(at(moment, "A"))
    federation.ask()
    reached.wait()
    if disturb == "cut":
        cable.cut()
    else:
        cable.hang(there=disturb == "lose")
    until = time.monotonic() + seconds
    reached.release()
    time.sleep(max(0.0, until - time.monotonic()))  # the fault is that long; there is nothing to wait for
    cable.mend()
    begun = time.monotonic()
    federation.finished()
    report = federation.report(federation.done)
    assert "B" in report["verdicts"], federation.logs()
    if "A" in report["verdicts"]:
        return Seen("The round waited, and went on with the site.", time.monotonic() - begun)
    reason = federation.reason("A")
    federation.whole_round()
    return Seen(f"The round ended without the site ({reason.rstrip('.')}); the next one had it again.", time.monotonic() - begun)


@fault("network cut for two minutes while the mixture is on its way", "network", options=OPTIONS)
def cut_while_judged(federation: Federation) -> Seen:
    return disturbed(federation, TAKEN, "cut", CUT_SECONDS)


@fault("network cut for two minutes within the round's patience", "network", options=PATIENT)
def cut_within_patience(federation: Federation) -> Seen:
    return disturbed(federation, UPDATE, "cut", CUT_SECONDS / 2)


@fault("network hangs for two minutes before the update", "network", options=OPTIONS)
def hang_before_update(federation: Federation) -> Seen:
    return disturbed(federation, UPDATE, "hang", CUT_SECONDS)


@fault("every answer of the server is lost while the update is sent", "network", options=PATIENT)
def answers_lost(federation: Federation) -> Seen:
    return disturbed(federation, UPDATE, "lose", LOST_SECONDS)


@fault("every message of a hospital is delivered twice", "network", options={"relays_of": ("A",)})
def delivered_twice(federation: Federation) -> Seen:
    relay = federation.relays["A"]
    relay.twice = True
    begun = time.monotonic()
    federation.whole_round()
    relay.twice = False
    assert relay.repeated >= 3, relay.repeated
    return Seen(f"{relay.repeated} deliveries were repeated, and each counted once.", time.monotonic() - begun)


@fault("a hospital's upload breaks off in the middle of its update", "network", options={"relays_of": ("A",), "rounds": {"min_sites": 1}})
def upload_broken_off(federation: Federation) -> Seen:
    """The SuperLink has the head of the message and never gets its parts: the answer that asks for them is lost."""
    relay = federation.relays["A"]
    relay.lose = 1
    begun = time.monotonic()
    report = federation.round()
    assert relay.lose == 0
    assert "B" in report["verdicts"], f"{report['refusals']}\n{federation.logs()}"
    if "A" in report["verdicts"]:
        return Seen("The site sent it again, and it counted once.", time.monotonic() - begun)
    reason = federation.reason("A")
    federation.whole_round()
    return Seen(f"The round ended without the site ({reason.rstrip('.')}); the next one had it again.", time.monotonic() - begun)
