"""What this app adds to MONAI Label's interface: `GET /fedsca/status`, `GET /fedsca/adapters`, `POST /fedsca/adapters/{id}/activate`; and
`GET /info/`, `GET /logs/` in the place of MONAI Label's own."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import APIRouter, Body, Depends
from monailabel.config import settings
from monailabel.endpoints.logs import get_logs
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from starlette.responses import JSONResponse, Response

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.light_thread import answer_lightly
from monailabel_app.request_guard import without_reserved
from monailabel_app.site_status import site_status
from sam_adapters.provenance import BASE, VERSION_ID_PATTERN
from sam_adapters.registry import id_or_base

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["FedSCA"])

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Admin = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]

MAX_REASON = 500
MAX_LOG_LINES = 100_000
GPU_SECONDS = 20.0


@router.get("/info/", include_in_schema=False)
async def info(user: User) -> JSONResponse:
    """MONAI Label's description of the app."""
    return await answer_lightly(_app().info)


@router.get("/fedsca/status", summary="What serves, what is being tuned, what is labelled")
async def status(user: User) -> JSONResponse:
    """The site's present state; see `site_status`."""
    return await answer_lightly(site_status, _app())


@router.get("/fedsca/adapters", summary="All adapter versions and the decisions about them")
def adapters(user: User) -> dict[str, Any]:
    """Versions in the order in which they were made, decisions oldest first."""
    registry = _app().engine.registry
    return {
        "active": _app().engine.active_version(),
        "learnt_from": id_or_base(registry.learnt_from()),
        "generation": registry.generation(),
        "versions": [version.to_dict() for version in registry.versions()],
        "decisions": [decision.to_dict() for decision in registry.decisions()],
    }


@router.post("/fedsca/adapters/{version}/activate", summary="Make a version, or the untuned base, the one that serves")
def activate(version: str, user: Admin, params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
    """Activate a version id or `base`; the next request is served by it. The body may hold {"reason": "..."}."""
    if version != BASE and not VERSION_ID_PATTERN.fullmatch(version):
        raise NotFoundError(f"There is no adapter version {version[:80]!a}: GET /fedsca/adapters lists them.")
    reason = without_reserved(params or {}).get("reason") or "Activated through the server's interface."
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise RequestError(f"reason must be a text of at most {MAX_REASON} characters.")
    registry = _app().engine.registry
    registry.activate(version, reason=reason, by=str(user.username) if settings.MONAI_LABEL_AUTH_ENABLE else "person")
    return {"active": _app().engine.active_version(), "generation": registry.generation()}


@router.get("/logs/", include_in_schema=False)
def logs(user: Admin, lines: int = 300, html: bool = True, text: bool = False, refresh: int = 0) -> Response:
    """The end of the server's log."""
    file = Path(settings.MONAI_LABEL_APP_DIR) / "logs" / "app.log"
    if not file.is_file():
        raise NotFoundError("This server keeps no log file: its log is where it was started.")
    return cast(Response, get_logs(str(file), min(max(lines, 1), MAX_LOG_LINES), html, text, min(refresh, 3600)))


@router.get("/logs/gpu", include_in_schema=False)
def gpu(user: Admin) -> Response:
    """What `nvidia-smi` says."""
    try:
        said = subprocess.run(["nvidia-smi"], capture_output=True, timeout=GPU_SECONDS, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        raise NotFoundError("nvidia-smi is not installed here or does not answer: the device in use is under GET /fedsca/status.") from None
    return Response(said, media_type="text/plain")


def _app() -> "FedSCALabelApp":
    app: FedSCALabelApp = app_instance()
    return app
