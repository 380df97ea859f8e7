"""Bounds on size, time and number of requests, on a small application of our own: exact, without a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from monailabel_app.app_errors import BusyError
from monailabel_app.door_settings import Limits
from monailabel_app.request_limits import RequestLimits
from monailabel_app.waiting_line import WaitingLine

SMALL = Limits(upload_mb=1 / 1024, body_mb=0.5 / 1024, body_seconds=5, idle_seconds=0.2, heavy=1, heavy_waiting=1, wait_seconds=0.5)


class Sender:
    """One request to an application: its body's parts, and what came back."""

    def __init__(self, method: str, path: str, parts: list[bytes], *, length: int | None = None, stalls: bool = False) -> None:
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        if length is None and parts:
            headers = [(b"transfer-encoding", b"chunked")]
        self.scope = {"type": "http", "method": method, "path": path, "headers": headers}
        self._parts = list(parts)
        self._stalls = stalls
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        if self._stalls and len(self._parts) <= 1:
            await asyncio.Event().wait()
        part = self._parts.pop(0) if self._parts else b""
        return {"type": "http.request", "body": part, "more_body": bool(self._parts) or self._stalls}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            assert self.status == 0, "two replies"
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]


Handler = Callable[[], Awaitable[None]]


def application(work: Handler) -> Any:
    """Reads the body, works, answers 200 with the number of bytes; turns every error while reading into a 400, as frameworks do."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        try:
            while more:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body", False)
        except Exception:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"bad"})
            return
        await work()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(size).encode()})

    return app


async def nothing() -> None:
    """Work that is done at once."""


def ask(sender: Sender, limits: Limits = SMALL) -> Sender:
    asyncio.run(RequestLimits(application(nothing), limits)(sender.scope, sender.receive, sender.send))
    return sender


def test_a_body_within_bounds_passes() -> None:
    sender = ask(Sender("PUT", "/datastore/label", [b"x" * 512, b"x" * 512], length=1024))
    assert (sender.status, sender.body) == (200, b"1024")


@pytest.mark.parametrize(
    ("path", "parts", "length"),
    [
        ("/datastore/label", [b"x"], 1025),  # said
        ("/datastore/label", [b"x" * 1000, b"x" * 25], None),  # counted
        ("/datastore/label", [b"x" * 1000, b"x" * 25], 10),  # said less than sent
        ("/somewhere", [b"x" * 513], None),
        ("/datastore/label", [b"x"], "many"),
    ],
)
def test_a_body_that_is_too_large_is_413(path: str, parts: list[bytes], length: Any) -> None:
    sender = ask(Sender("PUT", path, parts, length=length))
    assert sender.status == 413
    assert b"larger than" in sender.body
    assert sender.headers[b"connection"] == b"close"


def test_the_login_takes_small_bodies_only() -> None:
    large = Limits(upload_mb=100, body_mb=100)
    assert ask(Sender("POST", "/auth/token", [b"x" * 16384], length=16384), large).status == 200
    assert ask(Sender("POST", "/auth/token", [b"x" * 16385], length=16385), large).status == 413


def test_a_body_that_does_not_arrive_is_408() -> None:
    sender = ask(Sender("POST", "/infer/sam", [b"x", b"x"], length=100, stalls=True))
    assert sender.status == 408
    assert b"1 bytes did" in sender.body


def test_heavy_requests_wait_and_then_are_refused_while_light_ones_pass() -> None:
    async def scene() -> None:
        release, begun = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            await release.wait()

        limits = RequestLimits(application(work), SMALL)
        senders = [Sender("POST", "/infer/sam", [b"x"], length=1) for _ in range(3)]
        running = [asyncio.create_task(limits(one.scope, one.receive, one.send)) for one in senders]
        await asyncio.wait_for(running[2], 10)  # one works, one waits, the third is refused at once
        assert senders[2].status == 429
        assert senders[2].headers[b"retry-after"] == b"2"
        assert [one.status for one in senders[:2]] == [0, 0]
        begun.clear()
        for path in ("/info/", "/fedsca/status"):
            light = Sender("GET", path, [])
            task = asyncio.create_task(limits(light.scope, light.receive, light.send))
            await asyncio.wait_for(begun.wait(), 10)  # its handler runs although all places are taken
            begun.clear()
            release.set()
            await asyncio.wait_for(task, 10)
            assert light.status == 200
        await asyncio.wait_for(asyncio.gather(*running), 10)
        assert [one.status for one in senders[:2]] == [200, 200]

    asyncio.run(scene())


def test_clicks_do_not_wait_behind_heavy_requests_and_slow_senders_hold_no_place() -> None:
    async def scene() -> None:
        release = asyncio.Event()
        limits = RequestLimits(application(release.wait), SMALL)  # type: ignore[arg-type]
        heavy = Sender("POST", "/infer/sam", [b"x"], length=1)
        held = asyncio.create_task(limits(heavy.scope, heavy.receive, heavy.send))
        await asyncio.sleep(0)
        passing = RequestLimits(application(nothing), SMALL)
        slow = [Sender("POST", "/infer/sam", [b"x", b"x"], length=100, stalls=True) for _ in range(5)]
        sending = [asyncio.create_task(passing(one.scope, one.receive, one.send)) for one in slow]
        quick = Sender("POST", "/infer/sam", [b"x"], length=1)
        await asyncio.wait_for(passing(quick.scope, quick.receive, quick.send), 10)
        assert quick.status == 200
        click = Sender("POST", "/fedsca/segment", [b"x"], length=1)
        task = asyncio.create_task(limits(click.scope, click.receive, click.send))
        release.set()
        await asyncio.wait_for(asyncio.gather(task, held, *sending), 10)
        assert click.status == 200
        assert [one.status for one in slow] == [408] * 5

    asyncio.run(scene())


def test_a_failing_handler_gives_its_place_back() -> None:
    async def scene() -> None:
        async def fail() -> None:
            raise ValueError("broken")

        limits = RequestLimits(application(fail), SMALL)
        for _ in range(4):
            sender = Sender("POST", "/infer/sam", [b"x"], length=1)
            with pytest.raises(ValueError, match="broken"):
                await limits(sender.scope, sender.receive, sender.send)

    asyncio.run(scene())


class TestWaitingLine:
    def test_places_are_given_in_the_order_of_coming(self) -> None:
        async def scene() -> list[int]:
            line = WaitingLine("clicks", 1, 3, 10)
            order: list[int] = []

            async def one(number: int) -> None:
                await line.enter()
                order.append(number)
                await asyncio.sleep(0)
                line.leave()

            await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(4))), 10)
            assert not line.full
            return order

        assert asyncio.run(scene()) == [0, 1, 2, 3]

    def test_a_long_wait_ends_and_leaves_the_line(self) -> None:
        async def scene() -> None:
            line = WaitingLine("clicks", 1, 1, 0.05)
            await line.enter()
            with pytest.raises(BusyError, match=r"no place for clicks in 0\.05 s"):
                await line.enter()
            assert not line.full
            line.leave()
            await line.enter()

        asyncio.run(scene())

    def test_who_gives_up_does_not_keep_a_place(self) -> None:
        async def scene() -> None:
            line = WaitingLine("clicks", 1, 2, 10)
            await line.enter()
            first, second = (asyncio.create_task(line.enter()) for _ in range(2))
            await asyncio.sleep(0)
            line.leave()  # the place goes to the first, which is cancelled in the same instant
            first.cancel()
            await asyncio.wait_for(second, 10)
            assert first.cancelled()
            line.leave()
            await asyncio.wait_for(line.enter(), 10)

        asyncio.run(scene())
