"""Who may use the page: whoever opens the address with the one-time token first, and after that only that browser.

The token is in the address that is printed and opened at the start. Its first use sets a cookie (HttpOnly, SameSite=Strict) and is the
last: the address is worthless in a history or a log. Every other request, the WebSocket's too, needs the cookie; requests that name
another host or come from another page are refused, so that neither a page elsewhere nor a name that was bent to this computer gets in.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from FedSCALib.translate import tr

from workstation.settings import is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# The page compiles its templates in the browser (unsafe-eval); nothing may come from or go to anywhere else.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' blob: data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Door:
    """Lets one browser in."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe(24)
        self._used = False
        self._key = secrets.token_urlsafe(32)

    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        """For an aiohttp application."""

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not own_host(request.headers.get("Host", "")) or not own_origin(request.headers):
                return refusal(tr("This page is only for this computer."))
            given = request.query.get("token")
            if given is not None and request.path in ("/", "/index.html") and self._may_enter(given):
                welcome = web.HTTPSeeOther("/index.html")
                welcome.set_cookie(cookie_name(request), self._key, httponly=True, samesite="Strict", path="/")
                raise welcome
            if not hmac.compare_digest(request.cookies.get(cookie_name(request), "").encode(), self._key.encode()):
                return refusal(
                    tr("Open the address that the workstation printed when it was started; it can be used once, in one browser.")
                )
            reply = await handler(request)
            if not reply.prepared:
                reply.headers.update(HEADERS)
            return reply

        return guard

    def _may_enter(self, token: str) -> bool:
        if self._used or not hmac.compare_digest(token.encode(), self.token.encode()):
            return False
        self._used = True
        return True


def cookie_name(request: web.Request) -> str:
    """Cookies are shared by the ports of a computer: each workstation has its own name."""
    return f"fedsca-workstation-{urlsplit('//' + request.headers.get('Host', '')).port or 80}"


def own_host(host: str) -> bool:
    """Whether a Host header names this computer."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def own_origin(headers: object) -> bool:
    """Whether a request comes from our own page, or from no page at all."""
    get = getattr(headers, "get")  # noqa: B009
    origin = get("Origin")
    return origin is None or urlsplit(origin).netloc == get("Host")


def refusal(text: str) -> web.Response:
    """403 as a plain page."""
    return web.Response(status=403, text=text, headers=HEADERS)
