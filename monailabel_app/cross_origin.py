"""Which web pages may use this server from a browser. Pure checks, and the middleware that applies them.

A page of the server itself always may. A page of another address may only if its origin is listed; MONAI Label by itself lets every page
of the internet use, with the radiologist's browser, a server that only this browser can reach. Programs that are no browsers (3D Slicer)
send no Origin and are not concerned. Where names are listed, requests to any other name are refused: a page that has its own name resolve
to this machine (DNS rebinding) would else count as a page of this server.
"""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sam_adapters.errors import SettingError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_ORIGIN_PATTERN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def checked_origin(text: str) -> str:
    """An origin as browsers send it: scheme, host and port, lower case, without the scheme's own port and without a slash at the end.

    Raises:
        SettingError: not an origin; `*` is none.
    """
    origin = text.strip().lower().removesuffix("/")
    origin = origin.removesuffix(_DEFAULT_PORTS.get(origin.partition("://")[0], "/"))
    if not _ORIGIN_PATTERN.fullmatch(origin):
        raise SettingError(f"Origin {text!r} cannot be used: expected a scheme and a host, for example https://viewer.hospital.example.")
    return origin


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` comes from the very host (and port) that the request went to."""
    parts = urlsplit(origin.lower())
    port = _DEFAULT_PORTS.get(parts.scheme, "")
    return bool(parts.netloc) and parts.netloc.removesuffix(port) == host.lower().removesuffix(port)


def host_name(host: str) -> str:
    """The name in a Host header, without the port, lower case."""
    return re.sub(r":[0-9]*$", "", host.strip().lower())


class OriginGuard:
    """ASGI middleware: refuses requests to names that are not listed (400), and requests of strangers' web pages that would change
    something (403). Reading is refused to such pages by the browser itself, because they get no CORS headers."""

    def __init__(self, app: ASGIApp, origins: Iterable[str], hosts: Iterable[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and host_name(host) not in self._hosts:
            refusal = JSONResponse({"detail": f"This server is not called {host[:80]!a}: call it {' or '.join(sorted(self._hosts))}."}, 400)
            await refusal(scope, receive, send)
        elif origin is not None and scope["method"] not in SAFE_METHODS and not self._allowed(origin, host):
            sentence = f"Web pages of {origin[:80]!a} may not use this server: the administrator can allow them with --origin."
            await JSONResponse({"detail": sentence}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _allowed(self, origin: str, host: str) -> bool:
        return origin.lower() in self._origins or same_origin(origin, host)
