"""Which names and parameters a request may carry. Pure checks, and the middleware that applies them to every path and query.

MONAI Label joins ids, tags and session ids from requests to folders of the server's disk. Three layers keep that inside the studies: this
middleware for paths and queries, the routes for bodies (`inference_routes`, `datastore_routes`, `task_routes`), and
`guarded_datastore` for whatever reaches the disk by any other way.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from monailabel_app.app_errors import RequestError

MAX_CASE_BYTES = 200
"""Longest case id in UTF-8 bytes: with the longest ending it stays below the 255 that file systems take."""

TAG_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
MAX_DEPTH = 32
"""Deepest nesting of lists and objects in a request's parameters."""

SESSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")

RESERVED_PARAMETERS = frozenset({"image", "images", "model", "file", "session", "session_id", "studies", "app_dir", "bundle_path"})
"""Keys that a client's `params` may not hold: they would replace what the address of the request says, or name files of the server."""


def checked_case_id(text: str) -> str:
    """Return `text` if it can name a case (and a file), else raise RequestError."""
    if not text or len(text.encode(errors="replace")) > MAX_CASE_BYTES:
        raise RequestError(f"Image id {_shown(text)} cannot be used: expected 1 to {MAX_CASE_BYTES} bytes.")
    if "/" in text or "\\" in text or text.startswith(".") or not text.isprintable():
        raise RequestError(
            f"Image id {_shown(text)} cannot be used: expected a case of the datastore; a case's name has no '/', no '\\', no control "
            "characters and does not start with '.'."
        )
    return text


def checked_tag(text: str) -> str:
    """Return `text` if it can be a label's tag (and a folder), else raise RequestError."""
    if not TAG_PATTERN.fullmatch(text):
        raise RequestError(
            f"Label tag {_shown(text)} cannot be used: expected 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit."
        )
    return str.__str__(text)


def checked_session_id(text: str) -> str:
    """Return `text` if it can be a session's id (and a folder), else raise RequestError."""
    if not SESSION_PATTERN.fullmatch(text):
        raise RequestError(f"Session id {_shown(text)} cannot be used: expected letters, digits and '-', as PUT /session/ returned it.")
    return text


def checked_parameters(text: str | None, *, reserved: frozenset[str] = RESERVED_PARAMETERS) -> dict[str, Any]:
    """The `params` of a request as dictionary.

    Raises:
        RequestError: not a JSON object, or as `without_reserved`.
    """
    try:
        value = json.loads(text or "{}", parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The request's params are not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise RequestError(f"The request's params are a {type(value).__name__}, expected a JSON object.")
    return without_reserved(value, reserved)


def without_reserved(parameters: Mapping[str, Any], reserved: frozenset[str] = RESERVED_PARAMETERS) -> dict[str, Any]:
    """A copy of `parameters`.

    Raises:
        RequestError: a reserved key is among them, or they hold what no JSON file or reply can hold: a number that is not finite, half of
            a surrogate pair, or nesting beyond `MAX_DEPTH`.
    """
    found = sorted(reserved & set(parameters))
    if found:
        raise RequestError(f"params must not hold {', '.join(found)}: name image, session and model in the address of the request.")
    check_json(parameters)
    return dict(parameters)


def check_json(value: object) -> None:
    """Raise RequestError for a parsed JSON value that could not be written again; see `without_reserved`. Not recursive."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        for part in level:
            if isinstance(part, float) and not math.isfinite(part):
                raise RequestError("The request's params hold a number that is not finite, expected ordinary numbers.")
            if isinstance(part, str) and not part.isascii() and any("\ud800" <= character <= "\udfff" for character in part):
                raise RequestError("The request's params hold half of a surrogate pair, expected Unicode text.")
        level = [inner for part in level for inner in _parts(part)]
        if not level:
            return
    raise RequestError(f"The request's params are nested more than {MAX_DEPTH} deep.")


def _parts(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


def check_path(path: str) -> None:
    """Raise RequestError for a path (percent-decoded) that climbs, or holds what no address of this server holds."""
    segments = path.split("/")
    if any(segment in (".", "..") or "\\" in segment or "\0" in segment or len(segment) > 255 for segment in segments):
        raise RequestError(f"Path {_shown(path)} cannot be used: it has a segment '.' or '..', a backslash, a NUL or an over-long segment.")
    if len(segments) >= 2 and segments[-2] == "session" and segments[-1]:
        checked_session_id(segments[-1])


def check_query(query: bytes) -> None:
    """Raise RequestError for a query string with an id, tag or session id that cannot be one. Empty values are left to the endpoint."""
    for key, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace"):
        check = _QUERY_CHECKS.get(key)
        if check is not None and value:
            check(value)


class RequestGuard:
    """ASGI middleware: answers 400 with a sentence to requests whose path or query cannot be used; all others pass untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "http":
            try:
                check_path(scope["path"])
                check_query(scope["query_string"])
            except RequestError as error:
                await JSONResponse({"detail": str(error)}, status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


_QUERY_CHECKS: Mapping[str, Callable[[str], object]] = {
    "image": checked_case_id,
    "id": checked_case_id,
    "label": checked_case_id,
    "tag": checked_tag,
    "session_id": checked_session_id,
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _shown(text: str) -> str:
    """`text` for a message: quoted, control characters escaped, cut."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
