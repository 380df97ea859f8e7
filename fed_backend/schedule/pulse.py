"""Whether a server that runs still answers: a process that hangs keeps its port, and the system goes on accepting connections for it.

Threads: `hangs` is called from one thread and takes no time. Each question is an `errand`, at most one at a time.
"""

import socket
import ssl
from collections.abc import Callable
from logging import getLogger

from fed_backend.schedule.clock import Clock
from fed_backend.schedule.errand import Errand

log = getLogger(__name__)

ASK_EVERY_SECONDS = 15.0
ANSWER_SECONDS = 20.0
SILENT_QUESTIONS = 6
"""In a row: about two minutes. A machine that is only busy answers one of them."""


def speaks(host: str, port: int, *, tls: bool, seconds: float = ANSWER_SECONDS) -> bool:
    """Whether `host:port` says anything at all when it is asked for its root. It is the server's own: certificates are not checked."""
    try:
        plain = socket.create_connection((host, port), timeout=seconds)
        with plain, unchecked_tls().wrap_socket(plain) if tls else plain as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            connection.recv(1)  # nothing, for "closed", is an answer too
            return True
    except (TimeoutError, ConnectionRefusedError):
        return False
    except OSError:  # a reset, or a handshake that it does not like: somebody is there
        return True


def unchecked_tls() -> ssl.SSLContext:
    """TLS with whoever answers: for questions whose answer decides nothing that could do harm."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Pulse:
    """Asks now and then, and counts the questions in a row that got no answer."""

    def __init__(self, name: str, ask: Callable[[], bool], clock: Clock) -> None:
        """
        Args:
            name: of who is asked, for the log.
            ask: waits for an answer, `ANSWER_SECONDS` at most; False if there was none.
        """
        self._name, self._ask, self._clock = name, ask, clock
        self._next = 0.0
        self._silent = 0
        self._question: Errand[bool] | None = None

    def forget(self) -> None:
        """It was started anew: an answer that is still waited for says nothing about it."""
        self._next, self._silent, self._question = self._clock.monotonic() + ASK_EVERY_SECONDS, 0, None

    def hangs(self) -> bool:
        """Look after the question; True once so many were not answered."""
        if self._question is not None and self._question.done.is_set():
            self._silent = 0 if self._question.found else self._silent + 1
            if self._silent:
                log.warning("%s does not answer (%d of %d).", self._name, self._silent, SILENT_QUESTIONS)
            self._question, self._next = None, self._clock.monotonic() + (0.0 if self._silent else ASK_EVERY_SECONDS)
        if self._question is None and self._clock.monotonic() >= self._next:
            self._question = Errand("pulse", self._ask)
        return self._silent >= SILENT_QUESTIONS
