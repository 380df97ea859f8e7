"""Puts this app's routes, its request guard and its error answers into MONAI Label's web server.

MONAI Label builds its FastAPI application before it imports the app, and starts serving after `on_init_complete`: that is where `install`
is called, once. Nothing of MONAI Label's is changed; the routes here come before its own of the same address.
"""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from monailabel_app import datastore_routes, fast_routes, inference_routes, refused_routes, session_routes, site_routes, task_routes
from monailabel_app.app_errors import BusyError, NotFoundError, RemoteStudiesError, RequestError
from monailabel_app.request_guard import RequestGuard
from monailabel_app.unblocked_routes import unblocked_router
from sam_adapters.errors import (
    AdapterError,
    AuditError,
    BaseModelError,
    FedscaError,
    ImageError,
    LabelError,
    PromptError,
    RegistryError,
    SegmentationCancelledError,
    SettingError,
    TuningError,
    UnknownVersionError,
)

logger = logging.getLogger(__name__)

STATUS_OF: dict[type[Exception], int] = {
    RequestError: 400,
    PromptError: 400,
    SettingError: 400,
    json.JSONDecodeError: 400,
    NotFoundError: 404,
    UnknownVersionError: 404,
    ImageNotFoundException: 404,
    LabelNotFoundException: 404,
    AdapterError: 409,
    RegistryError: 409,
    TuningError: 409,
    ImageError: 422,
    LabelError: 422,
    BusyError: 429,
    AuditError: 503,
    BaseModelError: 503,
    RemoteStudiesError: 503,
    SegmentationCancelledError: 503,
    MONAILabelException: 400,
    FedscaError: 500,
}
"""HTTP status by error; the nearest class of an error's own counts."""

MAX_COMPLAINTS = 5


def install(api: FastAPI, hidden: Sequence[Path]) -> None:
    """Extend MONAI Label's application; a second call changes nothing.

    Args:
        hidden: folders of the server that no refusal names.
    """
    if getattr(api.state, "fedsca_installed", False):
        return
    for error_class, status in STATUS_OF.items():
        api.add_exception_handler(error_class, _answer(status, hidden))
    api.add_exception_handler(RequestValidationError, _invalid)
    api.add_exception_handler(Exception, _failed)
    own = (site_routes, fast_routes, task_routes, datastore_routes, session_routes, inference_routes, refused_routes)
    # The last one inserted comes first: what is refused before what is served, and MONAI Label's own bodies after all of ours.
    for router in (unblocked_router(), *(routes.router for routes in own)):
        api.include_router(router)
        api.router.routes.insert(0, api.router.routes.pop())  # before MONAI Label's own of the same address
    api.user_middleware.append(Middleware(RequestGuard))  # innermost: refusals carry the CORS headers too
    api.middleware_stack = api.build_middleware_stack()  # the one built for the start-up itself lacks all of this
    api.state.fedsca_installed = True


def _answer(status: int, hidden: Sequence[Path]) -> Callable[[Request, Exception], JSONResponse]:
    """An exception handler that answers with the error's own sentence."""
    folders = sorted((str(folder) for folder in hidden), key=len, reverse=True)

    def answer(request: Request, error: Exception) -> JSONResponse:
        detail = str(getattr(error, "msg", "") or error)
        logger.info("%s %s: %d %s", request.method, request.url.path, status, detail)
        for folder in folders:
            detail = detail.replace(folder, "…")
        wait = getattr(error, "retry_after", None)
        return JSONResponse({"detail": detail}, status_code=status, headers=None if wait is None else {"Retry-After": str(wait)})

    return answer


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """A request that lacks something or has it in the wrong type, as one sentence; FastAPI answers with a list of objects."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    parts = [f"{' '.join(str(place)[:40] for place in one['loc'])}: {one['msg']}" for one in found[:MAX_COMPLAINTS]]
    more = f" and {len(found) - MAX_COMPLAINTS} more" if len(found) > MAX_COMPLAINTS else ""
    return JSONResponse({"detail": f"The request cannot be used ({'; '.join(parts)}{more})."}, status_code=422)


def _failed(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: the log has the details, which are nobody else's business."""
    return JSONResponse({"detail": "The server failed on this request; its log says why."}, status_code=500)
