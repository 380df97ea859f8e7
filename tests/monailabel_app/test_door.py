"""`fedsca serve` as a hospital starts it: TLS, built-in login, small limits. One server process for all of it."""

import gc
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import SimpleITK as sitk
from monailabel.client import MONAILabelClient

from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile
from tests.monailabel_app.certificates import write_certificate
from tests.monailabel_app.server_process import ALWAYS, START_SECONDS, as_volume, blob, stop, wait_until, write_label, write_volume

PHRASE = "correct horse battery"
USERS = {"uwe": "user", "anna": "annotator", "rita": "reviewer", "adam": "admin", "ends": "user", "locked": "user"}
VIEWER, STRANGER = "https://viewer.hospital.example", "https://evil.example"
LIMITS = {"upload_mb": "1", "body_mb": "0.5", "body_seconds": "20", "idle_seconds": "1", "heavy": "1", "heavy_waiting": "1"}


@dataclass
class Door:
    """The server, as clients reach it."""

    port: int
    folder: Path
    certificate: Path
    process: "subprocess.Popen[bytes]"

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def users(self) -> UserFile:
        return UserFile(self.folder / "site" / "users.json")

    def ask(self, method: str, path: str, user: str | None = None, **kwargs: Any) -> requests.Response:
        headers = dict(kwargs.pop("headers", {}))
        if user is not None:
            headers["Authorization"] = f"Bearer {self.token(user)}"
        return requests.request(method, self.address + path, headers=headers, verify=str(self.certificate), timeout=120, **kwargs)

    def login(self, user: str, phrase: str = PHRASE) -> requests.Response:
        return self.ask("POST", "/auth/token", data={"username": user, "password": phrase, "grant_type": "password"})

    def token(self, user: str) -> str:
        if user not in TOKENS:
            reply = self.login(user)
            assert reply.status_code == 200, reply.text
            TOKENS[user] = str(reply.json()["access_token"])
        return TOKENS[user]

    def infer(self, case: str, user: str) -> requests.Response:
        return self.ask("POST", "/infer/sam_auto", user, params={"image": case, "output": "json"}, files={"params": (None, "{}")})

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "site" / "audit.jsonl").read_text(encoding="utf-8").splitlines()]

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


TOKENS: dict[str, str] = {}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("hospital")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    write_volume(studies / "small.nii.gz", seed=1)
    for number in range(6):
        sitk.WriteImage(as_volume(blob((10, 40, 48), seed=number)[0]), str(studies / f"tall{number}.nii.gz"))
    kept = passwords.hashed(PHRASE)
    for name, role in USERS.items():
        UserFile(folder / "site" / "users.json").add(name, kept, [role])
    TOKENS.clear()
    certificate, key = write_certificate(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fed_backend.cli", "serve", "--studies", str(studies), "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104
    command += ["--tls-cert", str(certificate), "--tls-key", str(key), "--users", str(folder / "site" / "users.json"), "--origin", VIEWER]
    for name, value in LIMITS.items():
        command += ["--limit", name, value]
    for name, value in {**ALWAYS, "image_size": "64", "uncertainty": "false", "tune": "false"}.items():
        command += ["--conf", name, value]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "2"})
    running = Door(port, folder, certificate, process)
    try:
        wait_until(lambda: _answers(running), START_SECONDS, what="the server to answer", note=running.log)
        yield running
    finally:
        stop(process)


def _answers(door: Door) -> bool:
    assert door.process.poll() is None, door.log()[-3000:]
    try:
        return door.ask("GET", "/auth/").ok
    except requests.ConnectionError:
        return False


# --- login ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the client leaves its sockets to the garbage collector
def test_the_official_client_logs_in(door: Door) -> None:
    client = MONAILabelClient(door.address, tmpdir=str(door.folder))
    assert client.auth_enabled()
    assert not client.auth_valid_token()
    client.update_auth(client.auth_token("anna", PHRASE))
    assert client.auth_valid_token()
    assert client.info()["name"] == "FedSCA Label"
    del client
    gc.collect()


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/static/ohif/index.html", "/favicon.ico", "/info/", "/fedsca/status", "/fedsca/adapters", "/logs/",
     "/auth/token/valid", "/auth", "/auth/token/", "//auth/token", "/auth/../info/", "/nowhere", "/datastore/", "/ohif/"],
)  # fmt: skip
def test_without_a_token_there_is_nothing(door: Door, path: str) -> None:
    request = requests.Request("GET", door.address + path).prepare()
    request.url = door.address + path  # as written, not tidied up
    with requests.Session() as session:
        reply = session.send(request, verify=str(door.certificate), timeout=120)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert "login" in reply.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_without_a_token_nothing_is_done(door: Door, method: str) -> None:
    for path in ("/reload", "/train/sam", "/fedsca/adapters/base/activate", "/datastore/label?image=small", "/auth/token/valid"):
        assert door.ask(method, path).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", "bearer " + "x" * 9000])
def test_what_is_no_token_is_refused(door: Door, header: str) -> None:
    assert door.ask("GET", "/info/", headers={"Authorization": header}).status_code == 401


def test_each_role_may_do_its_part(door: Door, tmp_path: Path) -> None:
    write_label(tmp_path / "label.nii.gz", blob(seed=1)[1])
    allowed: dict[str, list[int]] = {}
    for user in ("uwe", "anna", "rita", "adam"):
        with (tmp_path / "label.nii.gz").open("rb") as stream:
            saved = door.ask("PUT", "/datastore/label", user, params={"image": "small"}, files={"label": ("label.nii.gz", stream)})
        activated = door.ask("POST", "/fedsca/adapters/base/activate", user)
        allowed[user] = [door.ask("GET", "/info/", user).status_code, saved.status_code, activated.status_code]
    assert allowed == {"uwe": [200, 403, 403], "anna": [200, 200, 403], "rita": [200, 200, 403], "adam": [200, 200, 200]}
    lines = [line for line in door.audit() if line["event"] == "label_saved"]
    assert [(line["who"], line["address"], line["case"], line["tag"]) for line in lines] == [
        (user, "127.0.0.1", "small", "final") for user in ("anna", "rita", "adam")
    ]
    entries = [json.loads(line) for line in (door.folder / "site" / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [entry["who"] for entry in entries] == ["anna", "rita", "adam"]


def test_a_token_ends_at_once_with_the_password_and_with_the_user(door: Door) -> None:
    old = {"Authorization": f"Bearer {door.login('ends').json()['access_token']}"}
    assert door.ask("GET", "/info/", headers=old).status_code == 200
    door.users.set_password("ends", passwords.hashed("another long phrase"))
    assert door.ask("GET", "/info/", headers=old).status_code == 401
    assert door.login("ends").status_code == 401
    new = {"Authorization": f"Bearer {door.login('ends', 'another long phrase').json()['access_token']}"}
    assert door.ask("GET", "/info/", headers=new).status_code == 200
    door.users.remove("ends")
    assert door.ask("GET", "/info/", headers=new).status_code == 401


@pytest.mark.parametrize("user", ["locked", "nobody.at.all"])
def test_repeated_failures_lock_out_and_tell_nothing(door: Door, user: str) -> None:
    replies = [door.login(user, f"wrong phrase {number}") for number in range(5)]
    assert [reply.status_code for reply in replies] == [401] * 5
    assert {reply.json()["detail"] for reply in replies} == {"User name or password is not right."}
    locked = door.login(user)  # even with the right password
    assert locked.status_code == 429
    assert 1 <= int(locked.headers["Retry-After"]) <= 10
    known = user if user == "locked" else "(unknown)"
    lines = [line for line in door.audit() if line["who"] == known]
    assert [line["event"] for line in lines] == ["login_refused"] * 5 + ["login_locked"]
    assert (lines[-1]["locked"], lines[-1]["seconds"]) == ("user", 10)
    assert door.login("anna").status_code == 200  # others are not concerned


def test_a_client_cannot_say_where_it_comes_from(door: Door) -> None:
    form = {"username": "rita", "password": "wrong phrase", "grant_type": "password"}
    assert door.ask("POST", "/auth/token", data=form, headers={"X-Forwarded-For": "10.9.9.9"}).status_code == 401
    assert door.audit()[-1]["address"] == "127.0.0.1"


def test_no_password_and_no_token_is_written_anywhere(door: Door) -> None:
    token = door.token("anna")
    written = [path for path in door.folder.rglob("*") if path.is_file() and path.suffix in (".log", ".json", ".jsonl")]
    assert {"server.log", "app.log", "audit.jsonl"} <= {path.name for path in written}
    for path in written:
        text = path.read_text(errors="replace")
        assert PHRASE not in text
        assert token.rpartition(".")[2] not in text
        assert "wrong phrase" not in text
    events = {line["event"] for line in door.audit()}
    assert {"login", "label_saved"} <= events


# --- pages of other addresses ---------------------------------------------------------------------------------------------------------


def test_only_listed_origins_are_let_in(door: Door) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    listed = door.ask("OPTIONS", "/infer/sam", headers={"Origin": VIEWER, **asked})
    assert (listed.status_code, listed.headers["Access-Control-Allow-Origin"]) == (200, VIEWER)
    for origin in (STRANGER, "null", VIEWER + ".evil.example"):
        preflight = door.ask("OPTIONS", "/infer/sam", headers={"Origin": origin, **asked})
        read = door.ask("GET", "/info/", "anna", headers={"Origin": origin})
        assert preflight.status_code == 400
        assert "Access-Control-Allow-Origin" not in {**preflight.headers, **read.headers}
        written = door.ask("POST", "/fedsca/adapters/base/activate", "adam", headers={"Origin": origin})
        assert written.status_code == 403
        assert "may not use this server" in written.json()["detail"]
    assert door.ask("POST", "/fedsca/adapters/base/activate", "adam", headers={"Origin": VIEWER}).status_code == 200
    assert door.ask("POST", "/fedsca/adapters/base/activate", "adam", headers={"Origin": door.address}).status_code == 200
    refused = door.ask("GET", "/info/", headers={"Origin": VIEWER})  # a viewer can read why it is refused
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, VIEWER)


def test_replies_carry_the_headers_that_keep_browsers_careful(door: Door) -> None:
    headers = door.ask("GET", "/info/", "anna").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "Server" not in headers


# --- limits ---------------------------------------------------------------------------------------------------------------------------


def test_an_upload_that_is_too_large_is_413(door: Door) -> None:
    large = os.urandom(3 << 20)
    said = door.ask("PUT", "/datastore/image", "anna", files={"file": ("large.nii.gz", large)})
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="large.nii.gz"\r\n\r\n'
    chunks = (head if start < 0 else large[start : start + 65536] for start in range(-65536, len(large), 65536))
    counted = door.ask("PUT", "/datastore/image", "anna", data=chunks, headers={"Content-Type": "multipart/form-data; boundary=x"})
    login = door.ask("POST", "/auth/token", data={"username": "anna", "password": "x" * 20_000, "grant_type": "password"})
    for reply in (said, counted, login):
        assert reply.status_code == 413
        assert "larger than" in reply.json()["detail"]
    assert not any(path.name.startswith("large") for path in (door.folder / "site" / "studies").iterdir())


def test_a_request_that_does_not_arrive_is_408(door: Door) -> None:
    head = f"PUT /datastore/image HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {door.token('anna')}\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x"
    context = ssl.create_default_context(cafile=str(door.certificate))
    start = time.monotonic()
    plain = socket.create_connection(("127.0.0.1", door.port), timeout=60)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(head.encode())
        reply = b""
        while part := connection.recv(65536):  # until the server closes
            reply += part
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - start >= 1


def test_too_many_heavy_requests_are_429_and_light_ones_never_wait(door: Door) -> None:
    door.token("uwe")
    with ThreadPoolExecutor(8) as pool:
        heavy = [pool.submit(door.infer, f"tall{number}", "uwe") for number in range(6)]
        light = [door.ask("GET", path, "uwe") for path in ("/info/", "/fedsca/status")]
        replies = [one.result(240) for one in heavy]
    assert [reply.status_code for reply in light] == [200, 200]
    codes = [reply.status_code for reply in replies]
    assert set(codes) == {200, 429}, [reply.text[:200] for reply in replies]
    assert codes.count(200) >= 2
    refused = replies[codes.index(429)]
    assert refused.headers["Retry-After"] == "2"
    assert "busy" in refused.json()["detail"]
    assert door.infer("tall0", "uwe").status_code == 200


# --- what is written down -------------------------------------------------------------------------------------------------------------


def test_removing_is_written_down(door: Door, tmp_path: Path) -> None:
    write_volume(tmp_path / "extra.nii.gz", seed=9)
    with (tmp_path / "extra.nii.gz").open("rb") as stream:
        added = door.ask("PUT", "/datastore/image", "anna", params={"image": "extra"}, files={"file": ("extra.nii.gz", stream)})
    assert added.status_code == 200, added.text
    assert door.ask("DELETE", "/datastore/image", "anna", params={"id": "extra"}).status_code == 403
    assert door.ask("DELETE", "/datastore/image", "adam", params={"id": "extra"}).status_code == 200
    added_line, removed_line = [line for line in door.audit() if line["event"].startswith("image_")]
    assert (added_line["event"], added_line["who"], added_line["image"]) == ("image_added", "anna", "extra")
    assert (removed_line["event"], removed_line["who"], removed_line["id"]) == ("image_removed", "adam", "extra")


def test_everything_of_the_site_is_private(door: Door) -> None:
    site = door.folder / "site"
    for name in ("audit.jsonl", "users.json", "labels.jsonl"):
        assert (site / name).stat().st_mode & 0o077 == 0
    assert (site / "work").stat().st_mode & 0o077 == 0
