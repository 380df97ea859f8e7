"""Which image a request means: a case of the datastore, or a session's image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.guarded_datastore import unknown_image
from monailabel_app.request_guard import checked_case_id, checked_session_id

if TYPE_CHECKING:
    from monailabel_app.app import FedSCALabelApp

Kind = Literal["image", "session"]


@dataclass(frozen=True)
class ImageSource:
    """An image as a request named it (`kind` and `name`), and where it lies on the server's disk."""

    kind: Kind
    name: str
    path: Path

    @property
    def reference(self) -> dict[str, str]:
        """How replies name it: {"image": case} or {"session": id}."""
        return {self.kind: self.name}


def find_source(app: "FedSCALabelApp", image: str | None, session: str | None) -> ImageSource:
    """The image that a request means; nothing is read.

    Raises:
        RequestError: not exactly one of the two, or an id that cannot be one.
        NotFoundError, ImageNotFoundException: there is no such session or case.
    """
    if (image is None) == (session is None):
        raise RequestError("Give either image (a case of the datastore) or session (an id of PUT /session/), and not both.")
    if session is not None:
        return ImageSource("session", session, session_image(app, session))
    case = checked_case_id(str(image))
    path = app.datastore().get_image_uri(case)
    if not path:
        raise unknown_image(case)
    return ImageSource("image", case, Path(path))


def session_image(app: "FedSCALabelApp", session_id: str) -> Path:
    """The image of a session.

    Raises:
        RequestError: that cannot be a session's id. NotFoundError: there is no such session, or no longer.
    """
    sessions = app.sessions()
    session = sessions.get_session(checked_session_id(session_id)) if sessions is not None else None
    if session is None:
        raise NotFoundError(f"There is no session {session_id} here, or it has expired: upload the image again (PUT /session/).")
    return Path(str(session.image))
