"""The page's door: who gets in, for how long, what other sites can do, and what every answer says to the browser."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fed_backend.page.page_options import USERS_FILE, PageOptions
from fed_backend.page.web import MAX_FORM, application
from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile
from tests.fed_backend.page.asgi_client import AsgiClient, asgi_client
from tests.fed_backend.page.round_files import line, report, verdict
from tests.fed_backend.page.running_page import NAME, PHRASE, add_operator
from tests.fed_backend.page.virtual_federation import add_round, make_state_folder

ADDRESS = "http://127.0.0.1:9190"
OURS = {"Origin": ADDRESS}
RIGHT = {"username": NAME, "password": PHRASE}
TOKEN = "0123456789abcdef" * 4


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = make_state_folder(tmp_path / "state", rounds=3)
    add_operator(folder)
    return folder


@pytest.fixture
def client(state: Path) -> Iterator[AsgiClient]:
    with asgi_client(application(PageOptions(state, metrics_token=TOKEN)), ADDRESS) as made:
        yield made


def log_in(client: AsgiClient) -> None:
    assert client.post("/login", data=RIGHT, headers=OURS).headers["location"] == "/"


def audit(state: Path) -> list[str]:
    return [json.loads(one)["event"] for one in (state / "audit.jsonl").read_text(encoding="utf-8").splitlines()]


def test_nothing_is_shown_before_the_login(client: AsgiClient) -> None:
    assert client.get("/").headers["location"] == "/login"
    assert client.get("/matrices/1").status_code == 401
    assert client.get("/metrics").status_code == 401
    shown = client.get("/login").text
    assert "Alder" not in shown
    assert "Virtual bladder study" not in shown


def test_login_and_logout(client: AsgiClient, state: Path) -> None:
    answer = client.post("/login", data=RIGHT, headers=OURS)
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=3600"):
        assert part in cookie
    assert "Secure" not in cookie, "plain http on this machine"
    page = client.get("/")
    assert page.status_code == 200
    assert "Virtual bladder study" in page.text
    assert client.get("/login").headers["location"] == "/"
    assert "Weights of round 1" in client.get("/matrices/1").text
    assert client.get("/matrices/99").status_code == 404
    assert client.post("/logout", headers=OURS).headers["location"] == "/login"
    assert client.get("/").headers["location"] == "/login"
    assert audit(state) == ["login"]


def test_behind_tls_the_cookie_is_for_https_and_this_host_alone(state: Path) -> None:
    options = PageOptions(state, "page.example", certificate=state / "c", key=state / "k")
    with asgi_client(application(options), "https://page.example") as client:
        cookie = client.post("/login", data=RIGHT, headers={"Origin": "https://page.example"}).headers["set-cookie"]
    assert cookie.startswith("__Host-fedsca=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


def test_a_login_ends_with_its_user(client: AsgiClient, state: Path) -> None:
    log_in(client)
    UserFile(state / USERS_FILE).set_password(NAME, passwords.hashed("another long phrase"))
    assert client.get("/").headers["location"] == "/login"


def test_wrong_passwords_lock_the_user(client: AsgiClient, state: Path) -> None:
    for _ in range(5):
        answer = client.post("/login", data={**RIGHT, "password": "wrong wrong wrong"}, headers=OURS)
        assert answer.status_code == 401
        assert "not right" in answer.text
    answer = client.post("/login", data=RIGHT, headers=OURS)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "set-cookie" not in answer.headers
    assert audit(state)[-2:] == ["login_refused", "login_locked"]
    assert PHRASE not in (state / "audit.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:9190"},
        {"Origin": "http://[broken"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_forms_of_other_sites_are_refused(client: AsgiClient, headers: dict[str, str]) -> None:
    assert client.post("/login", data=RIGHT, headers=headers).status_code == 403
    log_in(client)
    assert client.post("/logout", headers=headers).status_code == 403
    assert client.get("/").status_code == 200, "still signed in"


@pytest.mark.parametrize("body", [b"x" * (MAX_FORM + 1), b"\xff\xfe", b"username=%ff", b"&".join(b"a=1" for _ in range(20))])
def test_forms_that_are_none_are_refused(client: AsgiClient, body: bytes) -> None:
    assert client.post("/login", content=body, headers=OURS).status_code == 403


def test_the_stamp_changes_with_what_is_shown_and_needs_a_login(state: Path) -> None:
    clock = [datetime(2026, 3, 20, 12, 0, tzinfo=UTC)]
    with asgi_client(application(PageOptions(state), clock=lambda: clock[0]), ADDRESS) as client:
        assert client.get("/stamp").status_code == 401
        log_in(client)
        first = client.get("/stamp").text
        assert f'data-stamp="{first}"' in client.get("/").text
        add_round(state, 4)
        second = client.get("/stamp").text
        assert f'data-stamp="{second}"' in client.get("/").text
        clock[0] += timedelta(minutes=1)
        third = client.get("/stamp").text
        assert len({first, second, third}) == 3


def test_forged_cookies_open_nothing(client: AsgiClient) -> None:
    for value in ("x", "a.b.c", "x" * 5000, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvbGdhIn0."):
        assert client.get("/", headers={"Cookie": f"fedsca={value}"}).status_code == 303


def test_prometheus_comes_with_a_token(client: AsgiClient) -> None:
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert "fedsca_last_round 3.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for wrong in ("Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer ü"):
        assert client.get("/metrics", headers={"Authorization": wrong.encode("latin-1")}).status_code == 401
    assert client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 303, "the token opens the metrics alone"


def test_without_a_token_file_no_token_is_taken(state: Path) -> None:
    with asgi_client(application(PageOptions(state)), ADDRESS) as client:
        assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 401
        log_in(client)
        assert client.get("/metrics").status_code == 200


def test_without_users_the_form_says_so(tmp_path: Path) -> None:
    with asgi_client(application(PageOptions(tmp_path)), ADDRESS) as client:
        answer = client.post("/login", data=RIGHT, headers=OURS)
    assert answer.status_code == 503
    assert "no users yet" in answer.text


def test_every_answer_is_strict(client: AsgiClient) -> None:
    log_in(client)
    for path in ("/", "/login", "/metrics", "/matrices/1", "/nothing", "/static/page.css", "/static/../web.py", "/static/none"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/static/page.css").headers["content-type"].startswith("text/css")
    for path in ("/", "/matrices/1", "/metrics"):
        assert client.post(path, headers=OURS).status_code == 405, "there is nothing to change"


def test_hostile_names_are_text_on_the_page(client: AsgiClient, state: Path) -> None:
    name = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202e{{ 7*7 }}'
    hostile = report(
        4,
        sites={name: line()},
        reason=name,
        weights={name: {name: 1.0}},
        givers=[name],
        noise=[0.1],
        distance=[[0.0]],
        bytes={name: {"update": 1}},
        verdicts={name: {**verdict("promoted", 0.1, 0.2, 0.1), "reason": name}},
        refusals=[{"site": name, "phase": name, "reason": name}],
        privacy={name: {"epsilon": 1.0, "delta": 0.1}},
        seconds={name: 1.0},
    )
    (state / "rounds" / "round-0004.json").write_text(json.dumps(hostile), encoding="utf-8")
    log_in(client)
    for path in ("/", "/?round=4", "/matrices/4"):
        shown = client.get(path).text
        assert "&lt;script&gt;" in shown
        assert "<script>" not in shown
        assert "<img" not in shown
        assert "\u202e" not in shown
        assert "49" not in shown.split("7*7")[1][:4]
    assert client.get("/").text.count("<script") == 1, "the page's own"


def test_odd_addresses_show_the_page(client: AsgiClient) -> None:
    log_in(client)
    for query in ("round=x", "until=-1", "until=0", "round=99999999999999999999", "until=²", "round=2"):
        assert client.get(f"/?{query}").status_code == 200
