"""The library against a hospital's real server, in one story: TLS with the hospital's CA, login, annotation, a power cut, submit."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from FedSCALib.annotator import make_client
from FedSCALib.drafts import Drafts
from FedSCALib.errors import CertificateProblem, ConnectionProblem, LoginNeeded
from FedSCALib.wire import bounds

from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile
from tests.monailabel_app.certificates import write_certificate
from tests.monailabel_app.server_process import ALWAYS, START_SECONDS, dice, stop, wait_until, write_volume
from tests.slicer_extension.lib.bench import Bench

PHRASE = "correct horse battery"
SETTINGS = {**ALWAYS, "image_size": "64", "uncertainty": "false", "tune": "false", "label_name": "tumour", "label_value": "1"}


class TlsServer:
    """`fedsca serve` of a hospital, at one address over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies = folder / "site" / "studies"
        self.studies.mkdir(parents=True)
        self.inside = {case: write_volume(self.studies / f"{case}.nii.gz", seed) for seed, case in enumerate(("one", "two"))}
        UserFile(folder / "site" / "users.json").add("adam", passwords.hashed(PHRASE), ["admin"])
        self.certificate, self.key = write_certificate(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "fed_backend.cli", "serve", "--studies", str(self.studies), "--port", str(self.port)]
        command += ["--tls-cert", str(self.certificate), "--tls-key", str(self.key), "--users", str(self.folder / "site" / "users.json")]
        for name, value in SETTINGS.items():
            command += ["--conf", name, value]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, env={**os.environ, "OMP_NUM_THREADS": "2"}
            )
        wait_until(
            self._answers,
            START_SECONDS,
            what="the server",
            note=lambda: (self.folder / "server.log").read_text(encoding="utf-8", errors="replace"),
        )

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            return requests.get(self.address + "/auth/", verify=str(self.certificate), timeout=5).ok
        except requests.RequestException:
            return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    made = TlsServer(tmp_path_factory.mktemp("hospital"))
    try:
        made.start()
        yield made
    finally:
        stop(made.process)


@pytest.fixture(scope="module")
def bench(server: TlsServer) -> Iterator[Bench]:
    made = Bench(server.folder, None, real_time=True)
    made.annotator._connection._make = make_client
    yield made
    assert made.annotator.close(30)


def test_a_certificate_that_nobody_here_trusts_is_explained(server: TlsServer) -> None:
    with pytest.raises(CertificateProblem, match="CA certificate"):
        make_client(server.address, None).status()
    with pytest.raises(ConnectionProblem, match="https://"):
        make_client(server.address.replace("https", "http"), None).status()
    with pytest.raises(LoginNeeded):
        make_client(server.address, server.certificate).status()


def test_login_with_the_hospitals_ca(bench: Bench, server: TlsServer) -> None:
    bench.annotator.connect(server.address, server.certificate)
    bench.until(lambda: bench.state.connection == "login")
    bench.annotator.login("adam", "wrong")
    bench.until(lambda: bench.state.notice is not None)
    assert bench.state.notice.action == "login"
    bench.annotator.login("adam", PHRASE)
    bench.until(lambda: bench.state.connection == "on" and bench.state.versions is not None and bench.state.cases)
    assert bench.state.status.base == "litemedsam"
    assert [case.id for case in bench.state.cases] == ["one", "two"]


def test_a_box_and_a_click_find_the_structure(bench: Bench, server: TlsServer) -> None:
    bench.annotator.next_case()
    bench.until(lambda: bench.state.case)
    inside = server.inside[bench.state.case]
    box = bounds(inside[3])
    assert box is not None
    bench.annotator.set_box("k", 3, box)
    bench.until(lambda: bench.canvas.slice_mask("tumour", "k", 3).any())
    assert dice(bench.canvas.slice_mask("tumour", "k", 3), inside[3]) > 0.85
    before = bench.canvas.slice_mask("tumour", "k", 3)
    j, i = np.argwhere(inside[3])[0].tolist()
    bench.annotator.add_point((i, j, 3), "k")
    bench.settle_requests()
    bench.annotator.undo()
    np.testing.assert_array_equal(bench.canvas.slice_mask("tumour", "k", 3), before)


@pytest.mark.parametrize("axis", ["j", "i"])
def test_other_axes(bench: Bench, server: TlsServer, axis: str) -> None:
    inside = np.moveaxis(server.inside[bench.state.case], "kji".index(axis), 0)
    index = int(inside.sum(axis=(1, 2)).argmax())
    box = bounds(inside[index])
    assert box is not None
    bench.annotator.set_box(axis, index, box)
    bench.settle_requests()
    assert bench.canvas.slice_mask("tumour", axis, index)[box[1] : box[3] + 1, box[0] : box[2] + 1].any()
    bench.annotator.undo()


def test_propagation_fills_neighbours(bench: Bench) -> None:
    bench.annotator.view_slice("k", 3)
    bench.annotator.propagate()
    bench.until(lambda: bench.state.notice is not None and "slices were filled" in bench.state.notice.text)
    filled = [index for index in range(6) if bench.canvas.slice_mask("tumour", "k", index).any()]
    assert 3 in filled
    assert len(filled) > 1


def test_a_power_cut_loses_nothing(bench: Bench, server: TlsServer) -> None:
    masks = bench.canvas.masks["tumour"].copy()
    server.kill()
    bench.annotator.set_box("k", 3, (2, 2, 6, 6))
    bench.until(lambda: bench.state.connection == "lost")
    np.testing.assert_array_equal(bench.canvas.masks["tumour"], masks)
    bench.until(lambda: Drafts(server.folder / "drafts").find(server.address, bench.state.case))
    server.start()
    bench.until(lambda: bench.state.connection == "on")
    bench.settle_requests()
    assert bench.canvas.slice_mask("tumour", "k", 3)[2:7, 2:7].any()
    bench.annotator.undo()
    np.testing.assert_array_equal(bench.canvas.masks["tumour"], masks)


def test_submit_stores_exactly_what_is_drawn(bench: Bench, server: TlsServer) -> None:
    case = bench.state.case
    bench.annotator.submit()
    bench.until(lambda: not bench.state.unsaved)
    stored = sitk.ReadImage(str(server.studies / "labels" / "final" / f"{case}.nii.gz"))
    image = sitk.ReadImage(str(server.studies / f"{case}.nii.gz"))
    assert stored.GetSize() == image.GetSize()
    np.testing.assert_allclose(stored.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(stored.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(stored) == 1, bench.canvas.masks["tumour"])
    assert Drafts(server.folder / "drafts").find(server.address, case) is None
    assert [item.tags for item in bench.state.cases if item.id == case] == [("final",)]


def test_a_label_of_ones_own_keeps_its_name_and_value(bench: Bench, server: TlsServer) -> None:
    case = bench.state.case
    bench.annotator.add_label("cyst")
    bench.annotator.paint("k", 0, (0, 0, 2, 2), np.ones((3, 3), bool))
    bench.annotator.submit()
    bench.until(lambda: not bench.state.unsaved)
    other = next(item.id for item in bench.state.cases if item.id != case)
    bench.annotator.open_case(other, "")
    bench.until(lambda: bench.state.case == other)
    bench.annotator.open_case(case)
    bench.until(lambda: bench.state.case == case)
    assert [(segment.name, segment.value) for segment in bench.state.labels] == [("tumour", 1), ("cyst", 2)]
    assert bench.canvas.masks["cyst"].sum() == 9
    assert bench.canvas.masks["tumour"].any()


def test_a_case_of_ones_own_is_uploaded_once(bench: Bench, server: TlsServer, tmp_path: Path) -> None:
    write_volume(tmp_path / "my own.nii.gz", seed=9)
    bench.annotator.upload(tmp_path / "my own.nii.gz")
    bench.until(lambda: bench.state.case == "my_own")
    assert (server.studies / "my_own.nii.gz").is_file()
    bench.annotator.upload(tmp_path / "my own.nii.gz")
    bench.until(lambda: bench.state.notice is not None and "already" in bench.state.notice.text)
