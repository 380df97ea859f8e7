"""The interactive path over HTTP: `POST /fedsca/segment`, results, prefetching and jobs. `docs/http.md` describes it with examples.

Bodies are run in worker threads. Waiting for a job's news holds no thread: it is awaited.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from starlette.requests import Request
from starlette.responses import Response

from monailabel_app.app_errors import RequestError
from monailabel_app.image_sources import ImageSource, find_source
from monailabel_app.segment_models import (
    MAX_VIEWER,
    JobBegun,
    JobReply,
    PrefetchBody,
    PrefetchReply,
    PropagateBody,
    SegmentBody,
    SegmentReply,
    VolumeBody,
    refusals,
)

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

MAX_WAIT = 20.0
"""Longest wait for a job's news, in seconds: below what proxies cut off."""


class SentenceRoute(APIRoute):
    """A body or query of the wrong type is refused with 400 and a sentence, like everything else that cannot be used."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with its list of errors made a sentence."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise RequestError(validation_sentence(error.errors())) from error

        return answer


def validation_sentence(errors: Any) -> str:
    """The first of pydantic's errors as a sentence: where, what was expected, and what was there."""
    first = errors[0]
    place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    given = ascii(first.get("input"))
    shown = given if len(given) <= 80 else given[:77] + "..."
    where = f"The request's {place}" if place and first["type"] != "json_invalid" else "The request's body"
    return f"{where} cannot be used: {first['msg']}, but it is {shown}."


router = APIRouter(prefix="/fedsca", tags=["FedSCA"], route_class=SentenceRoute)

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Name = Annotated[str, Path(max_length=64, description="id, as a reply gave it")]


@router.post("/segment", response_model=SegmentReply, responses=refusals(400, 404, 422, 503))
def segment(body: SegmentBody, user: User) -> Any:
    """Segment one slice for one label. The prompts are all there are for it now; the reply holds what changed against `previous`."""
    app = _app()
    return app.fast.segment(find_source(app, body.image, body.session), body, str(user.username))


@router.get("/results/{name}", response_model=SegmentReply, responses=refusals(400, 404))
def result(name: Name, user: User, since: Annotated[str | None, Query(max_length=64, description="the result shown now")] = None) -> Any:
    """An earlier result again, for undo and redo: what has to change to get from `since` (or an empty mask) to it."""
    return _app().fast.result(name, since, str(user.username))


@router.post("/prefetch", response_model=PrefetchReply, responses=refusals(400, 404, 422, 503))
def prefetch(body: PrefetchBody, user: User) -> Any:
    """A viewer shows a slice: encode from there outwards in the background. Replaces what that viewer had queued."""
    app = _app()
    return app.fast.prefetch(find_source(app, body.image, body.session), body, str(user.username))


@router.delete("/prefetch", responses=refusals(400, 404))
def drop_prefetch(user: User, viewer: Annotated[str, Query(min_length=1, max_length=MAX_VIEWER)] = "viewer") -> dict[str, bool]:
    """A viewer was closed: forget what it has queued."""
    return {"dropped": _app().fast.drop_prefetch(viewer, str(user.username))}


@router.post("/propagate", response_model=JobBegun, responses=refusals(400, 404, 422, 429))
def propagate(body: PropagateBody, user: User) -> Any:
    """Carry a result on to the slices before and after it, in both directions, until the structure ends."""
    app = _app()

    def reopen(source: ImageSource) -> ImageSource:
        return find_source(app, *((source.name, None) if source.kind == "image" else (None, source.name)))

    return {"job": app.fast.propagate(body, str(user.username), reopen)}


@router.post("/volume", response_model=JobBegun, responses=refusals(400, 404, 422, 429, 503))
def volume(body: VolumeBody, user: User) -> Any:
    """Segment every slice without prompts, from `index` outwards. Only a tuned version is good at that."""
    app = _app()
    return {"job": app.fast.volume(find_source(app, body.image, body.session), body, str(user.username))}


@router.get("/jobs/{name}", response_model=JobReply, responses=refusals(400, 404))
async def job(
    name: Name,
    user: User,
    after: Annotated[int, Query(ge=0, description="number of the last slice that the client has")] = 0,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT, allow_inf_nan=False, description="seconds to wait for another slice")] = 0.0,
) -> Any:
    """How far a job is, and its slices after `after`; waits for news if there are none yet."""
    return await _app().fast.jobs.news(name, str(user.username), after=after, seconds=wait)


@router.delete("/jobs/{name}", response_model=JobReply, responses=refusals(404))
def cancel_job(name: Name, user: User) -> Any:
    """Cancel a job; the slices it has finished stay."""
    return _app().fast.jobs.cancel(name, str(user.username))


def _app() -> "FedSCALabelApp":
    app: FedSCALabelApp = app_instance()
    return app
