"""Finished labels on their way to the DICOMweb server: each is kept here first, and sent as DICOM SEG when the server can take it.

Nothing is queued: what has to be sent follows from the final labels on the disk and from <site>/sent-labels.json, which holds, for each
case, the hash of the label that the server has, or why it can never have it. A crash at any instant therefore loses nothing: at worst a
label is sent twice, under the same UIDs, which leaves one object. An archive that is down is tried again every `RETRY_SECONDS`.

Threads: one daemon thread, started by the server process only, sends. `_lock` guards what `status` reads, for dictionary work only.
"""

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monailabel_app.app_errors import RefusedByArchiveError, RemoteStudiesError
from monailabel_app.case_roles import FINAL_TAG
from monailabel_app.dicom_segmentation import label_names, write_segmentation
from monailabel_app.dicomweb_datastore import DicomWebDatastore
from sam_adapters import atomic
from sam_adapters.dicom_series import series_files
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.images import read_image, read_label
from sam_adapters.label_log import label_file_sha256

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
GIVE_UP_AFTER = 3
"""Labels that could not be sent in one round before the others are left for the next one."""
SENT_FILE = "sent-labels.json"


@dataclass(frozen=True)
class Delivery:
    """What became of one label.

    Attributes:
        label_sha256: of the label file.
        sop: SOPInstanceUID of the DICOM SEG on the server; "" when it was refused.
        problem: why the server will not have it; "" when it has it.
        at: when that was known, ISO 8601.
    """

    label_sha256: str
    sop: str = ""
    problem: str = ""
    at: str = ""


class LabelDelivery:
    """See the module.

    Args:
        datastore: where labels and images are.
        sent_file: <site>/sent-labels.json.
        label_name: what a segment is called that nobody named.
    """

    def __init__(self, datastore: DicomWebDatastore, sent_file: Path, label_name: str) -> None:
        self._datastore = datastore
        self._sent_file = sent_file
        self._label_name = label_name
        self._deliveries = _load(sent_file)
        self._hashes: dict[Path, tuple[tuple[int, int], str]] = {}
        self._waiting: dict[str, str] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fedsca-delivery", daemon=True)

    def start(self) -> None:
        """Begin; labels that were kept before are sent too."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End after the label that is being sent, waiting at most `timeout` seconds."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def label_saved(self, case: str) -> dict[str, str]:
        """Have a label sent soon; what the reply to the client says about it."""
        with self._lock:
            self._waiting[case] = "It was saved just now."
        self._wake.set()
        return {"state": "waiting", "reason": "The label is kept here, and is sent to the DICOMweb server in the background."}

    def status(self) -> dict[str, Any]:
        """{"sent": n, "waiting": {case: reason}, "refused": {case: reason}}."""
        with self._lock:
            refused = {case: one.problem for case, one in self._deliveries.items() if one.problem and case not in self._waiting}
            sent = sum(not one.problem for case, one in self._deliveries.items() if case not in self._waiting)
            return {"sent": sent, "waiting": dict(self._waiting), "refused": refused}

    def send_all(self) -> bool:
        """Send what has to be sent, one label after the other; False when some label has to be tried again later."""
        failures = 0
        for case, file in self._unsent():
            if self._stopping or failures == GIVE_UP_AFTER:
                break
            try:
                self._settle(case, self._send(case, file))
            except RemoteStudiesError as error:
                failures += 1
                self._wait(case, f"{error} The label is kept here and will be sent.")
        return failures == 0

    def _run(self) -> None:
        while not self._stopping:
            try:
                reached = self.send_all()
            except Exception:  # whatever is wrong with one label, the others must go on being sent
                logger.exception("Labels could not be sent.")
                reached = False
            self._wake.wait(None if reached else RETRY_SECONDS)
            self._wake.clear()

    def _unsent(self) -> list[tuple[str, Path]]:
        """Cases whose final label is not the one that the server has, with their label files."""
        found: list[tuple[str, Path]] = []
        for case in sorted(self._datastore.get_labeled_images()):
            file = self._datastore.label_file(case, FINAL_TAG)
            if file is None or not file.is_file():
                continue
            known = self._deliveries.get(case)
            if known is None or known.label_sha256 != self._sha256(file):
                found.append((case, file))
        unsent = {case for case, _ in found}
        with self._lock:
            self._waiting = {case: self._waiting.get(case, "It waits for its turn.") for case in unsent}
        return found

    def _send(self, case: str, file: Path) -> Delivery:
        """Send one label. Raises RemoteStudiesError when the server cannot be asked now."""
        digest = self._sha256(file)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            image = Path(self._datastore.get_image_uri(case))
            pixels = read_image(image)
            segmentation = write_segmentation(
                read_label(file, pixels),
                pixels.geometry,
                series_files(image),
                names=label_names(self._datastore.get_label_info(case, FINAL_TAG).get("label_info"), self._label_name),
                identity=f"{case} {digest}",
                when=datetime.fromtimestamp(file.stat().st_mtime, UTC),
            )
            self._datastore.server.store(segmentation.data, segmentation.study_uid)
        except (ImageError, LabelError, RefusedByArchiveError) as error:
            logger.warning("Label of case %s is not sent: %s", case, error)
            return Delivery(digest, problem=str(error), at=now)
        logger.info("Label of case %s is on the DICOMweb server as %s.", case, segmentation.sop_uid)
        return Delivery(digest, sop=segmentation.sop_uid, at=now)

    def _settle(self, case: str, delivery: Delivery) -> None:
        with self._lock:
            self._deliveries[case] = delivery
            self._waiting.pop(case, None)
            value = {name: vars(one) for name, one in self._deliveries.items()}
        atomic.write_json(self._sent_file, value)

    def _wait(self, case: str, reason: str) -> None:
        logger.warning("Label of case %s: %s", case, reason)
        with self._lock:
            self._waiting[case] = reason

    def _sha256(self, file: Path) -> str:
        found = file.stat()
        state = found.st_mtime_ns, found.st_size
        known = self._hashes.get(file)
        if known is None or known[0] != state:
            self._hashes[file] = known = (state, label_file_sha256(file))
        return known[1]


def _load(path: Path) -> dict[str, Delivery]:
    """What the server has, by `_settle`; empty where there is no such file: then everything is sent once more, under the same UIDs.

    What was refused is left out: each start of the server tries it once more.
    """
    try:
        value: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {case: Delivery(**one) for case, one in value.items() if one.get("sop")}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
