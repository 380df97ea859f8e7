"""Sessions in the place of MONAI Label's own: same requests, same replies. A session keeps an image without adding it to the studies.

An image is checked before a session is made, and stored under a name of ours: one file, or a folder of one DICOM series that came as
several files or as a zip archive (`uncompress=true`).
"""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, File, UploadFile
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import get_mime_type
from starlette.responses import FileResponse, Response

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.archives import unpack_images
from monailabel_app.request_guard import checked_session_id
from monailabel_app.uploads import upload_name, write_upload
from sam_adapters.images import check_image

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp
    from monailabel_app.site_sessions import SiteSessions

router = APIRouter(prefix="/session", include_in_schema=False)

User = Annotated[Any, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]

SERIES_ENDINGS = (".dcm", "")


@router.put("/")
def put_session(user: User, files: Annotated[list[UploadFile], File()], uncompress: bool = False, expiry: int = 0) -> dict[str, Any]:
    """Keep an image for `expiry` seconds (0, or more than there is: the server's own limit)."""
    sessions = _sessions()
    with tempfile.TemporaryDirectory(prefix="session-") as folder:
        image = _received(files, uncompress, Path(folder))
        check_image(image)
        session_id, info = sessions.add(image, max(expiry, 0))
    return {"session_id": session_id, "session_info": info.to_json()}


@router.get("/{session_id}", response_model=None)
def get_session(session_id: str, user: User, update_ts: bool = False, image: bool = False) -> dict[str, Any] | Response:
    """A session's details or, with `image`, its file."""
    found = known_session(_sessions(), session_id, update_ts=update_ts)
    if not image:
        return dict(found.to_json())
    path = Path(found.image)
    if path.is_dir():
        raise NotFoundError("This session holds a DICOM series of several files, which is not sent back.")
    return FileResponse(path, media_type=get_mime_type(str(path)), filename=path.name)


@router.delete("/{session_id}")
def delete_session(session_id: str, user: User) -> dict[str, Any]:
    """Remove a session and its image."""
    sessions = _sessions()
    found = known_session(sessions, session_id, update_ts=False)
    sessions.remove_session(session_id)
    return dict(found.to_json())


def known_session(sessions: "SiteSessions | None", session_id: str, *, update_ts: bool = True) -> Any:
    """The session of that id.

    Raises:
        RequestError: the id cannot be one.
        NotFoundError: there is none, or it has expired.
    """
    found = sessions.get_session(checked_session_id(session_id), update_ts=update_ts) if sessions is not None else None
    if found is None:
        raise NotFoundError(f"There is no session {session_id} here, or it has expired: upload the image again (PUT /session/).")
    return found


def _sessions() -> "SiteSessions":
    app: FedSCALabelApp = app_instance()
    sessions: SiteSessions | None = app.sessions()
    if sessions is None:
        raise NotFoundError("Sessions are switched off on this server (MONAI_LABEL_SESSIONS).")
    return sessions


def _received(files: list[UploadFile], uncompress: bool, folder: Path) -> Path:
    """The upload on the disk, below `folder`: an image's file, or the folder of a series."""
    if uncompress:
        return _unpacked(files, folder)
    if len(files) == 1:
        _, extension = upload_name(files[0], also=(".dcm",))
        return write_upload(files[0], folder / f"image{extension}")
    series = folder / "series"
    series.mkdir()
    for number, file in enumerate(files):
        if Path((file.filename or "").replace("\\", "/")).suffix.lower() not in SERIES_ENDINGS and not _numbered(file.filename or ""):
            raise RequestError("Several files are taken for one DICOM series: send .dcm files, or one image.")
        write_upload(file, series / f"{number:05d}.dcm")
    return series


def _numbered(name: str) -> bool:
    """DICOM files without an ending are often named by a UID: 1.2.840.…"""
    return name.rpartition(".")[2].isdigit()


def _unpacked(files: list[UploadFile], folder: Path) -> Path:
    if len(files) != 1:
        raise RequestError("uncompress=true takes one zip archive.")
    archive = write_upload(files[0], folder / "archive.zip")
    series = folder / "series"
    series.mkdir()
    images = unpack_images(archive, series)
    if len(images) > 1 or images[0].suffix == ".dcm":
        return series
    return Path(shutil.move(images[0], folder / f"image{''.join(images[0].suffixes)}"))
