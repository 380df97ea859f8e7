"""A real MONAI Label server for tests: its process, its HTTP interface, and small images to serve."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np
import requests
import SimpleITK as sitk
from numpy.typing import NDArray
from requests_toolbelt.multipart.decoder import MultipartDecoder

import monailabel_app
from benchmarks.label_server import stop_server as stop

APP_FOLDER = Path(monailabel_app.__file__).parent
START_SECONDS = 240.0
ALWAYS = {"image_size": "128", "device": "cpu", "cpu_engine": "torch"}  # compiling costs seconds a server; test_engines.py lets it


@dataclass(frozen=True)
class Server:
    """A running server. `folder` is its own: nothing else may appear in it but what the server writes."""

    address: str
    folder: Path
    studies: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return self.request("GET", path, **kwargs)

    def request(self, method: str, path: str, *, timeout: float = 240, **kwargs: Any) -> requests.Response:
        return requests.request(method, self.address + path, timeout=timeout, **kwargs)

    def status(self) -> dict[str, Any]:
        reply = self.get("/fedsca/status")
        reply.raise_for_status()
        return dict(reply.json())

    def infer(self, model: str, image: str, params: Mapping[str, Any] | None = None, **query: str) -> requests.Response:
        """As the official plug-in sends it: multipart with a JSON field."""
        fields = {"params": (None, json.dumps(dict(params or {})), "application/json")}
        return self.request("POST", f"/infer/{model}", params={"image": image, **query}, files=fields)

    def put_label(self, case: str, label: Path, params: Mapping[str, Any] | None = None, **query: str) -> requests.Response:
        with label.open("rb") as stream:
            files = {"params": (None, json.dumps(dict(params or {})), "application/json"), "label": (label.name, stream)}
            return self.request("PUT", "/datastore/label", params={"image": case, **query}, files=files)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")


@contextmanager
def running_server(folder: Path, studies: Path, conf: Mapping[str, str] | None = None, *, ready: str = "/info/") -> Iterator[Server]:
    """Start `monailabel start_server`, wait until it answers at `ready`, and stop it with all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = start_process(folder, studies, port, {**ALWAYS, **(conf or {})})
    server = Server(f"http://127.0.0.1:{port}", folder, studies, process)
    try:
        wait_until(lambda: answers(server, ready), START_SECONDS, what="the server to answer", note=server.log)
        yield server
    finally:
        stop(process)


def start_process(folder: Path, studies: Path, port: int, conf: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """What the bash script `monailabel` executes."""
    arguments = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(APP_FOLDER), "--studies", str(studies)]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    for key, value in conf.items():
        arguments += ["--conf", key, value]
    # Threads that wait do not spin: server, tuning and other tests share two cores.
    threads = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **threads})


def answers(server: Server, path: str = "/info/") -> bool:
    """Whether `GET` of a path answers; raises when the process has ended instead."""
    if server.process.poll() is not None:
        raise AssertionError(f"The server ended with {server.process.returncode}:\n{server.log()[-3000:]}")
    try:
        return server.get(path, timeout=5).ok
    except requests.RequestException:
        return False


def wait_until(condition: Callable[[], Any], seconds: float, *, what: str, note: Callable[[], str] = str) -> Any:
    """Ask again and again, until the deadline; returns the first true answer."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        pause.wait(0.1)
    raise AssertionError(f"Waited {seconds:g} s for {what}.\n{note()[-3000:]}")


def parts_of(reply: requests.Response) -> dict[str, tuple[str, bytes]]:
    """A multipart reply: part name -> (file name, content)."""
    found: dict[str, tuple[str, bytes]] = {}
    for part in MultipartDecoder.from_response(reply).parts:
        header = Message()
        header["Content-Disposition"] = part.headers[b"Content-Disposition"].decode()
        name = str(header.get_param("name", header="Content-Disposition"))
        found[name] = (str(header.get_filename() or ""), part.content)
    return found


def read_reply(reply: requests.Response, folder: Path) -> tuple[sitk.Image, dict[str, Any], Path]:
    """The mask (as an image and as a file in `folder`) and the parameters of an infer reply."""
    assert reply.status_code == 200, reply.text
    parts = parts_of(reply)
    path = folder / parts["image"][0]
    path.write_bytes(parts["image"][1])
    return sitk.ReadImage(str(path)), dict(json.loads(parts["params"][1])), path


OBLIQUE = (0.8, 0.36, 0.48, -0.6, 0.48, 0.64, 0.0, 0.8, -0.6)  # a rotation with one axis reversed


def blob(shape: tuple[int, int, int] = (6, 40, 48), seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A noisy volume (k, j, i) with one bright ellipsoid, and where it is."""
    rng = np.random.default_rng(seed)
    k, j, i = np.indices(shape)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3) * (0.3, 1, 1)
    radii = np.array(shape) * (0.32, 0.24, 0.22)
    inside = ((k - centre[0]) / radii[0]) ** 2 + ((j - centre[1]) / radii[1]) ** 2 + ((i - centre[2]) / radii[2]) ** 2 < 1
    array = rng.normal(0, 12, shape) + 120 * inside
    return array.astype(np.int16), inside


def as_volume(array: NDArray[Any], direction: tuple[float, ...] = OBLIQUE) -> sitk.Image:
    """An anisotropic, oblique volume with a reversed axis, far from the origin."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.703125, 0.9375, 3.3))
    image.SetOrigin((-117.25, 83.7, 1250.125))
    image.SetDirection(direction)
    return image


def write_volume(path: Path, seed: int = 0) -> NDArray[np.bool_]:
    """Write a volume in the format of the path's ending; returns the target (k, j, i)."""
    array, inside = blob(seed=seed)
    sitk.WriteImage(as_volume(array), str(path))
    return inside


def write_label(path: Path, inside: NDArray[np.bool_]) -> None:
    """Write a label on the grid of `write_volume`."""
    sitk.WriteImage(as_volume(inside.astype(np.uint8)), str(path))


def write_picture(path: Path, seed: int = 0) -> NDArray[np.bool_]:
    """Write a colour picture of 60 x 80 pixels with a bright disc; returns the disc (1, 60, 80)."""
    rng = np.random.default_rng(seed)
    j, i = np.indices((60, 80))
    inside = (j - 30) ** 2 + (i - 44) ** 2 < 14**2
    array = rng.normal(60, 8, (60, 80, 3)) + inside[..., None] * np.array((120, 90, 40))
    sitk.WriteImage(sitk.GetImageFromArray(np.clip(array, 0, 255).astype(np.uint8), isVector=True), str(path))
    return np.asarray(inside[None])


def dice(mask: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Overlap, 0 to 1."""
    mask = mask > 0
    return float(2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)))
