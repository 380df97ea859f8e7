"""ASGI middlewares that say who calls: the address for the audit log, and, where there is a login, the user of a valid token.

With a login on, every address of the server but /auth/ and /auth/token wants a token, also those that MONAI Label leaves open: the
documentation, /static and /reload.
"""

from collections.abc import Awaitable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sam_adapters.audit import Caller, calling
from sam_adapters.errors import AuthorityError, CredentialsError
from sam_adapters.login.authority import Authority, SignedIn

OPEN_PATHS = frozenset({"/auth/", "/auth/token"})
SIGNED_IN = "fedsca.signed_in"
"""Key of the scope under which the endpoints find the user."""

MAX_TOKEN = 8192


class CallerNotes:
    """Tells the audit log from which address a request comes."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with calling(Caller(address=_address(scope))):
            await self.app(scope, receive, send)


class TokenGate:
    """Lets in who has a valid token: 401 else, 503 when it cannot be checked."""

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self.app = app
        self._authority = authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in OPEN_PATHS):
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "No websockets here."})
            return
        try:
            user = await self._user(Headers(scope=scope).get("authorization", ""))
        except CredentialsError as error:
            await JSONResponse({"detail": str(error)}, 401, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        except AuthorityError as error:
            await JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "10"})(scope, receive, send)
            return
        scope[SIGNED_IN] = user
        with calling(Caller(who=user.username, address=_address(scope))):
            await self.app(scope, receive, send)

    def _user(self, authorization: str) -> Awaitable[SignedIn]:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not 0 < len(token.strip()) <= MAX_TOKEN:
            raise CredentialsError("This server wants a login: POST /auth/token gives a token for a user name and a password.")
        return self._authority.signed_in(token.strip())


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
