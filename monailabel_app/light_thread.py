"""Worker threads kept for short requests, so that `GET /info/` never waits behind forty that segment, upload or save.

Threads: FastAPI runs every `def` endpoint in one pool of 40 threads; a click that waits for the network holds one all the while. What runs
here must not wait for locks, other processes or large files.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi.encoders import jsonable_encoder
from starlette.responses import JSONResponse

LIGHT_THREADS = 4
_limiter = anyio.CapacityLimiter(LIGHT_THREADS)


async def answer_lightly(body: Callable[..., Any], *arguments: Any) -> JSONResponse:
    """What `body` returns, as JSON; computed and encoded in one of the kept threads."""
    return await anyio.to_thread.run_sync(partial(_answer, body, arguments), limiter=_limiter)


def _answer(body: Callable[..., Any], arguments: tuple[Any, ...]) -> JSONResponse:
    return JSONResponse(jsonable_encoder(body(*arguments)))
