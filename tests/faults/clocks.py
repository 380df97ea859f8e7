"""Clocks that jump in the middle of a round, at the server and at a hospital, forwards and back."""

import time

from tests.faults.fault import Seen, fault, recovered
from tests.faults.federation import Federation
from tests.faults.kill_server import TAKEN, UPDATE
from tests.faults.kill_site import PATIENCE
from tests.faults.moments import Moment

DAY = 86_400.0
OPTIONS = {"clocks_of": ("server", "A"), **PATIENCE}


def jump(federation: Federation, whose: str, seconds: float, moment: Moment) -> Seen:
    """A jump at the moment; this round ends somehow, and the next one has everybody in it."""
    reached = federation.moments.hold(moment)
    federation.ask()
    reached.wait()
    federation.clocks[whose].jump(seconds)
    begun = time.monotonic()
    reached.release()
    federation.finished(None)
    left = sorted(set(federation.names) - set(federation.report(federation.done)["verdicts"]))
    if not left:
        return Seen("The round went on.", time.monotonic() - begun)
    federation.ask()
    recovered(federation, begun)
    return Seen(f"The round ended without {' and '.join(left)}; the next one was whole.", time.monotonic() - begun)


@fault("the server's clock jumps a day ahead before the updates", "clock", options=OPTIONS)
def server_ahead(federation: Federation) -> Seen:
    return jump(federation, "server", DAY, UPDATE)


@fault("the server's clock jumps a day back while the mixture is on its way", "clock", options=OPTIONS)
def server_back(federation: Federation) -> Seen:
    return jump(federation, "server", 0.0, TAKEN)


@fault("a hospital's clock jumps a year ahead before its update", "clock", options=OPTIONS)
def site_ahead(federation: Federation) -> Seen:
    return jump(federation, "A", 365 * DAY, UPDATE)


@fault("a hospital's clock jumps two years back while it takes its mixture", "clock", options=OPTIONS)
def site_back(federation: Federation) -> Seen:
    return jump(federation, "A", -365 * DAY, TAKEN)
