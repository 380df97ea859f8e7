"""Files that come with a request, kept under a name of ours for as long as the request needs them."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import UploadFile

from monailabel_app.app_errors import RequestError
from monailabel_app.guarded_datastore import FILE_EXTENSIONS


def upload_name(upload: UploadFile, also: tuple[str, ...] = ()) -> tuple[str, str]:
    """Stem and ending of an uploaded file's own name. Clients send whole paths, of Windows too: only the last part counts.

    Args:
        also: endings that are taken besides those of the datastore.

    Raises:
        RequestError: the ending is not that of an image.
    """
    name = (upload.filename or "upload.nii.gz").replace("\\", "/").rpartition("/")[2]
    for extension in (*FILE_EXTENSIONS, *also):
        if name.lower().endswith(extension):
            return name[: -len(extension)], extension
    raise RequestError(f"File {name[-80:]!a} is not taken: expected one of {', '.join((*FILE_EXTENSIONS, *also))}.")


@contextmanager
def stored_upload(upload: UploadFile) -> Iterator[Path]:
    """The uploaded file on the disk, in a folder that is removed afterwards. Raises as `upload_name`."""
    _, extension = upload_name(upload)
    with tempfile.TemporaryDirectory(prefix="fedsca-") as folder:
        yield write_upload(upload, Path(folder) / f"upload{extension}")


def write_upload(upload: UploadFile, path: Path) -> Path:
    """Write an uploaded file to a new file; returns its path."""
    with path.open("xb") as stream:
        shutil.copyfileobj(upload.file, stream, 1 << 20)
    return path
