"""Requests over a real socket: what is asked twice, what breaks off, what is sent, and how long anything waits."""

import email.policy
import json
import threading
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from FedSCALib import transport
from FedSCALib.client import Client
from FedSCALib.errors import Cancelled, ConnectionProblem, LoginNeeded, ServerBusy, ServerRefused, TimedOut
from FedSCALib.transport import RequestsTransport

Answer = Callable[[BaseHTTPRequestHandler], object]


class Desk(ThreadingHTTPServer):
    """A server that does what the test says. `seen`: method and path, headers, body."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.seen: list[tuple[str, Any, bytes]] = []
        self.leave = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Clients that leave are what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    server: Desk

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((f"{self.command} {self.path}", self.headers, body))
        (self.server.answers.pop(0) if self.server.answers else say({}))(self)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


def say(value: Any, status: int = 200, **headers: str) -> Answer:
    body = json.dumps(value).encode()
    return part_of(len(body), body, status, Content_Type="application/json", **headers)


def part_of(total: int, sent: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, text in {"Content-Length": str(total), **headers}.items():
            handler.send_header(name.replace("_", "-"), text)
        handler.end_headers()
        handler.wfile.write(sent)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.leave.set()
    made.shutdown()
    thread.join(60)
    made.server_close()


def test_a_question_is_asked_twice_when_the_connection_breaks_and_an_order_once(desk: Desk) -> None:
    transport = RequestsTransport(desk.address)
    desk.answers = [hang_up, say({"a": 1})]
    assert transport.request("GET", "/x").json == {"a": 1}
    desk.answers = [hang_up, say({})]
    with pytest.raises(ConnectionProblem):
        transport.request("POST", "/y", json={})
    assert [where for where, _, _ in desk.seen] == ["GET /x", "GET /x", "POST /y"]


def test_an_order_is_not_sent_over_a_connection_that_the_server_may_be_closing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
    ports: list[int] = []

    def told(handler: BaseHTTPRequestHandler) -> None:
        ports.append(handler.client_address[1])
        say({})(handler)

    desk.answers = [told] * 4
    ours = RequestsTransport(desk.address)
    ours.request("POST", "/a")
    ours.request("POST", "/b")
    assert ports[0] == ports[1]  # kept: a click does not wait for a handshake
    monkeypatch.setattr(transport, "IDLE_SECONDS", 0.0)
    ours.request("POST", "/c")
    assert ports[2] != ports[1]


def test_a_silent_server_is_given_up(desk: Desk) -> None:
    desk.answers = [lambda _: desk.leave.wait(60)]
    with pytest.raises(TimedOut, match="within"):
        RequestsTransport(desk.address).request("GET", "/x", timeout=0.2)


def test_a_server_that_drips_is_given_up(desk: Desk) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for _ in range(400):  # twenty seconds
            if desk.leave.wait(0.05):
                return
            handler.wfile.write(b"1\r\n \r\n")
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    desk.answers = [drip]
    with pytest.raises(TimedOut):
        RequestsTransport(desk.address).request("GET", "/x", timeout=0.5)


def test_the_token_goes_along_and_a_netrc_file_does_not(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("FedSCALib.transport._is_loopback", lambda _address: False)  # as in the hospital's network
    transport = RequestsTransport(desk.address)
    transport.request("GET", "/x")
    transport.token = "t0ken"  # noqa: S105
    transport.request("GET", "/x")
    assert [headers["Authorization"] for _, headers, _ in desk.seen] == [None, "Bearer t0ken"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (say({"detail": "Log in."}, 401), LoginNeeded),
        (say({"detail": "Later."}, 429), ServerBusy),
        (say({"detail": "Later."}, 503, Retry_After="10"), ServerBusy),
        (say({"detail": "No base."}, 503), ServerRefused),
        (say({}, 302, Location="http://elsewhere"), ServerRefused),
    ],
)
def test_refusals(desk: Desk, answer: Answer, kind: type[ServerRefused]) -> None:
    desk.answers = [answer]
    with pytest.raises(kind) as refused:
        RequestsTransport(desk.address).request("GET", "/x")
    assert type(refused.value) is kind


def test_a_download_appears_whole_or_not_at_all(desk: Desk, tmp_path: Path) -> None:
    seen: list[Any] = []
    client = Client(RequestsTransport(desk.address))
    desk.answers = [part_of(5, b"123"), part_of(5, b"123")]
    with pytest.raises(ConnectionProblem):
        client.download_image("a", tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".part"] == []
    desk.answers = [part_of(5, b"12345", Content_Disposition='attachment; filename="a.nii.gz"')]
    path = client.download_image("a", tmp_path, lambda *sizes: seen.append(sizes))
    assert (path.name, path.read_bytes(), seen[-1]) == ("a.nii.gz", b"12345", (5, 5))


def test_an_upload_is_sent_piece_by_piece_as_a_form(desk: Desk, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    file = tmp_path / "secret name.nii.gz"
    file.write_bytes(content)
    seen: list[Any] = []
    desk.answers = [say({"image": "mine"})]
    assert Client(RequestsTransport(desk.address)).upload_image(file, "mine", lambda *sizes: seen.append(sizes)) == "mine"
    where, headers, body = desk.seen[0]
    assert where == "PUT /datastore/?image=mine"
    assert int(headers["Content-Length"]) == len(body) == seen[-1][0] == seen[-1][1]
    assert len(seen) > 5
    whole = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
    parts = list(BytesParser(policy=email.policy.HTTP).parsebytes(whole).iter_parts())
    assert [part.get_param("name", header="content-disposition") for part in parts] == ["params", "file"]
    assert parts[0].get_payload(decode=True) == b"{}"
    assert parts[1].get_filename() == "mine.nii.gz"
    assert parts[1].get_payload(decode=True) == content
    assert b"secret" not in body


def test_an_upload_can_be_ended(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "large.nii.gz").write_bytes(bytes(3_000_000))
    cancel = threading.Event()
    with pytest.raises(Cancelled):
        Client(RequestsTransport(desk.address)).upload_image(tmp_path / "large.nii.gz", "large", lambda *_: cancel.set(), cancel)
