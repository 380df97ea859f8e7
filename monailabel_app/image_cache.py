"""Images that are being worked on, so that a click does not read its volume from the disk again.

Threads: one lock for the dictionary; a file is read outside of it (two threads that ask for a new image at once both read it).
"""

import threading
from collections import OrderedDict
from pathlib import Path

from sam_adapters.images import MedicalImage, read_image
from sam_adapters.intensity_window import windowed

_Key = tuple[str, int, int]


class ImageCache:
    """Least recently used out first, at most `max_bytes` of voxels. A file that has changed on the disk is read anew."""

    def __init__(self, max_bytes: int, window: str = "") -> None:
        self.max_bytes = max_bytes
        self._window = window
        self._images: OrderedDict[_Key, MedicalImage] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, path: Path) -> MedicalImage:
        """The image at `path`, as the network is to see it: cut off at the site's intensity window.

        Raises:
            ImageError: as `read_image`.
        """
        key = _key(path)
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
                return self._images[key]
        image = windowed(read_image(path), self._window)
        with self._lock:
            self._keep(key, image)
        return image

    def _keep(self, key: _Key, image: MedicalImage) -> None:
        if key in self._images or image.array.nbytes > self.max_bytes:
            return
        self._images[key] = image
        self._bytes += image.array.nbytes
        while self._bytes > self.max_bytes:
            _, dropped = self._images.popitem(last=False)
            self._bytes -= dropped.array.nbytes


def _key(path: Path) -> _Key:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0  # read_image will say what is wrong
    return str(path), found.st_mtime_ns, found.st_size
