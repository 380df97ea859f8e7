"""`GET` and `HEAD /datastore/image` in the place of MONAI Label's own, in a worker thread: a series may have to be fetched or converted
first. And an end for MONAI Label's proxy into the DICOMweb server, which hands its whole contents to every user."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import FileResponse, Response
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.download_files import download_file
from monailabel_app.guarded_datastore import unknown_image
from monailabel_app.request_guard import checked_case_id

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

router = APIRouter(tags=["Datastore"])

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]

CHECKSUMS = ("SHA256", "SHA512", "MD5")


@router.get("/datastore/image", include_in_schema=False)
def get_image(user: User, image: str) -> FileResponse:
    """A case's image as one file: NRRD for a DICOM series."""
    path, name = _file(image)
    return FileResponse(path, media_type=get_mime_type(name), filename=name)


@router.head("/datastore/image", include_in_schema=False)
def check_image(user: User, image: str, check_sum: str | None = None) -> Response:
    """200 when the case is there and, if `check_sum` (`SHA256:<hex>`) is given, its file has it."""
    path, _ = _file(image)
    if check_sum:
        algorithm, _, wanted = check_sum.rpartition(":")
        if (algorithm or "SHA256").upper() not in CHECKSUMS:
            raise RequestError(f"check_sum is {check_sum[:80]!a}, expected <algorithm>:<hex> with {', '.join(CHECKSUMS)}.")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, (algorithm or "SHA256").lower()).hexdigest()
        if found != wanted.lower():
            raise NotFoundError(f"The image of case {image[:80]!a} has another checksum.")
    return Response()


@router.api_route("/proxy/dicom/{path:path}", methods=["GET", "POST"], include_in_schema=False)
def refuse_proxy(path: str) -> None:
    """Refused."""
    raise NotFoundError("The DICOMweb server is not passed through: ask for the cases listed here, or ask it directly.")


def _file(image: str) -> tuple[Path, str]:
    """The file to send, and what it is called."""
    app: FedSCALabelApp = app_instance()
    case = checked_case_id(image)
    uri = app.datastore().get_image_uri(case)
    if not uri:
        raise unknown_image(case)
    path = download_file(Path(uri), app.configuration.site.work / "converted")
    if not path.is_file():
        raise unknown_image(case)
    return path, path.name if path == Path(uri) else case + "".join(path.suffixes)
