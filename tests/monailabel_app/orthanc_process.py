"""A real Orthanc with its DICOMweb plug-in, on loopback, for tests. Debian packages `orthanc` and `orthanc-dicomweb`."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
import requests

from tests.monailabel_app.server_process import wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "fedsca", "only-for-tests"  # of a server that lives as long as a test


def orthanc_program() -> str | None:
    """Path of Orthanc, None where it or its DICOMweb plug-in is not installed."""
    return shutil.which("Orthanc") if PLUGIN.exists() else None


@dataclass
class Orthanc:
    """A server that can be stopped and started again with what it holds."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def start(self) -> None:
        with (self.folder / "orthanc.log").open("ab") as log:
            arguments = [str(orthanc_program()), str(self.folder / "orthanc.json")]
            self.process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder)
        wait_until(self._answers, 120, what="Orthanc to answer", note=(self.folder / "orthanc.log").read_text)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def add(self, folder: Path) -> None:
        for file in folder.iterdir():
            reply = requests.post(f"http://127.0.0.1:{self.port}/instances", data=file.read_bytes(), auth=(USER, PASSWORD), timeout=60)
            assert reply.status_code == 200, reply.text

    def segmentations(self) -> list[pydicom.Dataset]:
        """Every DICOM SEG it holds."""
        asked = {"Level": "Instance", "Query": {"Modality": "SEG"}}
        reply = requests.post(f"http://127.0.0.1:{self.port}/tools/find", json=asked, auth=(USER, PASSWORD), timeout=60)
        return [self._file(name) for name in reply.json()]

    def _file(self, name: str) -> pydicom.Dataset:
        reply = requests.get(f"http://127.0.0.1:{self.port}/instances/{name}/file", auth=(USER, PASSWORD), timeout=60)
        return pydicom.dcmread(pydicom.filebase.DicomBytesIO(reply.content))

    def _answers(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/system", auth=(USER, PASSWORD), timeout=5).ok
        except requests.RequestException:
            return False


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start an empty Orthanc that keeps everything in `folder`."""
    folder.mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    orthanc = Orthanc(folder, port)
    try:
        orthanc.start()
        yield orthanc
    finally:
        orthanc.stop()
