"""Images and labels, up and down, in the place of MONAI Label's own: same requests, same replies.

They run in worker threads (a large upload does not hold up others), refuse what is not an image, or a label that does not fit its image,
before it is stored, and take the file's name for nothing but its ending.
"""

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, UploadFile
from fastapi.responses import FileResponse
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum, get_mime_type
from starlette.background import BackgroundTask

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.case_roles import FINAL_TAG, LABEL_INFO
from monailabel_app.declared_values import declared_values
from monailabel_app.download_files import download_file
from monailabel_app.guarded_datastore import unknown_image, unknown_label
from monailabel_app.infer_parameters import checked_version
from monailabel_app.label_check import check_label
from monailabel_app.request_guard import checked_case_id, checked_parameters, checked_tag
from monailabel_app.uploads import stored_upload, upload_name
from sam_adapters.images import check_image

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["Datastore"])

CHECKSUMS = ("SHA256", "SHA512", "MD5")

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
        check_image(path)
        return {"image": app.datastore().add_image(case, str(path), info)}


@router.put("/datastore/label", include_in_schema=False)
def put_label(
    user: Annotator, image: str, label: Annotated[UploadFile, File()], tag: str = FINAL_TAG, params: Annotated[str, Form()] = "{}"
) -> dict[str, Any]:
    """Save a finished label that fits its image. The reply says under `fedsca` who proposed it and whether a tuning was queued."""
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
    declared = declared_values(info, app.configuration.settings)
    file = _image_file(case)
    with stored_upload(label) as path:
        check_label(file, path, declared, lambda folder: app.engine.images.read(folder).geometry)
        with app.saving:
            label_id = app.datastore().save_label(case, str(path), checked, info)
            taken = app.on_save_label(case, label_id)
    return {**taken, "image": case, "label": label_id}


@router.put("/datastore/image/info", include_in_schema=False)
def put_image_info(user: Annotator, image: str, info: Annotated[str, Form()] = "{}") -> None:
    """Add to what is kept about an image."""
    app: FedSCALabelApp = app_instance()
    added = {**checked_parameters(info, reserved=frozenset()), "user": user.username}
    app.datastore().update_image_info(checked_case_id(image), added)


@router.put("/datastore/label/info", include_in_schema=False)
def put_label_info(user: Annotator, label: str, tag: str, info: Annotated[str, Form()] = "{}") -> None:
    """Add to what is kept about a label."""
    app: FedSCALabelApp = app_instance()
    added = {**checked_parameters(info, reserved=frozenset()), "user": user.username}
    added.pop(LABEL_INFO, None)
    app.datastore().update_label_info(checked_case_id(label), checked_tag(tag), added)


@router.put("/datastore/updatelabelinfo", include_in_schema=False)
def update_label_info(user: Annotator, label: str, tag: str, params: Annotated[str, Form()] = "{}") -> None:
    """`put_label_info` under its old name."""
    put_label_info(user, label, tag, params)


@router.get("/datastore/image", include_in_schema=False)
def get_image(user: User, image: str) -> FileResponse:
    """A case's image as one file: NRRD for a DICOM series."""
    path, name = _one_file(checked_case_id(image))
    return FileResponse(path, media_type=get_mime_type(name), filename=name)


@router.head("/datastore/image", include_in_schema=False)
def head_image(user: User, image: str, check_sum: str | None = None) -> dict[str, Any]:
    """Whether there is an image and, with `check_sum` ("SHA256:<hex>"), whether it is that file."""
    file, _ = _one_file(checked_case_id(image))
    if check_sum:
        algorithm, _, digest = check_sum.rpartition(":")
        if (algorithm or CHECKSUMS[0]) not in CHECKSUMS:
            raise RequestError(f"check_sum is {check_sum[:80]!a}, expected one of {', '.join(CHECKSUMS)}, ':' and hexadecimal digits.")
        if digest != file_checksum(str(file), algo=algorithm or CHECKSUMS[0]):
            raise NotFoundError(f"Image {image[:80]!a} is another file than the one with this check sum.")
    return {}


@router.get("/datastore/label", include_in_schema=False)
def get_label(user: User, label: str, tag: str) -> FileResponse:
    """A label's file."""
    path = _label_file(label, tag)
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


@router.head("/datastore/label", include_in_schema=False)
def head_label(user: User, image: str, tag: str) -> dict[str, Any]:
    """Whether there is a label."""
    _label_file(image, tag)
    return {}


@router.get("/datastore/dataset", include_in_schema=False)
def get_dataset(user: Annotator, limit_cases: Annotated[int | None, Query()] = None) -> FileResponse:
    """Images and final labels as one zip archive, at most `limit_cases` of them; the archive is removed once it is sent."""
    app: FedSCALabelApp = app_instance()
    pairs = app.datastore().datalist()
    if not pairs:
        raise NotFoundError("No case has a final label yet: there is nothing to download.")
    with tempfile.NamedTemporaryFile(suffix=".zip", delete=False) as file:
        path = Path(file.name)
        try:
            with zipfile.ZipFile(file, "w") as archive:
                for pair in pairs[:limit_cases] if limit_cases and limit_cases > 0 else pairs:
                    for kind, source in pair.items():
                        archive.write(source, f"{kind}/{Path(source).name}")
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    remove = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, media_type="application/zip", filename="dataset.zip", background=remove)


def _image_file(case: str) -> Path:
    app: FedSCALabelApp = app_instance()
    path = app.datastore().get_image_uri(case)
    if not path or not Path(path).exists():
        raise unknown_image(case)
    return Path(path)


def _one_file(case: str) -> tuple[Path, str]:
    """The file to send of a case, and what it is called."""
    app: FedSCALabelApp = app_instance()
    image = _image_file(case)
    path = download_file(image, app.configuration.site.work / "converted")
    return path, path.name if path == image else case + "".join(path.suffixes)


def _label_file(case: str, tag: str) -> Path:
    app: FedSCALabelApp = app_instance()
    path = app.datastore().get_label_uri(checked_case_id(case), checked_tag(tag))
    if not path or not Path(path).is_file():
        raise unknown_label(case, tag)
    return Path(path)
