"""Audit lines for what is done through MONAI Label's own endpoints: images added, images and labels removed, the dataset carried off,
tunings begun and stopped. Labels saved and versions activated are recorded where that happens, with more to say.
"""

import logging
from urllib.parse import parse_qs

import anyio
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam_adapters.audit import AuditLog
from sam_adapters.errors import AuditError

logger = logging.getLogger(__name__)

EVENTS = {
    ("PUT", "/datastore"): "image_added",
    ("PUT", "/datastore/image"): "image_added",
    ("DELETE", "/datastore"): "image_removed",
    ("DELETE", "/datastore/image"): "image_removed",
    ("DELETE", "/datastore/label"): "label_removed",
    ("GET", "/datastore/dataset"): "dataset_downloaded",
    ("POST", "/train"): "tuning_asked",
    ("POST", "/train/sam"): "tuning_asked",
    ("DELETE", "/train"): "tuning_stopped",
}
NAMED = ("id", "image", "tag")
"""Parts of the query that the line repeats."""


class AuditedRequests:
    """ASGI middleware: writes the line when such a request has succeeded, before its reply is sent."""

    def __init__(self, app: ASGIApp, log: AuditLog) -> None:
        self.app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        event = EVENTS.get((scope["method"], scope["path"].rstrip("/"))) if scope["type"] == "http" else None
        if event is None:
            await self.app(scope, receive, send)
            return
        unwritten = False

        async def audited_send(message: Message) -> None:
            nonlocal unwritten
            if message["type"] == "http.response.start" and message["status"] < 400:
                try:
                    await anyio.to_thread.run_sync(self._record, event, scope)
                except AuditError as error:
                    unwritten = True
                    logger.error("%s", error)
                    await JSONResponse({"detail": f"It was done, but not written down: {error}"}, 503)(scope, receive, send)
            if not unwritten:
                await send(message)

        await self.app(scope, receive, audited_send)

    def _record(self, event: str, scope: Scope) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), encoding="utf-8", errors="replace")
        self._log.record(event, **{key: query[key][0] for key in NAMED if key in query})
