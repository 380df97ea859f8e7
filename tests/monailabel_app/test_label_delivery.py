"""Labels on their way to a DICOMweb server, with a server that is a Python object, and DICOM SEG written and read back."""

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from monailabel_app.app_errors import RefusedByArchiveError, RemoteStudiesError
from monailabel_app.dicom_segmentation import label_names, write_segmentation
from monailabel_app.dicomweb import RemoteSeries
from monailabel_app.dicomweb_datastore import DicomWebDatastore, patient_key
from monailabel_app.label_delivery import SENT_FILE, LabelDelivery
from sam_adapters.case_loading import load_case
from sam_adapters.cases import labelled_cases
from sam_adapters.dicom_series import series_files
from sam_adapters.errors import LabelError
from sam_adapters.images import read_image, write_mask
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.monailabel_app.dicom_files import write_series
from tests.monailabel_app.server_process import blob

ARRAY, INSIDE = blob((4, 20, 24), seed=3)


@dataclass
class Archive:
    """A DICOMweb server in memory."""

    folders: dict[str, Path]
    down: bool = False
    refuses: bool = False
    fetched: list[str] = field(default_factory=list)
    stored: list[bytes] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    address: str = "http://archive"

    def list_series(self) -> list[RemoteSeries]:
        self._require_up()
        return [RemoteSeries(uid, "1.2", "MR", "Anna", 4) for uid in sorted(self.folders)]

    def fetch(self, series: RemoteSeries, folder: Path, cancelled: Any = bool) -> int:
        self._require_up()
        self.fetched.append(series.uid)
        self.entered.set()
        assert self.go_on.wait(60)
        for file in self.folders[series.uid].iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return 4

    def store(self, data: bytes, study: str) -> None:
        self._require_up()
        if self.refuses:
            raise RefusedByArchiveError("The DICOMweb server refused the label (status 409).")
        self.stored.append(data)

    def _require_up(self) -> None:
        if self.down:
            raise RemoteStudiesError("The DICOMweb server cannot be reached.")


@dataclass(frozen=True)
class Scene:
    archive: Archive
    site: SiteDirectory
    datastore: DicomWebDatastore
    case: str
    label: Path

    def delivery(self) -> LabelDelivery:
        return LabelDelivery(self.datastore, self.site.root / SENT_FILE, "blob")

    def save(self, mask: np.ndarray = INSIDE) -> None:
        write_mask(mask.astype(np.uint8), read_image(self.archive.folders[self.case]), self.label)
        self.datastore.save_label(self.case, str(self.label), "final", {})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    case = write_series(tmp_path / "source", ARRAY)
    archive = Archive({case: tmp_path / "source"})
    archive.go_on.set()
    site = SiteDirectory.open(tmp_path / "site")
    datastore = DicomWebDatastore(str(site.studies), archive, site, auto_reload=False, read_only=False)  # type: ignore[arg-type]
    assert datastore.update_listing()
    return Scene(archive, site, datastore, case, tmp_path / "label.nrrd")


def test_a_label_is_sent_once_and_again_when_it_changes(scene: Scene) -> None:
    scene.save()
    delivery = scene.delivery()
    assert delivery.send_all()
    assert delivery.send_all()
    assert len(scene.archive.stored) == 1
    scene.save(INSIDE & (np.arange(24) < 12))
    assert delivery.send_all()
    assert len(scene.archive.stored) == 2
    assert delivery.status() == {"sent": 1, "waiting": {}, "refused": {}}


def test_tuning_finds_a_remote_series_and_its_label(scene: Scene) -> None:
    scene.save()
    (case,) = labelled_cases(scene.site, SiteSettings())
    loaded = load_case(case, window="auto")
    assert (case.case, case.patient) == (scene.case, patient_key("Anna"))
    np.testing.assert_array_equal(loaded.target, INSIDE)
    np.testing.assert_array_equal(loaded.image.array, ARRAY)


def test_a_label_survives_the_archive_being_down_and_the_server_being_killed(scene: Scene) -> None:
    scene.save()
    scene.archive.down = True
    delivery = scene.delivery()
    delivery.label_saved(scene.case)
    assert not delivery.send_all()
    assert "cannot be reached. The label is kept here" in delivery.status()["waiting"][scene.case]
    scene.archive.down = False
    later = scene.delivery()  # another process: it knows what is on the disk and nothing else
    assert later.send_all()
    assert (len(scene.archive.stored), later.status()["sent"]) == (1, 1)
    assert scene.delivery().send_all()
    assert len(scene.archive.stored) == 1


def test_sent_but_not_noted_is_sent_again_as_the_same_object(scene: Scene) -> None:
    scene.save()
    assert scene.delivery().send_all()
    (scene.site.root / SENT_FILE).unlink()  # killed between the two
    assert scene.delivery().send_all()
    first, second = (pydicom.dcmread(BytesIO(data)) for data in scene.archive.stored)
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (second.SOPInstanceUID, second.SeriesInstanceUID)


def test_what_cannot_be_sent_is_named_and_tried_again_by_the_next_server(scene: Scene) -> None:
    scene.save()
    scene.archive.refuses = True
    delivery = scene.delivery()
    assert delivery.send_all()
    assert "refused the label" in delivery.status()["refused"][scene.case]
    assert scene.datastore.get_labeled_images() == [scene.case]
    scene.archive.refuses = False
    assert scene.delivery().send_all()
    assert len(scene.archive.stored) == 1


def test_an_empty_label_is_kept_and_not_sent(scene: Scene) -> None:
    scene.save(np.zeros_like(INSIDE))
    delivery = scene.delivery()
    assert delivery.send_all()
    assert "empty" in delivery.status()["refused"][scene.case]
    assert not scene.archive.stored


def test_the_thread_sends_what_is_saved_while_it_waits(scene: Scene) -> None:
    delivery = scene.delivery()
    delivery.start()
    try:
        scene.save()
        delivery.label_saved(scene.case)
        deadline = threading.Event()
        for _ in range(600):
            if delivery.status()["sent"]:
                break
            deadline.wait(0.1)
        assert delivery.status()["sent"] == 1
    finally:
        delivery.stop(60)


def test_two_requests_for_one_series_fetch_it_once(scene: Scene) -> None:
    scene.archive.go_on.clear()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(scene.datastore.get_image_uri(scene.case))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert scene.archive.entered.wait(60)
    assert scene.datastore.list_images() == [scene.case]  # the list is not held up by the fetch
    assert not scene.datastore.is_local(scene.case)
    scene.archive.go_on.set()
    for thread in threads:
        thread.join(60)
    assert scene.archive.fetched == [scene.case]
    assert found == [str(scene.site.studies / scene.case)] * 2
    np.testing.assert_array_equal(read_image(Path(found[0])).array, ARRAY)


def test_a_fetch_that_fails_leaves_nothing(scene: Scene) -> None:
    scene.archive.down = True
    with pytest.raises(RemoteStudiesError):
        scene.datastore.get_image_uri(scene.case)
    assert [entry.name for entry in scene.site.studies.iterdir() if entry.name.startswith((".fetching", "1", "2"))] == []
    assert scene.datastore.get_image_uri("1.2.3") == ""


def test_patients_are_told_apart_without_their_ids(scene: Scene) -> None:
    assert "Anna" not in scene.site.patients_file.read_text(encoding="utf-8")
    assert scene.case in scene.site.patients_file.read_text(encoding="utf-8")


# --- DICOM SEG ------------------------------------------------------------------------------------------------------------------------


def frames_of(data: bytes) -> tuple[pydicom.Dataset, dict[tuple[int, str], np.ndarray]]:
    """The object, and its frames by segment and source instance, unpacked by hand."""
    dataset = pydicom.dcmread(BytesIO(data))
    size = dataset.Rows * dataset.Columns
    bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")[: size * dataset.NumberOfFrames]
    found = {}
    for plane, group in zip(bits.reshape(-1, dataset.Rows, dataset.Columns), dataset.PerFrameFunctionalGroupsSequence, strict=True):
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[segment, group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID] = plane
    return dataset, found


def test_every_frame_lies_on_the_slice_it_was_drawn_on(tmp_path: Path) -> None:
    write_series(tmp_path / "s", ARRAY, patient="Zoë")
    label = INSIDE.astype(np.uint8)
    label[1, :3, :5] = 4
    image = read_image(tmp_path / "s")
    files = series_files(tmp_path / "s")
    names = label_names([{"name": "Läsion", "idx": 1}, {"name": "x" * 100, "idx": 4}, "junk", {"idx": "2"}], "blob")
    made = write_segmentation(label, image.geometry, files, names=names, identity="a", when=datetime(2026, 1, 2, tzinfo=UTC))
    dataset, frames = frames_of(made.data)
    assert [segment.SegmentLabel for segment in dataset.SegmentSequence] == ["Läsion", "x" * 64]
    assert len(frames) == sum(int((plane == value).any()) for plane in label for value in (1, 4))
    positions = {pydicom.dcmread(file).SOPInstanceUID: pydicom.dcmread(file).ImagePositionPatient for file in files}
    for k, file in enumerate(files):
        uid = pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID
        for number, value in enumerate((1, 4), start=1):
            np.testing.assert_array_equal(frames.get((number, uid), np.zeros((20, 24))), label[k] == value)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert group.PlanePositionSequence[0].ImagePositionPatient == positions[source]
    assert (dataset.PatientID, dataset.ContentDate) == ("Zoë", "20260102")


def test_labels_that_have_no_segmentation_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "s", ARRAY)
    image, files = read_image(tmp_path / "s"), series_files(tmp_path / "s")
    with pytest.raises(LabelError, match="empty"):
        write_segmentation(np.zeros_like(ARRAY), image.geometry, files, names={}, identity="a", when=datetime.now(UTC))
    with pytest.raises(LabelError, match="one file"):
        write_segmentation(INSIDE[:2].astype(np.uint8), image.geometry, files, names={}, identity="a", when=datetime.now(UTC))
