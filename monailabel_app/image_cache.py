"""Images that are being worked on, so that a click does not read its volume from the disk again.

Threads: `_lock` guards the dictionaries and is held for a moment only. A file is read under a lock of its own (`_reading`), taken before
`_lock` and never inside it: who asks for an image that another thread is reading waits for that, and does not read it a second time.
"""

import threading
from collections import OrderedDict
from pathlib import Path

from sam_adapters.images import MedicalImage, read_image
from sam_adapters.intensity_window import windowed

_Key = tuple[str, int, int]


class ImageCache:
    """Least recently used out first, at most `max_bytes` of voxels, but always the image that was read last, however large it is: a click
    on it must not read it again. A file that has changed on the disk is read anew.
    """

    def __init__(self, max_bytes: int, window: str = "") -> None:
        self.max_bytes = max_bytes
        self._window = window
        self._images: OrderedDict[_Key, MedicalImage] = OrderedDict()
        self._reading: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()

    def read(self, path: Path) -> MedicalImage:
        """The image at `path`, as the network is to see it: cut off at the site's intensity window.

        Raises:
            ImageError: as `read_image`.
        """
        key = _key(path)
        found = self._kept(key)
        if found is not None:
            return found
        with self._lock:
            reading = self._reading.setdefault(key, threading.Lock())
        try:
            with reading:
                found = self._kept(key)
                if found is None:
                    found = windowed(read_image(path), self._window)
                    self._keep(key, found)
                return found
        finally:
            with self._lock:
                self._reading.pop(key, None)  # whoever still waits for it holds it already

    def _kept(self, key: _Key) -> MedicalImage | None:
        with self._lock:
            found = self._images.get(key)
            if found is not None:
                self._images.move_to_end(key)
            return found

    def _keep(self, key: _Key, image: MedicalImage) -> None:
        with self._lock:
            self._images[key] = image
            while len(self._images) > 1 and sum(kept.array.nbytes for kept in self._images.values()) > self.max_bytes:
                self._images.popitem(last=False)


def _key(path: Path) -> _Key:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0  # read_image will say what is wrong
    return str(path), found.st_mtime_ns, found.st_size
