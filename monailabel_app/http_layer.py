"""Puts this app's routes, its request guard and its error answers into MONAI Label's web server.

MONAI Label builds its FastAPI application before it imports the app, and starts serving after `on_init_complete`: that is where `install`
is called, once. Nothing of MONAI Label's is changed; the routes here come before its own of the same address.
"""

import json
import logging
from collections.abc import Callable

from fastapi import FastAPI
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException, MONAILabelException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from monailabel_app import datastore_routes, fast_routes, image_routes, inference_routes, site_routes, task_routes
from monailabel_app.app_errors import BusyError, NotFoundError, RemoteStudiesError, RequestError
from monailabel_app.request_guard import RequestGuard
from sam_adapters.errors import (
    AdapterError,
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
    BaseModelError: 503,
    RemoteStudiesError: 503,
    SegmentationCancelledError: 503,
    MONAILabelException: 400,
    FedscaError: 500,
}
"""HTTP status by error; the nearest class of an error's own counts."""


def install(api: FastAPI) -> None:
    """Extend MONAI Label's application; a second call changes nothing."""
    if getattr(api.state, "fedsca_installed", False):
        return
    for error_class, status in STATUS_OF.items():
        api.add_exception_handler(error_class, _answer(status))
    for routes in (site_routes, fast_routes, task_routes, datastore_routes, image_routes, inference_routes):
        api.include_router(routes.router)
        api.router.routes.insert(0, api.router.routes.pop())  # before MONAI Label's own of the same address
    api.user_middleware.append(Middleware(RequestGuard))  # innermost: refusals carry the CORS headers too
    api.middleware_stack = api.build_middleware_stack()  # the one built for the start-up itself lacks all of this
    api.state.fedsca_installed = True


def _answer(status: int) -> Callable[[Request, Exception], JSONResponse]:
    """An exception handler that answers with the error's own sentence."""

    def answer(request: Request, error: Exception) -> JSONResponse:
        detail = str(getattr(error, "msg", "") or error)
        logger.info("%s %s: %d %s", request.method, request.url.path, status, detail)
        wait = getattr(error, "retry_after", None)
        return JSONResponse({"detail": detail}, status_code=status, headers=None if wait is None else {"Retry-After": str(wait)})

    return answer
