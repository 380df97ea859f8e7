"""Pictures of views that cannot be rendered for once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

from workstation.pump import Pump


class FlakyView:
    """The first picture fails, those after it are black."""

    name, size = "Red", (8, 8)

    def __init__(self) -> None:
        self.asked = 0

    def picture(self) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise RuntimeError("the first picture fails")
        return np.zeros((8, 8, 3), np.uint8)


def test_a_picture_that_fails_does_not_end_the_pictures(caplog: pytest.LogCaptureFixture) -> None:
    async def try_it() -> dict[str, Any]:
        sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        view = FlakyView()
        pump = Pump(lambda meta, _content: sent.put_nowait(meta), lambda _view: {})
        pump.add(view)  # type: ignore[arg-type]
        pump.start()
        try:
            async with asyncio.timeout(60):
                while view.asked == 0:
                    await asyncio.sleep(0)
                pump.want("Red")
                return await sent.get()
        finally:
            await pump.stop()

    with caplog.at_level(logging.ERROR, "workstation"):
        assert asyncio.run(try_it())["view"] == "Red"
    assert "the first picture fails" in caplog.text
