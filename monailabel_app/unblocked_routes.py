"""MONAI Label's own endpoints, off the event loop: same addresses, same bodies, each run in a worker thread.

MONAI Label 0.8.5 declares its endpoints `async def` and then reads files, takes locks and waits for processes in them, so that one slow
request holds up all others. None of them awaits anything (but the DICOM proxy, which is refused here): their coroutines end at the first
step, and that step can be taken in a worker thread. What cannot be left as it is has its own route, in `datastore_routes`,
`session_routes`, `task_routes`, `site_routes`, `login_routes` or `refused_routes`, which come first.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.encoders import jsonable_encoder
from fastapi.routing import APIRoute
from monailabel.endpoints import batch_infer, datastore, logs, scoring, train
from starlette.responses import JSONResponse, Response

MODULES = (batch_infer, datastore, logs, scoring, train)


def unblocked_router() -> APIRouter:
    """A router with MONAI Label's remaining endpoints as plain functions, which FastAPI runs in its worker threads."""
    router = APIRouter()
    for route in _routes():
        methods = sorted(route.methods or ())
        router.add_api_route(route.path, in_worker(route.endpoint), methods=methods, response_model=None, include_in_schema=False)
    return router


def in_worker(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Response]:
    """A plain function with the parameters of `endpoint`; the reply is encoded in it too, since a large index takes its time."""

    def call(**parameters: Any) -> Response:
        result = finished(endpoint(**parameters))
        return result if isinstance(result, Response) else JSONResponse(jsonable_encoder(result))

    call.__name__ = endpoint.__name__
    call.__doc__ = endpoint.__doc__
    call.__signature__ = inspect.signature(endpoint)  # type: ignore[attr-defined]  # not __wrapped__: FastAPI would take it for async
    return call


def finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that awaits nothing.

    Raises:
        RuntimeError: it does await something; whatever it raises itself.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError(f"{coroutine} waits for the event loop and cannot be run in a worker thread.")


def _routes() -> Iterator[APIRoute]:
    for module in MODULES:
        for route in module.router.routes:
            if isinstance(route, APIRoute) and inspect.iscoroutinefunction(route.endpoint):
                yield route
