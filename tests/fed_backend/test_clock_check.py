"""A clock that differs from the server's is said, by the date of a real answer."""

import datetime
import email.utils
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fed_backend.clock_check import seconds_ahead, sentence
from fed_backend.errors import LaunchError
from fed_backend.launch import free_port


@contextmanager
def server(date: str | None) -> Iterator[str]:
    """An HTTP server that answers 404 with this date."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(404)
            if date is not None:
                self.send_header("Date", date)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    found = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{found.server_port}"
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


@pytest.mark.parametrize("wrong", [0.0, 86_400.0, -3600.0])
def test_the_difference_is_read_from_the_servers_date(wrong: float) -> None:
    there = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=wrong)
    with server(email.utils.format_datetime(there, usegmt=True)) as address:
        assert seconds_ahead(address, tls=False) == pytest.approx(wrong, abs=2)


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_without_a_date_nothing_is_known(date: str | None) -> None:
    with server(date) as address:
        assert seconds_ahead(address, tls=False) is None


def test_without_an_answer_nothing_is_known() -> None:
    assert seconds_ahead(f"127.0.0.1:{free_port()}", tls=False) is None
    with server(None) as address:
        assert seconds_ahead(address, tls=True, seconds=0.2) is None, "a server that speaks no TLS"


def test_a_server_that_drips_its_answer_is_not_waited_for() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            while not stop.wait(0.02):
                connection.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    begun = time.monotonic()
    assert seconds_ahead(f"127.0.0.1:{listener.getsockname()[1]}", tls=False, seconds=0.3) is None
    assert time.monotonic() - begun < 5
    stop.set()
    thread.join()
    listener.close()


@pytest.mark.parametrize("ahead", [0.0, 2.9, -304.0])
def test_a_small_difference_is_not_worth_a_word(ahead: float) -> None:
    assert sentence(ahead) is None


def test_a_clock_that_is_nearly_too_far_ahead_is_said() -> None:
    assert "4 seconds ahead" in (sentence(4.0) or "")


@pytest.mark.parametrize(
    ("ahead", "said"),
    [(6.5, "6 seconds ahead of"), (-306.0, "5 minutes behind"), (365 * 86_400.0, "365 days ahead of"), (-7200.0, "2 hours behind")],
)
def test_a_clock_with_which_the_server_turns_the_site_away_is_refused_with_what_to_do(ahead: float, said: str) -> None:
    with pytest.raises(LaunchError, match=f"{said} the federation server's.*timedatectl"):
        sentence(ahead)
