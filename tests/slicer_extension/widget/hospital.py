"""A hospital with virtual patients and its real MONAI Label server, which can be killed and started again at the same address."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
import SimpleITK as sitk
from numpy.typing import NDArray

from fed_backend.demo.hospital import Hospital
from fed_backend.demo.virtual_hospitals import virtual_hospital
from tests.monailabel_app.server_process import ALWAYS, START_SECONDS, start_process, stop, wait_until

QUICK = {
    "name": "riverside",
    "image_size": "64",
    "label_name": "lesion",
    "label_value": "1",
    "tune_after": "1",
    "tune_minimum": "1",
    "tune_steps": "2",
    "batch_size": "1",
    "tune_kinds": "box",
    "gate_kinds": "box",
    "gate_margin": "1",
    "gate_slices_per_case": "1",
    "uncertainty": "false",
}


@dataclass
class RunningHospital:
    """`drawn` is the hospital on disk; `port` stays the same over restarts."""

    folder: Path
    drawn: Hospital
    port: int
    conf: dict[str, str] = field(default_factory=dict)
    process: Any = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self.process = start_process(self.folder, self.drawn.root / "studies", self.port, {**ALWAYS, **QUICK, **self.conf})
        wait_until(self.answers, START_SECONDS, what="the server", note=self.log)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return bool(requests.get(f"{self.url}/info/", timeout=5).ok)
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """As a power cut: no goodbye."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(60)
        stop(self.process)

    def stop(self) -> None:
        stop(self.process)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")

    def truth(self, case: str) -> NDArray[np.bool_]:
        """Where the lesion is, (k, j, i)."""
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(self.drawn.truths[case]))) > 0)

    def label(self, case: str, tag: str = "final") -> NDArray[Any]:
        """The label that the server keeps, (k, j, i)."""
        reply = requests.get(f"{self.url}/datastore/label", params={"label": case, "tag": tag}, timeout=60)
        reply.raise_for_status()
        path = self.folder / f"kept-{case}.nii.gz"
        path.write_bytes(reply.content)
        return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path))))

    def save_truth(self, case: str) -> None:
        """What a colleague did earlier."""
        params = {"label_info": [{"name": "lesion", "idx": 1}]}
        with self.drawn.truths[case].open("rb") as stream:
            files = {"params": (None, json.dumps(params), "application/json"), "label": ("label.nii.gz", stream)}
            requests.put(f"{self.url}/datastore/label", params={"image": case, "tag": "final"}, files=files, timeout=60).raise_for_status()


def make_hospital(folder: Path, size: tuple[int, int, int] = (6, 96, 96), **conf: str) -> RunningHospital:
    """A hospital whose server is not started yet; `size` of its volumes is (slices, rows, columns)."""
    drawn = virtual_hospital(folder, 0, seed=4, train=3, val=2, test=0, size=size)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return RunningHospital(folder, drawn, port, conf)


def box_around(mask: NDArray[np.bool_], index: int, margin: int = 1) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Opposite corners (i, j, k) of a box around a mask's slice (perpendicular to k)."""
    rows, columns = np.nonzero(mask[index])
    low = (int(columns.min()) - margin, int(rows.min()) - margin, index)
    return low, (int(columns.max()) + margin, int(rows.max()) + margin, index)


def largest_slice(mask: NDArray[np.bool_]) -> int:
    return int(mask.sum(axis=(1, 2)).argmax())
