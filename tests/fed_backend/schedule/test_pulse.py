"""A server that hangs is told from one that is slow, restarted, or of another mind."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fed_backend.launch import free_port
from fed_backend.schedule.pulse import ASK_EVERY_SECONDS, SILENT_QUESTIONS, Pulse, speaks
from tests.fed_backend.schedule.test_round_keeper import HandClock
from tests.monailabel_app.certificates import write_certificate

DEADLINE_SECONDS = 60.0


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """The system accepts connections for it; nobody reads them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def port_of(server: socket.socket) -> int:
    return int(server.getsockname()[1])


@pytest.mark.parametrize("tls", [False, True])
def test_who_only_has_the_port_does_not_speak(listening: socket.socket, tls: bool) -> None:
    assert not speaks("127.0.0.1", port_of(listening), tls=tls, seconds=0.3)
    assert not speaks("127.0.0.1", free_port(), tls=tls, seconds=0.3)


@pytest.mark.parametrize("answer", [b"HTTP/1.0 404 Not Found\r\n\r\n", b""])
def test_any_answer_will_do(listening: socket.socket, answer: bytes) -> None:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(answer)

    serving = threading.Thread(target=serve)
    serving.start()
    assert speaks("127.0.0.1", port_of(listening), tls=False, seconds=30.0)
    serving.join(30.0)


def test_an_answer_over_tls(listening: socket.socket, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def serve() -> None:
        with context.wrap_socket(listening.accept()[0], server_side=True) as connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    serving = threading.Thread(target=serve)
    serving.start()
    assert speaks("127.0.0.1", port_of(listening), tls=True, seconds=30.0)
    serving.join(30.0)


class Asked:
    """A server with the answers that it is to give, one after the other."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers, self.asked, self.clock = answers, 0, HandClock()
        self.pulse = Pulse("The server", self._answer, self.clock)

    def _answer(self) -> bool:
        self.asked += 1
        return self.answers[self.asked - 1] if self.asked <= len(self.answers) else True

    def hangs(self) -> bool:
        """Whether it was ever taken for hung, before it had given all answers and one more."""

        found = []

        def over() -> bool:
            self.clock.forward(ASK_EVERY_SECONDS)
            found.append(self.pulse.hangs())
            return found[-1] or self.asked > len(self.answers)

        wait_until(over)
        return found[-1]


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline


def test_one_answer_in_between_is_enough() -> None:
    silent = [False] * (SILENT_QUESTIONS - 1)
    assert not Asked([*silent, True, *silent]).hangs()


def test_silence_for_long_enough_is_a_hang_and_a_start_is_a_new_beginning() -> None:
    server = Asked([False] * SILENT_QUESTIONS)
    assert server.hangs()
    assert server.asked >= SILENT_QUESTIONS
    server.pulse.forget()
    assert not server.pulse.hangs()
