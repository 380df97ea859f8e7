"""Who looks at the page: a login by name and password, kept as a signed token in a cookie that scripts and other sites cannot use.

The token is the built-in login's own (`sam_adapters.login.user_file_login`): short-lived, and over at once when its user is removed or gets
another password. Cookies of other sites' requests never come with it (SameSite=Strict), and a form is taken only from this page itself
(`from_this_page`), so nobody can be logged in or out by another site.
"""

import hmac
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from fed_backend.audit_anchors import server_log
from fed_backend.page.page_options import USERS_FILE, PageOptions
from sam_adapters.errors import LoginError
from sam_adapters.login.login_desk import LoginDesk
from sam_adapters.login.user_file import ROLES, UserFile
from sam_adapters.login.user_file_login import UserFileLogin

COMMAND = "fedsca server users"
MAX_COOKIE = 4096


class Sessions:
    """Logins of one page."""

    def __init__(self, options: PageOptions) -> None:
        file = UserFile(options.state / USERS_FILE, command=COMMAND)
        self._login = UserFileLogin(file, {role: role for role in ROLES}, minutes=options.minutes)
        self._options = options
        self.desk = LoginDesk(self._login, server_log(options.state))

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers take one that begins with __Host- from https alone, and from no other host."""
        return "__Host-fedsca" if self._options.tls else "fedsca"

    async def user(self, request: Request) -> str | None:
        """The name of the user who is signed in; None where nobody is."""
        token = request.cookies.get(self.cookie, "")
        if not token or len(token) > MAX_COOKIE:
            return None
        try:
            return (await self._login.signed_in(token)).username
        except LoginError:
            return None

    def begin(self, response: Response, token: str) -> Response:
        """Put the cookie into a response."""
        seconds = round(self._options.minutes * 60)
        response.set_cookie(self.cookie, token, max_age=seconds, path="/", httponly=True, samesite="strict", secure=self._options.tls)
        return response

    def end(self, response: Response) -> Response:
        """Take the cookie out of the browser."""
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="strict", secure=self._options.tls)
        return response

    def scraper(self, request: Request) -> bool:
        """Whether the request brings the token for metrics."""
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        expected = self._options.metrics_token
        return bool(expected) and kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected.encode())


def from_this_page(request: Request) -> bool:
    """Whether a form was sent by a page of this server: its Origin is the address that the request went to.

    Every browser of today sends Origin with a form that is posted; one that does not has to say by Sec-Fetch-Site that it is ours.
    """
    origin = request.headers.get("origin")
    if origin is None:
        return request.headers.get("sec-fetch-site") == "same-origin"
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == request.url.scheme and bool(parts.netloc) and parts.netloc == request.headers.get("host")
