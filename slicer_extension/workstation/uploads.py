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
    """

    def __init__(self, arrived: Callable[[Path], None]) -> None:
        self._arrived = arrived
        self._folder = tempfile.TemporaryDirectory(prefix="fedsca-own-")

    async def handle(self, request: web.Request) -> web.Response:
        """The request; refuses names without a known ending, and what is too large."""
        name = Path(request.query.get("name", "")).name
        if not name.lower().endswith(ENDINGS):
            return web.Response(
                status=400, text=tr("“{name}” is no image that is known here ({endings}).").format(name=name, endings=", ".join(ENDINGS))
            )
        file = Path(tempfile.mkdtemp(dir=self._folder.name)) / name
        size = 0
        with file.open("wb") as stream:
            async for chunk in request.content.iter_chunked(2**20):
                size += len(chunk)
                if size > LARGEST:
                    file.unlink()
                    return web.Response(status=413, text=tr("That file is larger than {size} GiB.").format(size=LARGEST // 2**30))
                stream.write(chunk)
        self._arrived(file)
        return web.Response(text="ok")

    def close(self) -> None:
        self._folder.cleanup()
