"""Other machines reach the sites' interface alone: the door by itself, and before Flower's real application."""

import asyncio
import sqlite3
from collections.abc import MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.superlink import main as superlink

from fed_backend import superlink_process
from fed_backend.superlink_process import OperatorsDoor, from_this_machine, put_damaged_aside

NEIGHBOUR = ("10.0.0.9", 40000)


@pytest.mark.parametrize(
    ("client", "server", "home"),
    [
        (("127.0.0.1", 1), ("10.0.0.5", 9092), True),
        (("::1", 1), None, True),
        (("::ffff:127.0.0.1", 1), ("::", 9092), True),
        (("10.0.0.5", 1), ("10.0.0.5", 9092), True),
        (("::ffff:10.0.0.5", 1), ("10.0.0.5", 9092), True),
        (NEIGHBOUR, ("10.0.0.5", 9092), False),
        (NEIGHBOUR, None, False),
        (("localhost.evil.example", 1), None, False),
        (None, ("10.0.0.5", 9092), False),
    ],
)
def test_whose_machine_it_is(client: object, server: object, home: bool) -> None:
    assert from_this_machine({"client": client, "server": server}) is home


async def _answer(app: Any, path: str, client: tuple[str, int]) -> httpx.Response:
    transport = httpx.ASGITransport(app, client=client, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://10.0.0.5:9092") as http:
        return await http.post(path)


def test_flowers_own_application_is_behind_the_door(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(superlink, "create_app", superlink.create_app)  # put back what main() replaces
    monkeypatch.setattr("flwr.superlink.cli.flower_superlink", lambda: built.append(superlink.create_app()))
    with pytest.raises(SystemExit):
        superlink_process.main()
    (app,) = built
    for path in (
        "/v1/control/register-node",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/health",
        "/v1/fleet/../control/x",
        "/",
    ):
        assert asyncio.run(_answer(app, path, NEIGHBOUR)).status_code == 403, path
        assert asyncio.run(_answer(app, path, ("127.0.0.1", 1))).status_code != 403, path
    assert asyncio.run(_answer(app, "/v1/fleet/activate-node", NEIGHBOUR)).status_code != 403


def test_web_sockets_of_others_are_closed() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def never(*_: Any) -> Any:
        raise AssertionError("the door let it through")

    asyncio.run(OperatorsDoor(never)({"type": "websocket", "path": "/v1/control/x", "client": NEIGHBOUR}, never, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_database_that_is_none_is_put_aside_and_a_good_one_stays(tmp_path: Path) -> None:
    database = tmp_path / "superlink.sqlite"
    assert put_damaged_aside(database) == ""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE node (id INTEGER)")
    before = database.read_bytes()
    assert put_damaged_aside(database) == ""
    assert database.read_bytes() == before
    database.write_bytes(b"garbage" * 1000)
    assert "superlink.sqlite.damaged" in put_damaged_aside(database)
    assert not database.exists()
    assert (tmp_path / "superlink.sqlite.damaged").read_bytes() == b"garbage" * 1000
