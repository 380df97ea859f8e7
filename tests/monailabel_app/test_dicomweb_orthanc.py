"""Studies on a DICOMweb server, with a real Orthanc and a real server process: listed, fetched, segmented, labelled, and Orthanc down."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom_seg
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from monailabel_app.app_errors import RefusedByArchiveError, RemoteStudiesError
from monailabel_app.dicomweb import DicomWeb, RemoteSeries
from sam_adapters.images import read_image, write_mask
from sam_adapters.label_log import LabelLog
from tests.monailabel_app.dicom_files import write_series
from tests.monailabel_app.orthanc_process import PASSWORD, USER, Orthanc, orthanc_program, running_orthanc
from tests.monailabel_app.server_process import Server, blob, dice, read_reply, running_server, wait_until

pytestmark = [
    pytest.mark.skipif(orthanc_program() is None, reason="no Orthanc here: install the Debian packages orthanc and orthanc-dicomweb"),
    pytest.mark.slow,
]

SHAPE = (5, 40, 48)


@dataclass(frozen=True)
class Hospital:
    """An Orthanc with three series of two patients, and what was drawn into them."""

    orthanc: Orthanc
    folder: Path
    files: dict[str, Path]
    targets: dict[str, NDArray[np.bool_]]

    def client(self) -> DicomWeb:
        return DicomWeb(self.orthanc.address, USER, PASSWORD)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("archive")
    files: dict[str, Path] = {}
    targets: dict[str, NDArray[np.bool_]] = {}
    with running_orthanc(folder / "orthanc") as orthanc:
        for number, patient in enumerate(("Anna", "Anna", "Berta")):
            array, inside = blob(SHAPE, seed=number)
            uid = write_series(folder / f"series{number}", array, patient=patient)
            files[uid], targets[uid] = folder / f"series{number}", inside
            orthanc.add(files[uid])
        yield Hospital(orthanc, folder, files, targets)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_USERNAME", USER)
    monkeypatch.setenv("MONAI_LABEL_DICOMWEB_PASSWORD", PASSWORD)


def start(hospital: Hospital, folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    conf = {"image_size": "64", "tune": "false", "uncertainty": "false", "site": str(folder / "site"), "label_name": "blob"}
    return running_server(folder, hospital.orthanc.address, conf)  # type: ignore[arg-type]


def roi(inside: NDArray[np.bool_]) -> list[int]:
    k, j, i = np.nonzero(inside)
    return [int(value) for axis in (i, j, k) for value in (axis.min(), axis.max())]


def remote(server: Server) -> dict[str, Any]:
    return dict(server.status()["dicomweb"])


def save(server: Server, case: str, inside: NDArray[np.bool_], image: Path, folder: Path) -> dict[str, Any]:
    label = folder / "label.nrrd"
    write_mask(inside.astype(np.uint8), read_image(image), label)
    reply = server.put_label(case, label, {"label_info": [{"name": "Läsion", "idx": 1}]})
    assert reply.status_code == 200, reply.text
    return dict(reply.json()["fedsca"])


def test_cases_are_listed_fetched_segmented_and_their_labels_come_back_as_dicom_seg(
    hospital: Hospital, credentials: None, tmp_path: Path
) -> None:
    first, second, third = sorted(hospital.files)
    with start(hospital, tmp_path / "a") as server:
        wait_until(lambda: remote(server)["listed"] == 3, 60, what="the list of series")
        assert set(server.get("/datastore/?output=all").json()["objects"]) == set(hospital.files)
        studies = server.folder / "site" / "studies"

        # the next case is the first by name; it is fetched when its image is asked for, as one file with the series' geometry
        sample = server.request("POST", "/activelearning/first", json={}).json()
        assert (sample["id"], sample["name"], sample["path"]) == (first, f"{first}.nrrd", "")
        assert not (studies / first).exists()
        reply = server.get(f"/datastore/image?image={first}")
        assert reply.status_code == 200, reply.text
        (tmp_path / "image.nrrd").write_bytes(reply.content)
        downloaded, original = read_image(tmp_path / "image.nrrd"), read_image(hospital.files[first])
        np.testing.assert_array_equal(downloaded.array, original.array)
        np.testing.assert_allclose(downloaded.geometry.corners(), original.geometry.corners(), atol=1e-9)
        assert (studies / first).stat().st_mode & 0o077 == 0
        assert server.request("HEAD", f"/datastore/image?image={first}").status_code == 200

        # segmented where it lies
        mask, _, _ = read_reply(server.infer("sam", first, {"roi": roi(hospital.targets[first])}), tmp_path)
        assert mask.GetSize() == SHAPE[::-1]
        assert dice(sitk.GetArrayFromImage(mask), hospital.targets[first]) > 0.5

        # labelled: kept here, logged, sent
        taken = save(server, first, hospital.targets[first], hospital.files[first], tmp_path)
        assert (taken["usable"], taken["dicomweb"]["state"]) == (True, "waiting")
        assert (studies / "labels" / "final" / f"{first}.nrrd").exists()
        assert [entry.case for entry in LabelLog(server.folder / "site" / "labels.jsonl").entries()] == [first]
        wait_until(lambda: remote(server)["labels"]["sent"] == 1, 120, what="the label to be sent", note=server.log)
        check_segmentation(hospital, first)

        # the next case
        sample = server.request("POST", "/activelearning/first", json={}).json()
        assert sample["id"] == second
        mask, _, _ = read_reply(server.infer("sam", second, {"roi": roi(hospital.targets[second])}), tmp_path)
        assert dice(sitk.GetArrayFromImage(mask), hospital.targets[second]) > 0.5

        # names that are none
        assert server.infer("sam_auto", "1.2.3.4").status_code == 404
        assert server.get("/datastore/image?image=1.2.3.4").status_code == 404
        assert server.get("/datastore/image?image=..%2Fsite.json").status_code == 400
        assert server.get("/proxy/dicom/studies").status_code == 404

        # Orthanc goes down: what is here works, what is not says so, a label is kept
        hospital.orthanc.stop()
        assert server.infer("sam", second, {"roi": roi(hospital.targets[second])}).status_code == 200
        refused = server.infer("sam_auto", third)
        assert refused.status_code == 503, refused.text
        assert "cannot be reached" in refused.json()["detail"]
        save(server, second, hospital.targets[second], hospital.files[second], tmp_path)
        reason = wait_until(
            lambda: (found := remote(server)["labels"]["waiting"].get(second)) and "kept here" in found and found, 60, what="the reason"
        )
        assert "cannot be reached" in reason
        assert server.get("/info/").json()["datastore"]["total"] == 3
        server.process.send_signal(signal.SIGKILL)

    # a killed server's label is sent by the next one, which starts while Orthanc is down
    with start(hospital, tmp_path / "a") as server:
        status = remote(server)
        assert (status["listed"], status["fetched"], status["labels"]["sent"]) == (3, 2, 1)
        hospital.orthanc.start()
        wait_until(lambda: remote(server)["labels"]["sent"] == 2, 120, what="the kept label to be sent", note=server.log)
        check_segmentation(hospital, second)
        patients = (server.folder / "site" / "patients.json").read_text(encoding="utf-8")
        assert "Anna" not in patients
        read_reply(server.infer("sam", third, {"roi": roi(hospital.targets[third])}), tmp_path)


def check_segmentation(hospital: Hospital, case: str) -> None:
    """Orthanc holds exactly one SEG of the case, with the voxels of its target."""
    found = [one for one in hospital.orthanc.segmentations() if one.ReferencedSeriesSequence[0].SeriesInstanceUID == case]
    assert len(found) == 1
    segmentation = found[0]
    source = pydicom.dcmread(next(hospital.files[case].iterdir()), stop_before_pixels=True)
    assert (segmentation.PatientID, segmentation.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert segmentation.SegmentSequence[0].SegmentLabel == "Läsion"
    read = pydicom_seg.SegmentReader().read(segmentation)
    image = sitk.Resample(
        sitk.Cast(read.segment_image(1), sitk.sitkUInt8), _reference(hospital.files[case]), sitk.Transform(), sitk.sitkNearestNeighbor
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image) > 0, hospital.targets[case])


def _reference(folder: Path) -> sitk.Image:
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


def test_wrong_credentials_are_named(hospital: Hospital) -> None:
    with pytest.raises(RemoteStudiesError, match="asks for other credentials"):
        DicomWeb(hospital.orthanc.address, USER, "wrong").list_series()


def test_a_filter_narrows_the_list(hospital: Hospital) -> None:
    berta = DicomWeb(hospital.orthanc.address, USER, PASSWORD, (("PatientID", "Berta"),)).list_series()
    assert [series.patient for series in berta] == ["Berta"]
    assert DicomWeb(hospital.orthanc.address, USER, PASSWORD, (("Modality", "CT"),)).list_series() == []


def test_what_the_archive_refuses_is_told_apart_from_what_it_cannot_take_now(hospital: Hospital) -> None:
    study = hospital.client().list_series()[0].study
    with pytest.raises(RefusedByArchiveError, match="refused the label"):
        hospital.client().store(b"no DICOM file", study)


def test_a_series_that_is_gone_cannot_be_fetched(hospital: Hospital, tmp_path: Path) -> None:
    study = hospital.client().list_series()[0].study
    with pytest.raises(RemoteStudiesError, match=r"no files of series 1\.2\.3"):
        hospital.client().fetch(RemoteSeries("1.2.3", study), tmp_path)
