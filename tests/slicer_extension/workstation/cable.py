"""The way between page and workstation, as an SSH tunnel is one: it can be cut, hang, and be whole again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

SECONDS = 60.0


class Cable:
    """Forwards a port of this computer to another one, in a thread of its own; the methods may be called from any thread."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, 0
        self._loop = asyncio.new_event_loop()
        self._there, self._back = asyncio.Event(), asyncio.Event()  # set: what goes to the target, what comes back, gets through
        self._listener: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="cable")
        self._thread.start()
        self._do(self._open())

    def cut(self) -> None:
        """Every connection breaks, new ones are refused."""
        self._do(self._cut())

    def hang(self, *, there: bool = False) -> None:
        """Connections stay, and new ones are taken, but nothing gets through; or only what goes there, and no answer."""
        self._do(self._flow(there, False))

    def mend(self) -> None:
        """As it was; what was held back while it hung comes through."""
        self._do(self._open())

    def close(self) -> None:
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _open(self) -> None:
        await self._flow(True, True)
        if self._listener is None:
            self._listener = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def _flow(self, there: bool, back: bool) -> None:
        for event, on in ((self._there, there), (self._back, back)):
            (event.set if on else event.clear)()

    async def _cut(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for end in self._ends:
            end.transport.abort()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # nobody is there: the caller is told as an SSH tunnel tells it
            writer.transport.abort()
            return
        self._ends |= {writer, back}
        with suppress(asyncio.CancelledError):
            await asyncio.gather(self._copy(reader, back, self._there), self._copy(there, writer, self._back))
        self._ends -= {writer, back}

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await source.read(2**16):
                await flows.wait()
                target.write(data)
                await target.drain()
        target.close()


@contextmanager
def cable(address: str) -> Iterator[tuple[Cable, str]]:
    """A cable to a page, and the page's address through it."""
    parts = urlsplit(address)
    made = Cable(parts.port or 80)
    try:
        yield made, parts._replace(netloc=f"127.0.0.1:{made.port}").geturl()
    finally:
        made.close()
