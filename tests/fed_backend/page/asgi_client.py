"""Requests to the page without a network, one after the other."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from starlette.types import ASGIApp


class AsgiClient:
    """Keeps cookies, follows no redirect."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner, self._client = runner, client

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.get(path, **given))

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self._runner.run(self._client.post(path, **given))


@contextmanager
def asgi_client(app: ASGIApp, address: str) -> Iterator[AsgiClient]:
    """A client of the application, which believes to be reached at `address`."""
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=address, timeout=60)
        yield AsgiClient(runner, client)
        runner.run(client.aclose())
