"""The DICOMweb client against servers that misbehave, and what a configuration may say about it. No Orthanc needed."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from monailabel_app import dicomweb
from monailabel_app.app_errors import RefusedByArchiveError, RemoteStudiesError, RequestError
from monailabel_app.configuration import AppConfiguration
from monailabel_app.dicomweb import DicomWeb, RemoteSeries, checked_address, checked_uid, parse_filter
from sam_adapters.errors import SettingError
from tests.monailabel_app.dicom_files import write_series

SERIES = RemoteSeries("1.2.3", "1.2")


@contextmanager
def answering(status: int, body: bytes = b"", kind: str = "application/dicom+json") -> Iterator[tuple[DicomWeb, list[str]]]:
    """A server that answers everything alike; and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield DicomWeb(f"http://127.0.0.1:{server.server_address[1]}/dicom-web"), asked
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


def entry(**values: object) -> dict[str, object]:
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items()}


@pytest.mark.parametrize("uid", ["", "1..2", ".1", "1.", "1.2/3", "../1", "1.a", "1" * 65, None, 12, "1.2\n"])
def test_what_is_no_uid_reaches_neither_disk_nor_address(uid: object) -> None:
    with pytest.raises(RequestError, match="not a DICOM UID"):
        checked_uid(uid)


def test_series_are_listed_and_what_cannot_be_a_case_is_left_out() -> None:
    entries = [
        entry(**{"0020000D": "1.2", "0020000E": "1.2.4", "00080060": "MR", "00100020": "Anna", "00201209": 12}),
        entry(**{"0020000D": "1.2", "0020000E": "1.2.3", "00080060": "CT"}),
        entry(**{"0020000D": "1.2", "0020000E": "1.2.5", "00080060": "SEG"}),
        entry(**{"0020000D": "1.2", "0020000E": "../../etc", "00080060": "CT"}),
        entry(**{"0020000E": "1.2.6", "00080060": "CT"}),
        {"0020000E": "odd"},
    ]
    with answering(200, json.dumps(entries).encode()) as (server, asked):
        assert server.list_series() == [RemoteSeries("1.2.3", "1.2", "CT"), RemoteSeries("1.2.4", "1.2", "MR", "Anna", 12)]
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, b"<html>", "expected a list of series"),
        (200, b'{"a": 1}', "expected a list of series"),
        (200, b"[[1]]", "expected a list of series"),
        (404, b"[]", "answered 404"),
        (302, b"", "answered 302"),
        (401, b"", "other credentials"),
        (500, b"", "failed \\(500\\)"),
    ],
)
def test_answers_that_are_none(status: int, body: bytes, sentence: str) -> None:
    with answering(status, body) as (server, asked), pytest.raises(RemoteStudiesError, match=sentence):
        server.list_series()
    assert "/elsewhere" not in asked


def test_no_series_is_no_error() -> None:
    with answering(204) as (server, _):
        assert server.list_series() == []


def test_a_file_that_is_none_is_not_kept(tmp_path: Path) -> None:
    entries = json.dumps([entry(**{"00080018": "1.2.3.4"})]).encode()
    with answering(200, entries) as (server, _), pytest.raises(RemoteStudiesError, match="something else than a DICOM file"):
        server.fetch(SERIES, tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_series_file_is_not_taken_for_the_one_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path / "other", np.zeros((1, 4, 4), np.int16), series="9.9.9")
    data = next((tmp_path / "other").iterdir()).read_bytes()
    monkeypatch.setattr(DicomWeb, "_pages", lambda *_: iter([entry(**{"00080018": "1.2.3.4"})]))
    for answer, sentence in ((data, "another series"), (data[:140] + b"\xff" * 9, "damaged|another series")):
        monkeypatch.setattr(DicomWeb, "_file", lambda *_, answer=answer: answer)
        (tmp_path / "kept").mkdir(exist_ok=True)
        with pytest.raises(RemoteStudiesError, match=sentence):
            DicomWeb("http://archive").fetch(SERIES, tmp_path / "kept")
        assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("status", [400, 409, 415])
def test_a_refused_label_is_told_apart_from_a_failing_server(status: int) -> None:
    with answering(status) as (server, _), pytest.raises(RefusedByArchiveError):
        server.store(b"x", "1.2")
    with answering(503) as (server, _), pytest.raises(RemoteStudiesError) as caught:
        server.store(b"x", "1.2")
    assert not isinstance(caught.value, RefusedByArchiveError)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "READ_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = DicomWeb(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web")
        started = time.monotonic()
        with pytest.raises(RemoteStudiesError, match="did not answer in time"):
            server.list_series()
        assert time.monotonic() - started < 30


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RemoteStudiesError, match="cannot be reached"):
        DicomWeb(f"http://127.0.0.1:{port}").list_series()


# --- configuration --------------------------------------------------------------------------------------------------------------------


def test_remote_studies_are_kept_in_the_named_site(tmp_path: Path) -> None:
    conf = {"site": str(tmp_path / "site"), "dicomweb_filter": "Modality=CT, StudyDescription=Abd*"}
    configuration = AppConfiguration.from_conf("http://127.0.0.1:8042/dicom-web/", conf)
    assert configuration.site.studies == tmp_path / "site" / "studies"
    assert configuration.remote is not None
    assert configuration.remote.address == "http://127.0.0.1:8042/dicom-web"
    assert dict(configuration.remote.filter) == {"Modality": "CT", "StudyDescription": "Abd*"}


def test_remote_studies_without_a_site_are_refused() -> None:
    with pytest.raises(SettingError, match="--conf site"):
        AppConfiguration.from_conf("https://pacs.example/dicom-web", {})


def test_a_filter_of_local_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="they are a folder"):
        AppConfiguration.from_conf(str(tmp_path), {"dicomweb_filter": "Modality=CT"})


@pytest.mark.parametrize(
    "address", ["http://", "http:///dicom-web", "http://host/a?b=c", "http://host/#x", "http://host:port/", "http://[::1", "ftp://host"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(SettingError, match="expected the address"):
        checked_address(address)


def test_an_address_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingError, match="end up in logs") as caught:
        checked_address("http://anna:secret@host/dicom-web")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(DicomWeb("http://host", "anna", "secret"))


@pytest.mark.parametrize("text", ["Modality", "Modality=", "=CT", "Mod ality=CT", "a&b=c"])
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(SettingError, match="dicomweb_filter"):
        parse_filter(text)
