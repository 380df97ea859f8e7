"""`POST /infer/{model}` in the place of MONAI Label's own: same request, same reply.

Two differences. The body runs in a worker thread, so that other requests are answered meanwhile (MONAI Label runs it on the event loop).
And what the client sends is checked: `params` cannot name another image, and an image is a case, an upload or a session, never a path.
"""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, File, Form, UploadFile
from fastapi.responses import JSONResponse, Response
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from requests_toolbelt import MultipartEncoder

from monailabel_app.app_errors import RequestError
from monailabel_app.case_roles import FINAL_TAG
from monailabel_app.image_sources import session_image
from monailabel_app.request_guard import checked_case_id, checked_parameters
from monailabel_app.segmentation_task import CLICKED_SLICES
from monailabel_app.server_file import ServerFile
from monailabel_app.uploads import stored_upload

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["Infer"])


@router.post("/infer/{model}", include_in_schema=False)
def infer(
    model: str,
    user: Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Response:
    """Segment a case, an uploaded file or a session's image; see `infer_parameters` for `params`. An uploaded `label` is not used."""
    if output == ResultType.dicom_seg:
        raise RequestError("output=dicom_seg is not offered: expected image, json or all.")
    app: FedSCALabelApp = app_instance()
    request = checked_parameters(params)
    if request.get("save_label") and request.get("label_tag") == FINAL_TAG:
        raise RequestError("A final label is a person's: look at the mask, then save it with PUT /datastore/label.")
    app.infer_task(model)
    with ExitStack() as stack:
        if file is not None and not session_id:
            request["image"] = ServerFile(stack.enter_context(stored_upload(file)))
        elif session_id:
            request["image"] = ServerFile(session_image(app, session_id))
        elif image:
            request["image"] = checked_case_id(image)
        else:
            raise RequestError("No image: give a case of the datastore (image), a session (session_id) or a file.")
        result = app.infer({**request, "model": model})
        if not (file is not None and not session_id):  # an uploaded file is gone after this request
            path = str(request["image"]) if session_id else app.datastore().get_image_uri(request["image"])
            _prefetch_neighbours(app, Path(path), result["params"], str(user.username))
    if result["file"] is None:  # it was saved as a label
        saved = app.datastore().get_label_uri(result["label"], result["tag"])
        return _reply({**result, "file": saved}, output, keep=True)
    return _reply(result, output)


def _prefetch_neighbours(app: "FedSCALabelApp", path: Path, params: Mapping[str, Any], owner: str) -> None:
    """After a click on few slices, their neighbours are likely to be next."""
    slices = [int(index) for index in params["iou"]]
    if 0 < len(slices) <= CLICKED_SLICES:
        app.fast.clicked(path, params["axis"], slices[len(slices) // 2], owner)


def _reply(result: dict[str, Any], output: Any, *, keep: bool = False) -> Response:
    """MONAI Label's reply: the parameters, the file, or (by default) both as multipart/form-data. The file is removed unless `keep`."""
    path = Path(str(result["file"]))
    try:
        if output == ResultType.json:
            return JSONResponse(result["params"])
        content, name = path.read_bytes(), "label" + "".join(path.suffixes)
    finally:
        if not keep:
            path.unlink(missing_ok=True)
    media_type = get_mime_type(name)
    if output == ResultType.image:
        return Response(content, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
    fields = {"params": (None, json.dumps(result["params"]), "application/json"), "image": (name, content, media_type)}
    message = MultipartEncoder(fields=fields)
    return Response(message.to_string(), media_type=message.content_type)
