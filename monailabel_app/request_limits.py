"""Bounds on every request, as ASGI middleware: size of the body (413), time it takes to arrive (408), how many at once (429).

A request takes its place only when its body is there, so that slow senders hold none, and gives it back when the reply begins, so that slow
readers hold none either. `/info/`, `/fedsca/status` and all else that is light never waits. A refused sender is read on for a moment
before the connection is closed: else the operating system would drop the refusal together with what was not read.
"""

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monailabel_app.app_errors import BusyError
from monailabel_app.door_settings import Limits
from monailabel_app.waiting_line import RETRY_SECONDS, WaitingLine

LOGIN_BODY_BYTES = 16 << 10
LOGINS_AT_ONCE, LOGINS_WAITING = 2, 32
"""A password check takes 0.1 s and 64 MiB, and is asked for by anybody."""

LINGER_SECONDS = 2.0

_UPLOADS = re.compile(r"PUT /datastore/(image|label)?|PUT /session/|POST /infer/.*")
_CLICKS = re.compile(r"POST /fedsca/(segment|prefetch)")
_HEAVY = re.compile(
    r"PUT /datastore/(image|label)?|PUT /session/|GET /datastore/dataset|POST /fedsca/(propagate|volume)"
    r"|POST /(infer|batch|activelearning)/.*|(GET|POST) /proxy/.*"
)
_LOGIN = "POST /auth/token"


@dataclass
class _Refusal:
    """Why a request is refused; set at most once."""

    status: int = 0
    sentence: str = ""

    def response(self) -> JSONResponse:
        headers = {"Connection": "close", **({"Retry-After": str(RETRY_SECONDS)} if self.status == 429 else {})}
        return JSONResponse({"detail": self.sentence}, self.status, headers=headers)

    def set(self, status: int, sentence: str) -> HTTPException:
        self.status, self.sentence = status, sentence
        return HTTPException(status, sentence)  # whoever reads the body lets this one through


class RequestLimits:
    """The middleware; see the module."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app = app
        self._limits = limits
        self._heavy = WaitingLine("large requests", limits.heavy, limits.heavy_waiting, limits.wait_seconds)
        self._clicks = WaitingLine("clicks", limits.clicks, limits.clicks_waiting, limits.wait_seconds)
        self._logins = WaitingLine("logins", LOGINS_AT_ONCE, LOGINS_WAITING, limits.wait_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bound one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _BoundedRequest(self._limits, self._line(scope), _largest_body(scope, self._limits), receive, send)
        await request.run(self.app, scope)

    def _line(self, scope: Scope) -> WaitingLine | None:
        name = f"{scope['method']} {scope['path']}"
        if name == _LOGIN:
            return self._logins
        if _CLICKS.fullmatch(name):
            return self._clicks
        return self._heavy if _HEAVY.fullmatch(name) else None


class _BoundedRequest:
    """One request on its way through."""

    def __init__(self, limits: Limits, line: WaitingLine | None, largest: int, receive: Receive, send: Send) -> None:
        self._limits, self._line, self._largest = limits, line, largest
        self._receive, self._send = receive, send
        self._deadline = time.monotonic() + limits.body_seconds
        self._received = 0
        self._body_ended = False
        self._in_place = False
        self._started = False
        self._refusal = _Refusal()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        try:
            if not length.isdigit() or int(length) > self._largest:
                raise self._too_large()
            if self._line is not None and self._line.full:
                raise self._refusal.set(429, f"The server is busy with {self._line.name}. Try again.")
            if (length == "0" and "transfer-encoding" not in headers) or scope["method"] in ("GET", "HEAD"):
                await self._take_place()
            await app(scope, self.receive, self.send)
        except Exception:
            if not self._refusal.status:  # else it is what a reader of the body made of the refusal
                raise
        finally:
            self._leave_place()
        if self._refusal.status and not self._started:
            await self._refuse(scope)

    async def receive(self) -> Message:
        """The next part of the body, counted and timed."""
        if self._refusal.status:
            raise HTTPException(self._refusal.status, self._refusal.sentence)
        if self._body_ended:  # what is waited for now is the end of the connection
            return await self._receive()
        patience = min(self._limits.idle_seconds, self._deadline - time.monotonic())
        try:
            async with asyncio.timeout(max(patience, 0.001)):
                message = await self._receive()
        except TimeoutError:
            raise self._refusal.set(
                408, f"The request's body did not arrive in time ({self._received} bytes did). Send it again."
            ) from None
        self._received += len(message.get("body", b""))
        if self._received > self._largest:
            raise self._too_large()
        if not message.get("more_body", False):
            self._body_ended = True
            if message["type"] == "http.request":
                await self._take_place()
        return message

    async def send(self, message: Message) -> None:
        """Pass a reply on, unless it answers a request that was refused meanwhile."""
        if self._refusal.status and not self._started:
            return
        self._started = True
        self._leave_place()
        await self._send(message)

    async def _take_place(self) -> None:
        if self._line is None or self._in_place:
            return
        try:
            await self._line.enter()
        except BusyError as error:
            raise self._refusal.set(429, str(error)) from None
        self._in_place = True

    def _leave_place(self) -> None:
        if self._line is not None and self._in_place:
            self._in_place = False
            self._line.leave()
            self._line = None

    def _too_large(self) -> HTTPException:
        return self._refusal.set(413, f"The request's body is larger than {self._largest} bytes, which is more than this server takes.")

    async def _refuse(self, scope: Scope) -> None:
        """Send the refusal, and end it only when the sender has stopped, or after a moment."""
        response = self._refusal.response()
        await self._send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
        await self._send({"type": "http.response.body", "body": response.body, "more_body": True})
        if not self._body_ended and self._refusal.status != 408:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    await self._discard()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self) -> None:
        while (await self._receive()).get("more_body", False):
            pass


def _largest_body(scope: Scope, limits: Limits) -> int:
    """The largest body that this request may have, in bytes."""
    name = f"{scope['method']} {scope['path']}"
    if name == _LOGIN:
        return LOGIN_BODY_BYTES
    return int((limits.upload_mb if _UPLOADS.fullmatch(name) else limits.body_mb) * (1 << 20))
