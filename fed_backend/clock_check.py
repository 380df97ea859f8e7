"""Whether this machine's clock and the federation server's agree well enough for Flower, which signs every request with the time.

A SuperNode whose signature lies outside `MOST_BEHIND` … `MOST_AHEAD` is turned away and ends without a word. The server's time is read from
the `Date` header of its answer; nothing is decided by it but whether a person is told, so certificates, which need a right clock
themselves, are not checked.

Threads: the question is an errand, so that a server that sends its answer in drips is not waited for longer than it may take.
"""

import datetime
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from fed_backend.errors import LaunchError
from fed_backend.launch import split_address
from fed_backend.schedule.errand import Errand
from fed_backend.schedule.pulse import unchecked_tls

MOST_AHEAD, MOST_BEHIND = 5.0, 305.0
"""Seconds; Flower's `SYSTEM_TIME_TOLERANCE`, and that with its `TIMESTAMP_TOLERANCE`."""
NEAR = 2.0
"""A warning from so many seconds before `MOST_AHEAD` on."""
ANSWER_SECONDS = 5.0


def seconds_ahead(address: str, *, tls: bool, seconds: float = ANSWER_SECONDS) -> float | None:
    """How far this machine's clock is ahead of the server's, to about a second; negative if it is behind.

    Args:
        address: HOST:PORT of the SuperLink.
        seconds: to wait at most for a connection, and again for the answer.

    Returns:
        None if nobody answers, or the answer has no date.
    """
    question = Errand("clock", partial(_ask, address, tls, seconds))
    question.done.wait(2 * seconds)
    return question.found


def sentence(ahead: float) -> str | None:
    """What to say of such a difference; None if there is nothing to say.

    Raises:
        LaunchError: the server would turn this site away.
    """
    found = f"This machine's clock is {_span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the federation server's."
    limits = "A site is let in from five minutes behind to five seconds ahead"
    if -MOST_BEHIND <= ahead <= MOST_AHEAD + 1:
        near = ahead > MOST_AHEAD - NEAR
        return f"{found} {limits}: keep both machines' clocks set by the network (timedatectl set-ntp true)." if near else None
    raise LaunchError(
        f"{found} {limits}, so the server would turn this one away. Find out which clock is wrong and set it (timedatectl set-ntp true), "
        "then start again; nothing is lost meanwhile."
    )


def _ask(address: str, tls: bool, seconds: float) -> float | None:
    host, port = split_address(address)
    if tls:
        connection: HTTPConnection = HTTPSConnection(host, port, timeout=seconds, context=unchecked_tls())
    else:
        connection = HTTPConnection(host, port, timeout=seconds)
    with closing(connection), suppress(HTTPException, ValueError, TypeError):
        connection.request("GET", "/")
        date = connection.getresponse().getheader("Date")
        received = datetime.datetime.now(datetime.UTC)
        return (received - parsedate_to_datetime(str(date))).total_seconds() - 0.5  # the header has whole seconds, cut off
    return None


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
