"""A person's own image on its way from the browser to this computer: `POST /own-image?name=...`, the body is the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from FedSCALib.translate import tr

LARGEST = 4 * 2**30
ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".png", ".jpg", ".jpeg", ".tif", ".tiff")


class Uploads:
    """Keeps what was uploaded in a folder of its own until the workstation ends.

    Args:
        arrived: called with the file, on the event loop.
        refused: called with a sentence that says why a file is not taken.
    """

    def __init__(self, arrived: Callable[[Path], None], refused: Callable[[str], None]) -> None:
        self._arrived, self._refused = arrived, refused
        self._folder = tempfile.TemporaryDirectory(prefix="fedsca-own-")

    async def handle(self, request: web.Request) -> web.Response:
        """The request; refuses names without a known ending, and what is too large."""
        name = Path(request.query.get("name", "")).name
        if not name.lower().endswith(ENDINGS):
            text = tr("“{name}” is no image that is known here ({endings}).").format(name=name, endings=", ".join(ENDINGS))
            return self._refuse(400, text)
        file = Path(tempfile.mkdtemp(dir=self._folder.name)) / name
        size = 0
        with file.open("wb") as stream:
            async for chunk in request.content.iter_chunked(2**20):
                size += len(chunk)
                if size > LARGEST:
                    file.unlink()
                    return self._refuse(413, tr("That file is larger than {size} GiB.").format(size=LARGEST // 2**30))
                stream.write(chunk)
        self._arrived(file)
        return web.Response(text="ok")

    def _refuse(self, status: int, text: str) -> web.Response:
        self._refused(text)
        return web.Response(status=status, text=text)

    def close(self) -> None:
        self._folder.cleanup()
