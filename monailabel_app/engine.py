"""What serves: segmenters by adapter version, the version that is active now, and images and embeddings in memory.

Threads: requests come from worker threads. `_lock` guards the dictionaries and counters and is never held during work. `_loading` makes
one thread at a time load a version (others that need another, loaded one go on); it is taken before `_lock`, never inside it. A segmenter
shares its locks with the others: the machine works on one encoder call and one decoder call at a time.
Nothing is loaded before the first request (or before `BackgroundEngine` asks), so a tuning process that imports the app pays nothing.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from monailabel_app.configuration import AppConfiguration
from monailabel_app.image_cache import ImageCache
from sam_adapters.bases import base_sha256
from sam_adapters.embedding_cache import EmbeddingCache
from sam_adapters.embedding_disk import EmbeddingDisk
from sam_adapters.loading import load_segmenter
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry
from sam_adapters.segmenter import Segmenter, Turns, resolve_device

ACTIVE = "active"
MAX_SEGMENTERS = 2
"""Versions held in memory: the active one and one to compare with. Each holds a whole network (LiteMedSAM 40 MB, SAM ViT-B 375 MB)."""
MAX_REMEMBERED = 10_000


class Engine:
    """One site's models in memory.

    Attributes:
        registry: the site's registry, shared with tuning and the Flower client.
        images: images that are being worked on.
        embeddings: slices as the encoder sees them, of all versions.
        base_sha256: names the base network's weights.
    """

    def __init__(self, configuration: AppConfiguration) -> None:
        self.settings = configuration.settings
        self.registry = Registry(configuration.site)
        self.images = ImageCache(configuration.cache_mb * 2**20, self.settings.window)
        self.base_sha256 = base_sha256(self.settings.base)
        self.embeddings = EmbeddingCache(configuration.cache_mb * 2**20, _disk(configuration))
        self._turns = Turns()
        self._segmenters: OrderedDict[str, Segmenter] = OrderedDict()
        self._active: tuple[int, str] | None = None
        self._served: OrderedDict[str, str] = OrderedDict()
        self._running = 0
        self._last_request = time.monotonic()
        self._lock = threading.Lock()
        self._loading = threading.Lock()

    @property
    def device(self) -> str:
        """The torch device that segmenters run on."""
        return str(resolve_device(self.settings.device))

    def active_version(self) -> str:
        """Id of the version that is active now, `base` for the untuned base. One cheap read of the registry."""
        generation = self.registry.generation()
        with self._lock:
            if self._active is not None and self._active[0] == generation:
                return self._active[1]
        active = self.registry.active()
        version = BASE if active is None else active.id
        with self._lock:
            # Read after the generation: at worst it is newer than its number, and the next request reads again.
            self._active = (generation, version)
        return version

    def resolve(self, version: str) -> str:
        """`active`, `base` or an id -> `base` or an id that exists.

        Raises:
            UnknownVersionError: this site has no such version.
            RegistryError: the text is not an id.
        """
        if version == ACTIVE:
            return self.active_version()
        return BASE if version == BASE else self.registry.get(version).id

    def segmenter(self, version: str) -> Segmenter:
        """The segmenter of a version (`base` or an id), loaded when it is not in memory.

        Raises:
            UnknownVersionError, RegistryError: no such version, or its folder is damaged.
            BaseModelError, AdapterError, SettingError: it cannot be loaded.
        """
        found = self._loaded(version)
        if found is not None:
            return found
        with self._loading:
            found = self._loaded(version)
            if found is None:
                folder = None if version == BASE else self.registry.folder(version)
                found = load_segmenter(self.settings, folder, version, self.embeddings, self._turns)
                self._keep(version, found)
            return found

    def engine_name(self) -> str | None:
        """What computes for the active version, e.g. `openvino-cpu-bfloat16`; None while it is not loaded."""
        found = self._loaded(self.active_version())
        return None if found is None else found.engine_name

    def _loaded(self, version: str) -> Segmenter | None:
        with self._lock:
            found = self._segmenters.get(version)
            if found is not None:
                self._segmenters.move_to_end(version)
            return found

    def _keep(self, version: str, segmenter: Segmenter) -> None:
        with self._lock:
            self._segmenters[version] = segmenter
            while len(self._segmenters) > MAX_SEGMENTERS:
                self._segmenters.popitem(last=False)

    # --- who is working ---------------------------------------------------------------------------------------------------------------

    @contextmanager
    def request(self) -> Iterator[None]:
        """Marks the time in which a request is worked on; background work keeps away from it."""
        with self._lock:
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                self._last_request = time.monotonic()

    @property
    def running_requests(self) -> int:
        """Requests that are being worked on now."""
        with self._lock:
            return self._running

    def idle_seconds(self) -> float:
        """Seconds since the last request was answered; 0 while one is worked on."""
        with self._lock:
            return 0.0 if self._running else time.monotonic() - self._last_request

    # --- who proposed what ------------------------------------------------------------------------------------------------------------

    def remember_served(self, case: str, version: str) -> None:
        """Remember which version made the last mask of a case."""
        with self._lock:
            self._served[case] = version
            self._served.move_to_end(case)
            if len(self._served) > MAX_REMEMBERED:
                self._served.popitem(last=False)

    def last_served(self, case: str) -> str | None:
        """The version that made the last mask of a case since the server started; None when none did."""
        with self._lock:
            return self._served.get(case)


def _disk(configuration: AppConfiguration) -> EmbeddingDisk | None:
    """The disk tier, in the site's own directory, if the configuration gives it room."""
    if not configuration.embedding_disk_mb:
        return None
    return EmbeddingDisk(configuration.site.work / "embeddings", configuration.embedding_disk_mb * 2**20)
