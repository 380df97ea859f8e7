"""Tuning, batch inference, choosing cases and reload in the place of MONAI Label's own: same requests, same replies.

What a client may add to such a request is limited: MONAI Label would put a `bundle_path` of the client's on the Python path of the
process it starts, and would import the app anew, without its background parts, at `POST /reload`.
"""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Depends, HTTPException
from monailabel.config import settings
from monailabel.endpoints import activelearning as monailabel_activelearning
from monailabel.endpoints import batch_infer as monailabel_batch
from monailabel.endpoints import train as monailabel_train
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.request_guard import RESERVED_PARAMETERS, checked_case_id, checked_tag, without_reserved
from monailabel_app.tuning_task import TUNING

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["Train"])

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Admin = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]
Parameters = Annotated[dict[str, Any] | None, Body()]


@router.post("/train/", include_in_schema=False)
def train_all(user: Admin, params: Parameters = None, run_sync: bool = False) -> dict[str, Any]:
    """Queue the one tuning there is."""
    return {TUNING: {"result": train(TUNING, user, params, run_sync, enqueue=True), "detail": None}}


@router.post("/train/{model}", include_in_schema=False)
def train(model: str, user: Admin, params: Parameters = None, run_sync: bool = False, enqueue: bool = False) -> Any:
    """Start a tuning of model `sam` in its own process. Everything it needs to know is in the site's settings: `params` are not used."""
    if model != TUNING:
        raise NotFoundError(f"There is no model {model[:80]!a} to tune, expected {TUNING}.")
    without_reserved(params or {})
    if run_sync:
        raise RequestError("run_sync=true is not offered: a tuning runs in a process of its own. GET /train/ tells how far it is.")
    return monailabel_train.run_model(TUNING, {}, False, enqueue)


@router.delete("/train/", include_in_schema=False)
def stop_training(user: Admin) -> Any:
    """Stop the tuning that runs; one that waits behind it is not begun."""
    app: FedSCALabelApp = app_instance()
    app.tuning_queue.cancel_waiting()
    return monailabel_train.stop()


@router.post("/batch/infer/{model}", include_in_schema=False)
def batch_infer(
    model: str, user: Admin, images: BatchInferImageType = BatchInferImageType.IMAGES_ALL, params: Parameters = None, run_sync: bool = False
) -> Any:
    """Segment many cases in a process of its own and save the masks under a tag, `original` if `params` names none."""
    app: FedSCALabelApp = app_instance()
    app.infer_task(model)
    given = dict(params or {})
    chosen = given.pop("images", None)
    checked = without_reserved(given)
    if isinstance(chosen, list):
        checked["images"] = [checked_case_id(str(case)) for case in chosen]
    checked_tag(str(checked.get("label_tag") or "original"))
    if run_sync:
        raise RequestError(
            "run_sync=true is not offered: batch inference runs in a process of its own. GET /batch/infer tells how far it is."
        )
    return monailabel_batch.run(model, images, {"max_workers": 1, "multi_gpu": False, **checked}, False)


@router.post("/activelearning/{strategy}", include_in_schema=False)
def next_case(strategy: str, user: User, params: Parameters = None) -> Any:
    """The next case to label, and what is kept about it; empty when none is left."""
    return monailabel_activelearning.sample(strategy, without_reserved(params or {}, RESERVED_PARAMETERS | {"strategy"}), user.username)


@router.post("/reload", include_in_schema=False)
def reload() -> None:
    """Refused: settings are read when the server starts."""
    raise HTTPException(403, "The app is not reloaded while it serves: restart the server.")
