"""Uploads of images, labels and session images in the place of MONAI Label's own: same requests, same replies.

They run in worker threads (a large upload does not hold up others), refuse what is not an image before it is stored, and take the file's
name for nothing but its ending.
"""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.background import BackgroundTasks
from monailabel.config import settings
from monailabel.endpoints import session as monailabel_session
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance

from monailabel_app.case_roles import FINAL_TAG, LABEL_INFO
from monailabel_app.infer_parameters import checked_version
from monailabel_app.label_check import header_geometry
from monailabel_app.request_guard import checked_case_id, checked_parameters, checked_tag
from monailabel_app.uploads import stored_upload, upload_name

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["Datastore"])

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]
Annotator = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]


@router.put("/datastore/", include_in_schema=False)
@router.put("/datastore/image", include_in_schema=False)
def put_image(
    user: Annotator, file: Annotated[UploadFile, File()], image: str | None = None, params: Annotated[str, Form()] = "{}"
) -> dict[str, Any]:
    """Add an image to the studies; without `image` its case is named like the file."""
    info = {**checked_parameters(params), "user": user.username}
    stem, _ = upload_name(file)
    case = checked_case_id(image or stem)
    app: FedSCALabelApp = app_instance()
    with stored_upload(file) as path:
        header_geometry(path)
        return {"image": app.datastore().add_image(case, str(path), info)}


@router.put("/datastore/label", include_in_schema=False)
def put_label(
    user: Annotator, image: str, label: Annotated[UploadFile, File()], tag: str = FINAL_TAG, params: Annotated[str, Form()] = "{}"
) -> dict[str, Any]:
    """Save a finished label. The reply says under `fedsca` whether it can be tuned on and whether a tuning was queued."""
    info = checked_parameters(params, reserved=frozenset())
    info.pop(LABEL_INFO, None)  # that is for `label_intake` to say
    if info.get("version") not in (None, "", "active"):
        checked_version(info["version"])
    if settings.MONAI_LABEL_AUTH_ENABLE:
        info["user"] = user.username
    else:
        info.pop("user", None)
    case, checked = checked_case_id(image), checked_tag(tag or FINAL_TAG)
    app: FedSCALabelApp = app_instance()
    with stored_upload(label) as path, app.saving:
        label_id = app.datastore().save_label(case, str(path), checked, info)
        taken = app.on_save_label(case, label_id)
    return {**taken, "image": case, "label": label_id}


@router.put("/session/", include_in_schema=False)
def put_session(background: BackgroundTasks, user: User, files: Annotated[list[UploadFile], File()], expiry: int = 0) -> dict[str, Any]:
    """Keep an image for a while without adding it to the studies."""
    for file in files:
        stem, extension = upload_name(file)
        file.filename = checked_case_id(stem) + extension
    return dict(monailabel_session.create_session(background, False, expiry, files))
