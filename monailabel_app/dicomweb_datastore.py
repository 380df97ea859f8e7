"""Studies on a DICOMweb server: its series are the cases, fetched into the site's own studies folder when they are first needed.

A case is named by its SeriesInstanceUID. What was fetched is a DICOM folder <site>/studies/<uid>/ like any other, labels lie beside it in
<site>/studies/labels/: tuning, gate and probe read both without knowing where they came from, and what is there works without the server.

Threads: `_listing` and `_problem` are guarded by `_state`, held for dictionary work only. A fetch holds its series' own lock (two requests
for one series fetch it once), never the datastore's lock, and is bounded by `dicomweb.FETCH_SECONDS`. One daemon thread, started by the
server process only, asks for the list again every `REFRESH_SECONDS`. Order: series lock, then the datastore's lock, then `_state`.
Processes: a fetch goes to a hidden folder and is renamed when it is whole; of two processes that fetch the same series one wins.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monailabel.datastore.local import DataModel, ImageLabelModel

from monailabel_app.app_errors import RemoteStudiesError, RequestError
from monailabel_app.dicomweb import DicomWeb, RemoteSeries, checked_uid
from monailabel_app.guarded_datastore import SERIES_DOWNLOAD_EXTENSION, GuardedDatastore
from sam_adapters import atomic
from sam_adapters.dicom_series import holds_dicom
from sam_adapters.errors import SettingError
from sam_adapters.site_directory import SiteDirectory
from sam_adapters.splits import load_patients

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
LISTING_FILE = "dicomweb-series.json"
FETCHING = ".fetching-"
STALE_SECONDS = 3600.0


class DicomWebDatastore(GuardedDatastore):
    """See the module.

    Args:
        studies: local folder for what is fetched, and for labels.
        server: where the series are.
        site: its work folder keeps the last list of series, for other processes and for a start while the server is down; its patients.json
            is told which series are of one patient.
    """

    def __init__(self, studies: str, server: DicomWeb, site: SiteDirectory, *, auto_reload: bool, read_only: bool) -> None:
        self.server = server
        self._site = site
        self._listing_file = site.work / LISTING_FILE
        self._listing = _load_listing(self._listing_file)
        self._problem: str | None = "The list of series was not asked for yet."
        self._listed_at: float | None = None
        self._state = threading.Lock()
        self._series_locks: dict[str, threading.Lock] = {}
        self._stopping = threading.Event()
        self._asked = threading.Event()
        super().__init__(studies, auto_reload=auto_reload, read_only=read_only)

    # --- the list of series -----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Keep the list of series up to date from now on. Called once, in the server process only."""
        _remove_stale(Path(self._datastore.image_path()))
        threading.Thread(target=self._keep_listing, name="fedsca-dicomweb", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next turn."""
        self._stopping.set()
        self._asked.set()

    def update_listing(self) -> bool:
        """Ask the server for its series; False, with the reason in `remote_status`, when it cannot be asked."""
        try:
            found = {series.uid: series for series in self.server.list_series()}
        except RemoteStudiesError as error:
            with self._state:
                if self._problem != str(error):
                    logger.warning("%s What was fetched before is served.", error)
                self._problem = str(error)
            return False
        with self._state:
            changed = found != self._listing
            self._listing, self._problem, self._listed_at = found, None, time.time()
        if changed:
            atomic.write_json(self._listing_file, [asdict(series) for series in found.values()])
            try:
                self._remember_patients(found)
            except SettingError as error:
                logger.warning("Which series are of one patient could not be noted: %s", error)
        return True

    def remote_status(self) -> dict[str, Any]:
        """What `GET /fedsca/status` says: address, problem (None: reachable), series listed and fetched."""
        local = set(super().list_images())
        with self._state:
            return {
                "address": self.server.address,
                "problem": self._problem,
                "listed": len(self._listing),
                "fetched": len(local),
                "listed_at": self._listed_at,
            }

    def series(self, image_id: str) -> RemoteSeries | None:
        """What the server said of a case; None for one that it never listed."""
        with self._state:
            return self._listing.get(image_id)

    def _remember_patients(self, found: Mapping[str, RemoteSeries]) -> None:
        """Add to patients.json whose series they are (a hash of PatientID); what stands there stays."""
        known = load_patients(self._site)
        new = {uid: patient_key(series.patient) for uid, series in found.items() if series.patient and uid not in known}
        if new:
            atomic.write_json(self._site.patients_file, {**known, **new})

    def _keep_listing(self) -> None:
        while not self._stopping.is_set():
            try:
                self.update_listing()
            except Exception:  # the list must go on being updated, whatever a server answers
                logger.exception("The list of series could not be updated.")
            self._asked.wait(REFRESH_SECONDS)
            self._asked.clear()

    # --- what MONAI Label asks --------------------------------------------------------------------------------------------------------

    def get_image_uri(self, image_id: str) -> str:
        """Folder of a case, fetched first if it is not here yet; "" for an unknown one.

        Raises:
            RemoteStudiesError: it has to be fetched and cannot be.
        """
        found = str(super().get_image_uri(image_id))
        if found:
            return found
        series = self.series(image_id)
        return "" if series is None else self._fetched(series)

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """What is kept about a case, and what the server said of its series."""
        info, series = super().get_image_info(image_id), self.series(image_id)
        if series is None:
            return info
        known = {"SeriesInstanceUID": series.uid, "StudyInstanceUID": series.study, "Modality": series.modality}
        named = {"name": f"{series.uid}{SERIES_DOWNLOAD_EXTENSION}", "path": "", "SeriesDescription": series.description}
        return {**named, **known, **info}

    def update_image_info(self, image_id: str, info: Mapping[str, Any]) -> None:
        """As the local datastore; what is said about a series that is not fetched yet is not kept."""
        if self.is_local(image_id) or self.series(image_id) is None:
            super().update_image_info(image_id, info)

    def list_images(self) -> list[str]:
        """Cases that are listed or fetched."""
        local = super().list_images()
        with self._state:
            return [*local, *sorted(self._listing.keys() - set(local))]

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Cases without a final label here."""
        labelled = set(self.get_labeled_images())
        return [case for case in self.list_images() if case not in labelled]

    def status(self) -> dict[str, Any]:
        """Counts, as `GET /info/` shows them; listed series are cases too."""
        return {**super().status(), "total": len(self.list_images())}

    def json(self) -> dict[str, Any]:
        """The index, with the series that are only listed."""
        index = super().json()
        listed = {case: {"image": {"ext": "", "info": self.get_image_info(case)}, "labels": {}} for case in self.list_images()}
        return {**index, "objects": {**listed, **index["objects"]}}

    def add_image(self, image_id: str, image_filename: str, image_info: Mapping[str, Any] | None) -> str:
        """Refused: new images are sent to the DICOMweb server."""
        raise RequestError("Images are not added here, the studies are a DICOMweb server's: send them to it, or open a session.")

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: Mapping[str, Any] | None) -> str:
        """Keep a label, as the local datastore does; its case is fetched first if it is not here yet. Raises as `get_image_uri`."""
        self.get_image_uri(image_id)
        return super().save_label(image_id, label_filename, label_tag, label_info)

    def label_file(self, case: str, tag: str) -> Path | None:
        """The file of a label, None where there is none."""
        uri = self.get_label_uri(case, tag)
        return Path(uri) if uri else None

    # --- fetching ---------------------------------------------------------------------------------------------------------------------

    def _fetched(self, series: RemoteSeries) -> str:
        with self._state:
            lock = self._series_locks.setdefault(series.uid, threading.Lock())
        with lock:
            found = str(super().get_image_uri(series.uid))
            return found or self._fetch(series)

    def _fetch(self, series: RemoteSeries) -> str:
        root = Path(self._datastore.image_path()).resolve()
        target = root / checked_uid(series.uid)
        if not holds_dicom(target):
            temporary = Path(tempfile.mkdtemp(prefix=FETCHING, dir=root))
            try:
                started = time.monotonic()
                files = self.server.fetch(series, temporary, self._stopping.is_set)
                _flush(temporary)
                _take(temporary, target)
                logger.info("Fetched series %s: %d files in %.1f s.", series.uid, files, time.monotonic() - started)
            except OSError as error:
                if isinstance(error, RemoteStudiesError):
                    raise
                raise RemoteStudiesError(f"Series {series.uid} cannot be kept here ({error.strerror or error}).") from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        with self._thread_lock, self._index_lock():
            if series.uid not in self._datastore.objects:
                info = {"ts": int(time.time()), "name": series.uid}
                self._datastore.objects[series.uid] = ImageLabelModel(image=DataModel(info=info, ext=""))
                self._update_datastore_file(lock=False)
                self._publish(series.uid)
        return str(target)


def patient_key(patient: str) -> str:
    """What patients.json calls a patient: enough of a hash to tell patients apart, and not the id itself."""
    return hashlib.sha256(f"fedsca-patient {patient}".encode()).hexdigest()[:24]


def _load_listing(path: Path) -> dict[str, RemoteSeries]:
    """The list kept by `update_listing`; empty where there is none that can be used."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {checked_uid(entry["uid"]): RemoteSeries(**{**entry, "study": checked_uid(entry["study"])}) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _flush(folder: Path) -> None:
    for file in folder.iterdir():
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    atomic.fsync_directory(folder)


def _take(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`; another process's `target` that is whole already stays."""
    folder.chmod(0o700)
    try:
        folder.rename(target)
    except OSError:
        if not holds_dicom(target):
            raise
        return
    atomic.fsync_directory(target.parent)


def _remove_stale(root: Path) -> None:
    """Remove what a killed process was fetching; what is younger may still be under way in another process."""
    for folder in root.glob(f"{FETCHING}*"):
        if time.time() - folder.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
