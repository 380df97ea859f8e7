"""MONAI Label's local datastore, kept inside the studies folder, whole after a crash, and safe for several threads.

Threads: requests run in worker threads and a file watcher refreshes the index. Methods that change it hold one re-entrant lock; MONAI
Label's own file lock (between processes) is always taken inside it. Methods that only read take no lock: each change ends with a new
`IndexView`, and readers use the last one, so that `/info/` never waits for a disk or another process.
Files are copied under a hidden name, before the lock is taken, and then renamed: a tuning that reads labels meanwhile sees the old file or
the new one.
"""

import copy
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from monailabel.datastore.local import DataModel, ImageLabelModel, LocalDatastore
from monailabel.utils.others.generic import remove_file

from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.index_view import IndexView
from monailabel_app.request_guard import checked_case_id, checked_tag
from sam_adapters import atomic
from sam_adapters.dicom_series import holds_dicom
from sam_adapters.errors import RegistryError
from sam_adapters.image_names import PICTURE_EXTENSIONS, VOLUME_EXTENSIONS

LOCK_SECONDS = 60.0

SERIES_DOWNLOAD_EXTENSION = ".nrrd"
FILE_EXTENSIONS = (*VOLUME_EXTENSIONS, *PICTURE_EXTENSIONS)


@dataclass(frozen=True)
class SavedLabel:
    """A label as it was saved last: its tag, its file, and what the client said about it."""

    tag: str
    path: Path
    info: Mapping[str, Any]


class GuardedDatastore(LocalDatastore):  # type: ignore[misc]  # monailabel is not typed
    """See the module. Images lie in <studies>/, labels in <studies>/labels/<tag>/, the index in <studies>/datastore_v2.json.

    A folder <studies>/<case>/ of DICOM files is a case too; its image is the folder.
    """

    def __init__(self, studies: str, *, auto_reload: bool, read_only: bool) -> None:
        self._thread_lock = threading.RLock()
        self._saved: dict[str, SavedLabel] = {}
        self._view = IndexView({}, Path(studies), Path(studies))
        patterns = [*(f"*{extension}" for extension in FILE_EXTENSIONS), f"[!.]*{os.sep}*.dcm"]
        super().__init__(studies, extensions=patterns, auto_reload=auto_reload, read_only=read_only)
        with self._thread_lock:
            self._publish()

    # --- writing ----------------------------------------------------------------------------------------------------------------------

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any] | None) -> str:
        """Copy an image into the studies; one of the same id is replaced. Returns the id.

        Raises:
            RequestError: the id cannot be a case, or the file's ending is unknown.
        """
        stem, extension = self._to_id(Path(image_filename).name)
        case = checked_case_id(image_id or stem)
        folder = Path(self._datastore.image_path())
        if (folder / case).is_dir():
            raise RequestError(f"Case {case[:80]!a} is a DICOM series already: give the new image another id.")
        with _staged(Path(image_filename), folder) as staged, self._thread_lock, self._index_lock():
            _put(staged, folder / (case + extension))
            _remove_other_formats(folder, case, extension)
            info = {**(image_info or {}), "ts": int(time.time()), "name": case + extension}
            known = self._datastore.objects.get(case)
            labels = known.labels if known else {}
            self._datastore.objects[case] = ImageLabelModel(image=DataModel(info=info, ext=extension), labels=labels)
            self._update_datastore_file(lock=False)
            self._publish(case)
        return case

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any] | None) -> str:
        """Copy a label into labels/<tag>/; one of the same case and tag is replaced, whatever its format. Returns the label's id.

        Raises:
            RequestError: id or tag cannot be one, or the file's ending is unknown.
            NotFoundError: there is no such image.
        """
        case, tag = checked_case_id(image_id), checked_tag(label_tag)
        _, extension = self._to_id(Path(label_filename).name)
        if case not in self._view.objects:
            raise unknown_image(case)
        folder = Path(self._datastore.label_path(tag))
        folder.mkdir(parents=True, exist_ok=True)
        with _staged(Path(label_filename), folder) as staged, self._thread_lock, self._index_lock():
            known = self._datastore.objects.get(case)
            if known is None:  # removed while the label was copied
                raise unknown_image(case)
            target = folder / (case + extension)
            _put(staged, target)
            _remove_other_formats(folder, case, extension)
            info = {**(label_info or {}), "ts": int(time.time()), "name": case + extension}
            known.labels[tag] = DataModel(info=info, ext=extension)
            self._saved[case] = SavedLabel(tag, target, info)
            self._update_datastore_file(lock=False)
            self._publish(case)
        return case

    def remove_image(self, image_id: str) -> None:
        """Remove an image (a DICOM series with all its files) and its labels. Of a link, only the link is removed.

        Raises:
            NotFoundError: there is no such image.
        """
        case = checked_case_id(image_id)
        with self._thread_lock:
            known = self._view.objects.get(case)
            if known is None:
                raise unknown_image(case)
            for tag in known.labels:
                remove_file(self._view.label_path(case, tag))
            place = Path(self._datastore.image_path()) / (case + known.image.ext)
            if place.is_symlink():
                place.unlink()
            else:
                remove_file(str(place))
            self.refresh()

    def remove_label(self, label_id: str, label_tag: str) -> None:
        """Remove one label.

        Raises:
            NotFoundError: there is no such label.
        """
        case, tag = checked_case_id(label_id), checked_tag(label_tag)
        with self._thread_lock:
            path = self._view.label_path(case, tag)
            if not path:
                raise unknown_label(case, tag)
            Path(path).unlink(missing_ok=True)
            self.refresh()

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """Merge `info` into what is kept about an image."""
        with self._thread_lock:
            super().update_image_info(image_id, info)
            self._publish(image_id)

    def update_label_info(self, label_id: str, label_tag: str, info: Mapping[str, Any]) -> None:
        """Merge `info` into what is kept about a label."""
        with self._thread_lock:
            super().update_label_info(label_id, label_tag, info)
            self._publish(label_id)

    def refresh(self) -> None:
        """Bring the index in line with the files."""
        with self._thread_lock:
            super().refresh()
            self._publish()

    def _on_modify_event(self, event: object) -> None:
        """Another process has written the index."""
        with self._thread_lock:
            super()._on_modify_event(event)
            self._publish()

    def _publish(self, case: str | None = None) -> None:
        """Show readers what was changed about one case, or everything; the lock is held."""
        folders = Path(self._datastore.image_path()), Path(self._datastore.label_path(None))
        if case is None:
            objects = {name: entry.model_copy(deep=True) for name, entry in self._datastore.objects.items()}
        else:
            objects = {**self._view.objects, case: self._datastore.objects[case].model_copy(deep=True)}
        self._view = IndexView(objects, *folders)

    # --- reading: no lock -------------------------------------------------------------------------------------------------------------

    def last_saved(self, image_id: str) -> SavedLabel | None:
        """The label saved last for an image by this process, whatever its tag."""
        return self._saved.get(image_id)

    def get_image_uri(self, image_id: str) -> str:
        """Path of an image; "" for an unknown one."""
        return self._view.image_path(image_id)

    def is_local(self, image_id: str) -> bool:
        """Whether an image lies on this machine, so that `get_image_uri` need not fetch it."""
        return image_id in self._view.objects

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        """What is kept about a label; empty for an unknown one."""
        return copy.deepcopy(self._view.label_info(label_id, label_tag))

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is kept about an image; empty for an unknown one.

        A DICOM series is named like the one file that `GET /datastore/image` sends of it, and has no path: MONAI Label's clients load the
        path where it exists, and a folder is not what they can load.
        """
        info = copy.deepcopy(self._view.image_info(image_id))
        if not isinstance(info.get("strategy", {}), dict):  # MONAI Label adds to it when it offers a case
            del info["strategy"]
        if info and Path(str(info.get("path"))).is_dir():
            info.update(name=f"{image_id}{SERIES_DOWNLOAD_EXTENSION}", path="")
        return info

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        """Path of a label; "" for an unknown one."""
        return self._view.label_path(label_id, label_tag)

    def get_labels_by_image_id(self, image_id: str) -> dict[str, str]:
        """Tag -> label id of an image's labels."""
        known = self._view.objects.get(image_id)
        return dict.fromkeys(known.labels, image_id) if known else {}

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images with a final label."""
        return self._view.labelled()

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Images without a final label."""
        return self._view.unlabelled()

    def list_images(self) -> list[str]:
        """All images."""
        return list(self._view.objects)

    def datalist(self, full_path: bool = True) -> list[dict[str, Any]]:
        """Pairs of image and final label; with `full_path` off, below the studies folder."""
        pairs = self._view.pairs()
        if full_path:
            return pairs
        root = os.path.realpath(self._datastore_path)
        return [{key: os.path.relpath(path, root) for key, path in pair.items()} for pair in pairs]

    def status(self) -> dict[str, Any]:
        """Counts, as `GET /info/` shows them."""
        return self._view.counts()

    def json(self) -> dict[str, Any]:
        """The whole index."""
        head = {"name": self.name(), "description": self.description(), "images_dir": self._datastore.images_dir}
        objects = {case: entry.model_dump() for case, entry in self._view.objects.items()}
        return {**head, "labels_dir": self._datastore.labels_dir, "objects": objects}

    # --- what MONAI Label's own methods call ------------------------------------------------------------------------------------------

    def _to_id(self, file: str) -> tuple[str, str]:
        """Case and ending of a file's name; unlike the original, only the end of the name is taken for the ending."""
        for extension in FILE_EXTENSIONS:
            if file.endswith(extension) and len(file) > len(extension):
                return file[: -len(extension)], extension
        raise RequestError(f"Files like {file[-80:]!r} are not taken: expected one of {', '.join(FILE_EXTENSIONS)}.")

    def _list_files(self, path: str, patterns: Iterable[str]) -> dict[str, str]:
        """Files of the known endings; hidden ones (writes under way, resource forks of macOS) are left out."""
        names = [entry.name for entry in Path(path).iterdir() if entry.is_file()]
        return {name: name for name in names if not name.startswith(".") and name.endswith(FILE_EXTENSIONS)}

    @contextmanager
    def _index_lock(self) -> Iterator[None]:
        """MONAI Label's lock between processes.

        Raises:
            RegistryError: another process kept it for longer than `LOCK_SECONDS`; nothing was changed.
        """
        try:
            lock = FileLock(self._lock_file).acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise RegistryError(f"Another process has kept the studies' index locked for {LOCK_SECONDS:g} s: try again.") from None
        with lock:
            yield

    def _add_non_existing_images(self) -> int:
        """Add files and DICOM folders that the index does not know; the number of those added."""
        added = int(super()._add_non_existing_images())
        for case in self._series_folders():
            if case not in self._datastore.objects:
                info = {"ts": int(time.time()), "name": case}
                self._datastore.objects[case] = ImageLabelModel(image=DataModel(info=info, ext=""))
                added += 1
        return added

    def _series_folders(self) -> list[str]:
        """Cases that are folders of DICOM files, sorted. A folder that the index knows is not looked into again."""
        found = []
        for entry in Path(self._datastore.image_path()).iterdir():
            if not entry.is_dir() or not _can_be_series(entry.name, self._datastore.labels_dir):
                continue
            if entry.name in self._datastore.objects or holds_dicom(entry):
                found.append(entry.name)
        return sorted(found)

    def _update_datastore_file(self, lock: bool = True) -> None:
        """Write the index, atomically: a server killed meanwhile starts again with the old one."""
        with self._index_lock() if lock else nullcontext():
            text = json.dumps(self._datastore.model_dump(exclude={"base_path"}), indent=2, default=str)
            self._ignore_event_config = True
            path = Path(self._datastore_config_path)
            atomic.write_bytes(path, text.encode())
            self._config_ts = path.stat().st_mtime


def unknown_image(case: str) -> NotFoundError:
    """The error for an image that is not in the datastore."""
    return NotFoundError(f"There is no image {case[:80]!a} in the datastore (GET /datastore/?output=all lists them).")


def unknown_label(case: str, tag: str) -> NotFoundError:
    """The error for a label that is not in the datastore."""
    return NotFoundError(f"There is no label {tag[:80]!a} of image {case[:80]!a} (GET /datastore/?output=all lists them).")


@contextmanager
def _staged(source: Path, folder: Path) -> Iterator[Path]:
    """A durable copy of `source` under a hidden name in `folder`; what is not renamed in the meantime is removed."""
    descriptor, name = tempfile.mkstemp(prefix=".tmp-", dir=folder)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out, source.open("rb") as stream:
            shutil.copyfileobj(stream, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _put(staged: Path, target: Path) -> None:
    """Give a staged copy its name, atomically and durably."""
    staged.replace(target)
    atomic.fsync_directory(target.parent)


def _can_be_series(name: str, labels_folder: str) -> bool:
    """Whether a folder of that name may be a case: not the labels', not hidden, not named like an image file, and usable as an id."""
    if name == labels_folder or name.lower().endswith(FILE_EXTENSIONS):
        return False
    try:
        return bool(checked_case_id(name))
    except RequestError:
        return False


def _remove_other_formats(folder: Path, case: str, extension: str) -> None:
    """Remove files of the same case with another ending: a case has one image, and one label a tag."""
    for other in FILE_EXTENSIONS:
        if other != extension:
            (folder / (case + other)).unlink(missing_ok=True)
