import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from requests_toolbelt import MultipartEncoder

from fed_backend.demo.errors import RestError
from fed_backend.demo.rest_client import RestClient

MASK = np.zeros((3, 4, 5), np.uint8)
MASK[1, 2, 3] = MASK[2, 0, 4] = 1


class Handler(BaseHTTPRequestHandler):
    """Answers like MONAI Label, as far as the client asks."""

    mask: bytes = b""
    mask_name = "mask.nii.gz"
    seen: list[tuple[str, str, bytes]] = []  # noqa: RUF012 (one list for all requests is meant)

    def _answer(self, code: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, body))
        if self.path.startswith("/infer/sam?"):
            fields = {
                "params": (None, json.dumps({"version": "base"}), "application/json"),
                "image": (self.mask_name, self.mask, "application/octet-stream"),
            }
            encoder = MultipartEncoder(fields=fields)
            self._answer(200, encoder.to_string(), encoder.content_type)
        elif self.path.startswith("/infer/json?"):
            self._answer(200, b'{"version": "base"}')
        elif self.path == "/activelearning/first":
            self._answer(200, b'{"id": "case7"}')
        elif self.path == "/activelearning/empty":
            self._answer(200, b"{}")
        elif self.path.startswith(("/fedsca/status", "/info/", "/datastore/label")):
            self._answer(200, b'{"active": "base"}')
        else:
            self._answer(404, b'{"detail": "There is no such thing."}')

    do_GET = do_POST = do_PUT = _handle  # noqa: N815 (names that http.server calls)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[RestClient]:
    path = tmp_path / "mask.nii.gz"
    sitk.WriteImage(sitk.GetImageFromArray(MASK), str(path))
    Handler.mask, Handler.mask_name, Handler.seen = path.read_bytes(), path.name, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = RestClient(f"http://127.0.0.1:{server.server_port}/", "riverside")
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_infer_returns_mask_and_parameters(client: RestClient) -> None:
    reply = client.infer("sam", "case 1", {"slices": [{"index": 1}]})
    np.testing.assert_array_equal(reply.mask, MASK > 0)
    assert reply.version == "base"
    method, path, body = Handler.seen[-1]
    assert (method, path) == ("POST", "/infer/sam?image=case+1&output=all")
    assert b'{"slices": [{"index": 1}]}' in body


def test_the_mask_of_a_picture_has_one_slice(client: RestClient, tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    sitk.WriteImage(sitk.GetImageFromArray(MASK[1]), str(path))
    Handler.mask, Handler.mask_name = path.read_bytes(), path.name
    np.testing.assert_array_equal(client.infer("sam", "c", {}).mask, MASK[1:2] > 0)


def test_an_answer_without_a_mask_is_an_error(client: RestClient) -> None:
    with pytest.raises(RestError, match="gave no mask"):
        client.infer("json", "c", {})
    Handler.mask = b"not an image"
    with pytest.raises(RestError, match="cannot be read"):
        client.infer("sam", "c", {})


def test_submit_uploads_the_file(client: RestClient, tmp_path: Path) -> None:
    label = tmp_path / "c.nii.gz"
    label.write_bytes(b"a label")
    client.submit("c", label, {"version": "base"})
    method, path, body = Handler.seen[-1]
    assert (method, path) == ("PUT", "/datastore/label?image=c&tag=final")
    assert b"a label" in body
    assert b'filename="c.nii.gz"' in body
    assert b'{"version": "base"}' in body


def test_next_case_and_nothing_left(client: RestClient) -> None:
    assert client.next_case("first") == "case7"
    assert client.next_case("empty") is None


def test_an_error_answer_carries_name_status_and_sentence(client: RestClient) -> None:
    with pytest.raises(RestError, match=r"riverside: POST /activelearning/none answered 404: .*no such thing") as caught:
        client.next_case("none")
    assert caught.value.status == 404


def test_ready_only_when_it_answers(client: RestClient) -> None:
    assert client.ready()
    with pytest.raises(RestError, match="got no answer"):
        RestClient("http://127.0.0.1:9", "nobody").status()
    assert not RestClient("http://127.0.0.1:9", "nobody").ready()
