"""Which view is rendered when, and how its picture gets to the page.

The view that is worked in comes first; the others follow when it rests for a moment. A view has at most two pictures on their way: what
the page cannot show yet is not rendered. A view that rests is sent once more without loss.

Threads: rendering on the event loop's thread, encoding in one worker thread. No locks: everything else is on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from workstation.pictures import encode
from workstation.slice_view import View

MOST_ON_THE_WAY = 2
LOST_AFTER = 2.0  # seconds after which a picture that was never shown no longer counts
REST = 0.35  # a view that did not change for so long is sent without loss
CALM = 0.12  # the other views wait until the view that is worked in did not change for so long, but not longer than
PATIENCE = 0.5
log = logging.getLogger("workstation")


@dataclass
class Turn:
    """How a view stands."""

    view: View
    wanted: bool = True
    since: float = 0.0
    exact: bool = False
    changed: float = 0.0
    number: int = 0
    visible: bool = True
    on_the_way: dict[int, float] = field(default_factory=dict)


class Pump:
    """Renders views and sends their pictures.

    Args:
        send: publishes meta and bytes.
        describe: adds to a picture's meta; called on the loop when it is rendered.
    """

    def __init__(self, send: Callable[[dict[str, Any], bytes], None], describe: Callable[[View], dict[str, Any]]) -> None:
        self._send, self._describe = send, describe
        self._turns: dict[str, Turn] = {}
        self._wake = asyncio.Event()
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._task: asyncio.Task[None] | None = None
        self.first = ""

    def add(self, view: View) -> None:
        self._turns[view.name] = Turn(view)
        self.first = self.first or view.name

    def want(self, name: str) -> None:
        """A view changed."""
        turn = self._turns.get(name)
        if turn is None:
            return
        now = time.monotonic()
        if not turn.wanted:
            turn.since = now
        turn.wanted, turn.exact, turn.changed = True, False, now
        self._wake.set()

    def want_all(self) -> None:
        for name in self._turns:
            self.want(name)

    def set_visible(self, names: list[str]) -> None:
        """Only these are on the page."""
        for name, turn in self._turns.items():
            turn.visible = name in names
        self._wake.set()

    def shown(self, name: str, number: int) -> None:
        """The page shows a picture: those before it are done, too."""
        turn = self._turns.get(name)
        if turn is not None:
            turn.on_the_way = {other: at for other, at in turn.on_the_way.items() if other > number}
            self._wake.set()

    def page_opened(self) -> None:
        """A page that has nothing yet."""
        for turn in self._turns.values():
            turn.on_the_way.clear()
        self.want_all()

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._encoder.shutdown(wait=True)

    async def _run(self) -> None:
        while True:
            turn, exact, wait = self._next(time.monotonic())
            if turn is not None:
                try:
                    await self._render(turn, exact)
                except Exception:  # one picture that fails must not end all others; the next change asks for it again
                    log.exception("A picture of the view %s could not be made", turn.view.name)
                await asyncio.sleep(0)
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait)

    def _next(self, now: float) -> tuple[Turn | None, bool, float | None]:
        """The view to render and whether without loss, or how long to wait (None: until something is wanted)."""
        waits: list[float] = []
        turns = [turn for turn in self._turns.values() if turn.visible]
        first = self._turns.get(self.first)
        for turn in sorted(turns, key=lambda turn: turn is not first):
            turn.on_the_way = {number: at for number, at in turn.on_the_way.items() if now - at < LOST_AFTER}
            if len(turn.on_the_way) >= MOST_ON_THE_WAY:
                waits.append(0.1)
                continue
            if turn.wanted:
                calm = CALM - (now - first.changed) if first is not None and turn is not first else 0.0
                patience = PATIENCE - (now - turn.since)
                if min(calm, patience) <= 0:
                    return turn, False, None
                waits.append(min(calm, patience))
            elif not turn.exact and turn.number:
                if now - turn.changed >= REST:
                    return turn, True, None
                waits.append(REST - (now - turn.changed))
        return None, False, min(waits, default=None)

    async def _render(self, turn: Turn, exact: bool) -> None:
        turn.wanted, turn.exact = False, exact
        turn.number += 1
        began = time.monotonic()
        meta = {"view": turn.view.name, "number": turn.number, "exact": exact, "size": turn.view.size, **self._describe(turn.view)}
        pixels = turn.view.picture()
        meta["rendered"] = round(1000 * (time.monotonic() - began), 1)
        loop = asyncio.get_running_loop()
        meta["type"], content = await loop.run_in_executor(self._encoder, lambda: encode(pixels, exact=exact))
        turn.on_the_way[turn.number] = time.monotonic()
        self._send(meta, content)
