"""The page's addresses: /, /matrices/N (for the slider), /login, /logout, /metrics, /static/NAME. All but login and static need
a login; nothing changes anything on the server.

Threads: uvicorn's loop answers; reading the folder, drawing and checking passwords happen in worker threads, at most two of each at a time
(a check of a password takes 64 MiB and both cores).
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from anyio import CapacityLimiter
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fed_backend.page import metrics, view, wording
from fed_backend.page.page_headers import PageHeaders
from fed_backend.page.page_options import PageOptions
from fed_backend.page.sessions import Sessions, from_this_page
from fed_backend.page.state_reader import StateReader
from sam_adapters.audit import Caller, calling
from sam_adapters.errors import AuditError, AuthorityError, CredentialsError, LockedOutError

MAX_FORM = 4096
STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_HERE = Path(__file__).parent


class Page:
    """The handlers of one federation's page."""

    def __init__(self, options: PageOptions, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._reader = StateReader(options.state)
        self._sessions = Sessions(options)
        self._clock = clock
        self._templates = Environment(
            loader=PackageLoader("fed_backend.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._passwords, self._readings = CapacityLimiter(2), CapacityLimiter(2)

    async def whole(self, request: Request) -> Response:
        """The page, or the way to the login."""
        who = await self._sessions.user(request)
        if who is None:
            return RedirectResponse("/login", 303)
        until, chosen = _number(request.query_params.get("until")), _number(request.query_params.get("round"))

        def draw() -> str:
            now = self._clock()
            stamp = self._reader.stamp(now)  # before reading: what changes meanwhile is news
            context = view.page_context(self._reader.read(), now, until=until, chosen=chosen, who=who, stamp=stamp)
            return self._templates.get_template("page.html.j2").render(context)

        return HTMLResponse(await anyio.to_thread.run_sync(draw, limiter=self._readings))

    async def stamp(self, request: Request) -> Response:
        """Whether there is news, for the script: cheap, so that it may be asked often."""
        if await self._sessions.user(request) is None:
            return PlainTextResponse("Log in first.", 401)
        return PlainTextResponse(await anyio.to_thread.run_sync(lambda: self._reader.stamp(self._clock()), limiter=self._readings))

    async def matrices(self, request: Request) -> Response:
        """The matrices of one round."""
        if await self._sessions.user(request) is None:
            return PlainTextResponse("Log in first.", 401)
        number = int(request.path_params["number"])

        def draw() -> str | None:
            found = view.matrices(self._reader.read(), number)
            return self._templates.get_template("matrices.html.j2").render(matrices=found, w=wording) if found else None

        text = await anyio.to_thread.run_sync(draw, limiter=self._readings)
        return HTMLResponse(text) if text is not None else PlainTextResponse(f"Round {number} has no matrices here.", 404)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        if not self._sessions.scraper(request) and await self._sessions.user(request) is None:
            return PlainTextResponse("Log in, or bring the token for metrics.", 401, headers={"WWW-Authenticate": "Bearer"})
        data = await anyio.to_thread.run_sync(lambda: metrics.exposition(self._reader.read()), limiter=self._readings)
        return Response(data, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def login_form(self, request: Request) -> Response:
        """The form, or the way to the page for who is signed in already."""
        if await self._sessions.user(request) is not None:
            return RedirectResponse("/", 303)
        return self._form("", 200)

    async def login(self, request: Request) -> Response:
        """Look at a name and a password."""
        fields = await _form_fields(request)
        if not from_this_page(request) or fields is None:
            return self._form("This form did not come from this page: try again here.", 403)
        name, password = fields.get("username", ""), fields.get("password", "")

        def check() -> dict[str, object]:
            with calling(Caller(address=request.client.host if request.client else "")):
                return self._sessions.desk.token(name, password)

        try:
            reply = await anyio.to_thread.run_sync(check, limiter=self._passwords)
        except LockedOutError as error:
            return self._form(str(error), 429, {"Retry-After": str(math.ceil(error.seconds))})
        except CredentialsError as error:
            return self._form(str(error), 401)
        except (AuthorityError, AuditError):
            return self._form("Nobody can log in now: the server's user file or audit log is out of order, or has no users yet.", 503)
        return self._sessions.begin(RedirectResponse("/", 303), str(reply["access_token"]))

    async def logout(self, request: Request) -> Response:
        """Forget the login in this browser."""
        if not from_this_page(request):
            return PlainTextResponse("This form did not come from this page.", 403)
        return self._sessions.end(RedirectResponse("/login", 303))

    async def static(self, request: Request) -> Response:
        """The style sheet, the script and the icon."""
        name = request.path_params["name"]
        if name not in STATIC:
            return PlainTextResponse("There is no such file.", 404)
        headers = {"Content-Type": f"{STATIC[name]}; charset=utf-8", "Cache-Control": "private, max-age=300"}
        return Response(_static(name), headers=headers)

    def _form(self, problem: str, status: int, headers: dict[str, str] | None = None) -> Response:
        return HTMLResponse(self._templates.get_template("login.html.j2").render(problem=problem), status, headers=headers)


def application(options: PageOptions, **given: Any) -> Starlette:
    """The page as an ASGI application. `given` goes to `Page`."""
    page = Page(options, **given)
    return Starlette(
        routes=[
            Route("/", page.whole),
            Route("/stamp", page.stamp),
            Route("/matrices/{number:int}", page.matrices),
            Route("/metrics", page.metrics),
            Route("/login", page.login_form, methods=["GET"]),
            Route("/login", page.login, methods=["POST"]),
            Route("/logout", page.logout, methods=["POST"]),
            Route("/static/{name}", page.static),
        ],
        middleware=[Middleware(PageHeaders)],
    )


async def _form_fields(request: Request) -> dict[str, str] | None:
    """The fields of a posted form; None if it is too long or none."""
    data = b""
    with anyio.move_on_after(30) as deadline:
        async for piece in request.stream():
            data += piece
            if len(data) > MAX_FORM:
                return None
    if deadline.cancelled_caught:
        return None
    try:
        fields = parse_qs(data.decode("ascii"), max_num_fields=8, keep_blank_values=True, encoding="utf-8", errors="strict")
    except ValueError:
        return None
    return {key: values[0] for key, values in fields.items()}


def _number(text: str | None) -> int | None:
    """A round's number from the address; what is none is left alone."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 9 else None


@lru_cache
def _static(name: str) -> bytes:
    return (_HERE / "static" / name).read_bytes()
