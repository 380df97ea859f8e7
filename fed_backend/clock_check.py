"""Whether this machine's clock and the federation server's agree well enough for Flower, which signs every request with the time.

A SuperNode whose signature lies outside `MOST_BEHIND` … `MOST_AHEAD` is turned away and ends without a word. The server's time is read from
the `Date` header of its answer; nothing is decided by it but whether a person is told, so certificates, which need a right clock
themselves, are not checked.
"""

import datetime
import email.parser
import email.utils
import socket
import ssl
import time
from contextlib import suppress

from fed_backend.errors import LaunchError
from fed_backend.launch import split_address

MOST_AHEAD, MOST_BEHIND = 5.0, 305.0
"""Seconds; Flower's `SYSTEM_TIME_TOLERANCE`, and that with its `TIMESTAMP_TOLERANCE`."""
NEAR = 2.0
"""A warning from so many seconds before `MOST_AHEAD` on."""
ANSWER_SECONDS = 5.0
_MOST_BYTES = 16_384


def seconds_ahead(address: str, *, tls: bool, seconds: float = ANSWER_SECONDS) -> float | None:
    """How far this machine's clock is ahead of the server's, to about a second; negative if it is behind.

    Args:
        address: HOST:PORT of the SuperLink.
        seconds: to wait at most for a connection, and again for the answer.

    Returns:
        None if nobody answers, or the answer has no date.
    """
    try:
        head, received = _head(*split_address(address), tls=tls, seconds=seconds)
    except OSError:
        return None
    with suppress(ValueError, TypeError):
        there = email.utils.parsedate_to_datetime(str(email.parser.HeaderParser().parsestr(head)["Date"]))
        return (received - there).total_seconds() - 0.5  # the header has whole seconds, cut off
    return None


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


def _head(host: str, port: int, *, tls: bool, seconds: float) -> tuple[str, datetime.datetime]:
    """The headers of the server's answer, and when they came."""
    plain = socket.create_connection((host, port), timeout=seconds)
    with plain, _unchecked().wrap_socket(plain, server_hostname=host) if tls else plain as connection:
        connection.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        data = b""
        deadline = time.monotonic() + seconds
        while b"\r\n\r\n" not in data and len(data) < _MOST_BYTES:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(4096)
            if not part:
                break
            data += part
    return data.decode("latin-1").partition("\r\n")[2], datetime.datetime.now(datetime.UTC)


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _span(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
