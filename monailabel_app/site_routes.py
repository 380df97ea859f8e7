"""What this app adds to MONAI Label's interface: `GET /fedsca/status`, `GET /fedsca/adapters`, `POST /fedsca/adapters/{id}/activate`."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.site_status import site_status
from sam_adapters.provenance import BASE, VERSION_ID_PATTERN

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(prefix="/fedsca", tags=["FedSCA"])

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Admin = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]

MAX_REASON = 500


@router.get("/status", summary="What serves, what is being tuned, what is labelled")
def status(user: User) -> dict[str, Any]:
    """The site's present state; see `site_status`."""
    return site_status(_app())


@router.get("/adapters", summary="All adapter versions and the decisions about them")
def adapters(user: User) -> dict[str, Any]:
    """Versions in the order in which they were made, decisions oldest first."""
    registry = _app().engine.registry
    return {
        "active": _app().engine.active_version(),
        "generation": registry.generation(),
        "versions": [version.to_dict() for version in registry.versions()],
        "decisions": [decision.to_dict() for decision in registry.decisions()],
    }


@router.post("/adapters/{version}/activate", summary="Make a version, or the untuned base, the one that serves")
def activate(version: str, user: Admin, params: Annotated[dict[str, Any] | None, Body()] = None) -> dict[str, Any]:
    """Activate a version id or `base`; the next request is served by it. The body may hold {"reason": "..."}."""
    if version != BASE and not VERSION_ID_PATTERN.fullmatch(version):
        raise NotFoundError(f"There is no adapter version {version[:80]!a}: GET /fedsca/adapters lists them.")
    reason = (params or {}).get("reason") or "Activated through the server's interface."
    if not isinstance(reason, str) or len(reason) > MAX_REASON:
        raise RequestError(f"reason must be a text of at most {MAX_REASON} characters.")
    registry = _app().engine.registry
    registry.activate(version, reason=reason, by=str(user.username) if settings.MONAI_LABEL_AUTH_ENABLE else "person")
    return {"active": _app().engine.active_version(), "generation": registry.generation()}


def _app() -> "FedSCALabelApp":
    app: FedSCALabelApp = app_instance()
    return app
