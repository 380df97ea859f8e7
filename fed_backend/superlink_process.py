"""`python -m fed_backend.superlink_process …`: Flower's SuperLink, unchanged, behind a door that keeps the operator's interface at home.

Flower 1.41 serves sites (`/v1/fleet/`), operators (`/v1/control/`: register nodes, submit runs, which is to run code) and its own helpers
(`/v1/runtime/`) on one port, and asks operators for nothing unless an OpenID provider is set up. So whoever reaches that port could
register himself as a site or run an app. The door lets other machines reach the sites' interface alone; the server's own machine reaches
all.

A database that is none any more (a bad disk, half a copy) is put aside: it holds what Flower does at the moment, nothing of the federation.

A reverse proxy on the server's machine makes everybody a neighbour unless it sends X-Forwarded-For: let it pass on `/v1/fleet/` alone.
"""

import sqlite3
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from sam_adapters.loopback import is_loopback

SITES_PATHS = ("/v1/fleet/",)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REFUSAL = b"This interface is open to the server's own machine only.\n"


class OperatorsDoor:
    """ASGI middleware: 403 for other machines on every path but the sites'."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let through or refuse."""
        if scope["type"] == "lifespan" or _is_sites_path(str(scope["path"])) or from_this_machine(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(_REFUSAL)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": _REFUSAL})


def from_this_machine(scope: Scope) -> bool:
    """Whether a connection comes over loopback, or from the very address that it goes to."""
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    return is_loopback(_plain(client[0])) or (server is not None and _plain(client[0]) == _plain(server[0]))


def _is_sites_path(path: str) -> bool:
    return path.startswith(SITES_PATHS) and ".." not in path


def _plain(address: str) -> str:
    """An address without the prefix that IPv4 has on a socket of both families."""
    return address.removeprefix("::ffff:")


def put_damaged_aside(database: Path) -> str:
    """Rename `database` if SQLite cannot use it, so that a new one is made; returns a sentence about it, "" if all is well."""
    if not database.exists():
        return ""
    try:
        with closing(sqlite3.connect(database, timeout=30.0)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        return ""
    except sqlite3.OperationalError:  # locked, or no rights: Flower says so itself
        return ""
    except sqlite3.DatabaseError as error:
        aside = database.with_name(database.name + ".damaged")
        for ending in ("-wal", "-shm"):
            database.with_name(database.name + ending).unlink(missing_ok=True)
        database.replace(aside)
        return (
            f"{database.name} was damaged ({error}) and lies in {aside.name} now: a new one is made, and sites connect anew by themselves. "
            "Sites registered without a roster have to be registered again with `fedsca server register`."
        )


def _database(arguments: Sequence[str]) -> Path | None:
    """The file that `--database` names."""
    after = list(arguments).index("--database") + 1 if "--database" in arguments else 0
    return Path(arguments[after]) if 0 < after < len(arguments) else None


def main() -> None:
    """Run the SuperLink with the command line of `flower-superlink`."""
    database = _database(sys.argv)
    sentence = put_damaged_aside(database) if database else ""
    if sentence:
        sys.stderr.write(f"fedsca: {sentence}\n")
    from flwr.superlink import main as superlink
    from flwr.superlink.cli import flower_superlink

    build = superlink.create_app

    def with_door(*arguments: Any, **keywords: Any) -> Any:
        app = build(*arguments, **keywords)
        app.add_middleware(OperatorsDoor)  # the one added last is the outermost
        return app

    superlink.create_app = with_door
    sys.exit(flower_superlink())


if __name__ == "__main__":
    main()
