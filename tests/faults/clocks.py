"""Clocks that jump in the middle of a round, at the server and at a hospital, forwards and back."""

import time

from tests.faults.fault import Seen, fault, recovered
from tests.faults.federation import Federation
from tests.faults.kill_server import TAKEN, UPDATE
from tests.faults.kill_site import PATIENCE
from tests.faults.moments import Moment

DAY = 86_400.0
OPTIONS = {"clocks_of": ("server", "A"), **PATIENCE}


TURNED_AWAY = "so the server would turn this one away"


def jump(federation: Federation, whose: str, seconds: float, moment: Moment) -> Seen:
    """A jump at the moment; this round ends somehow, and the next one has everybody in it."""
    begun = _jump(federation, whose, seconds, moment)
    federation.finished(None)
    left = sorted(set(federation.names) - set(federation.report(federation.done)["verdicts"]))
    if not left:
        return Seen("The round went on.", time.monotonic() - begun)
    federation.ask()
    recovered(federation, begun)
    return Seen(f"The round ended without {' and '.join(left)}; the next one was whole.", time.monotonic() - begun)


def jump_apart(federation: Federation, whose: str, seconds: float, moment: Moment, told: str) -> Seen:
    """A jump so far that Flower lets the sites in no more: the sites' logs say so, a person sets the clock, the next round is whole."""
    known = len(federation.kept[told].said)
    _jump(federation, whose, seconds, moment)
    federation.wait("a word about the clock", lambda: TURNED_AWAY in federation.kept[told].said[known:])
    ended = federation.wait_ended(federation.done + 1, None)
    federation.done += ended.outcome != "given up"  # whose number the next round has
    (sentence,) = {line for line in federation.kept[told].said[known:].splitlines() if TURNED_AWAY in line}
    federation.clocks[whose].jump(0.0)
    begun = time.monotonic()
    federation.ask()
    recovered(federation, begun)
    return Seen("The sites were let in no more until the clock was set.", time.monotonic() - begun, person=sentence)


def _jump(federation: Federation, whose: str, seconds: float, moment: Moment) -> float:
    reached = federation.moments.hold(moment)
    federation.ask()
    reached.wait()
    federation.clocks[whose].jump(seconds)
    begun = time.monotonic()
    reached.release()
    return begun


@fault("the server's clock jumps a day ahead before the updates", "clock", options=OPTIONS)
def server_ahead(federation: Federation) -> Seen:
    return jump_apart(federation, "server", DAY, UPDATE, told="A")


@fault("the server's clock jumps four minutes ahead while the mixture is on its way", "clock", options=OPTIONS)
def server_a_little_ahead(federation: Federation) -> Seen:
    return jump(federation, "server", 240.0, TAKEN)


@fault("the server's clock jumps a day back while the mixture is on its way", "clock", options=OPTIONS)
def server_back(federation: Federation) -> Seen:
    return jump_apart(federation, "server", -DAY, TAKEN, told="A")


@fault("a hospital's clock jumps a year ahead before its update", "clock", options=OPTIONS)
def site_ahead(federation: Federation) -> Seen:
    return jump_apart(federation, "A", 365 * DAY, UPDATE, told="A")


@fault("a hospital's clock jumps a year back while it takes its mixture", "clock", options=OPTIONS)
def site_back(federation: Federation) -> Seen:
    return jump_apart(federation, "A", -365 * DAY, TAKEN, told="A")
