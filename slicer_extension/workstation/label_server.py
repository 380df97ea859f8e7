"""A hospital's server of our own, for `--studies`: started as a process on this computer, stopped with the workstation."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import requests
from FedSCALib.errors import FedSCAError
from FedSCALib.translate import tr

APP = Path(__file__).resolve().parents[2] / "monailabel_app"
START_SECONDS = 240.0
STOP_SECONDS = 15.0


class LabelServer:
    """The process. What it prints goes to `<home>/server.log`.

    Args:
        studies: folder of images.
        conf: settings, as `--conf`.
        home: where the log is written.
    """

    def __init__(self, studies: Path, conf: tuple[tuple[str, str], ...], home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log = home / "server.log"
        port = _free_port()
        self.address = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(APP), "--studies", str(studies.resolve())]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        for key, value in conf:
            command += ["--conf", key, value]
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, env=_environment(), cwd=home, start_new_session=True
            )

    def wait(self) -> str:
        """Its address, once it answers.

        Raises:
            FedSCAError: it ended, or does not answer in time.
        """
        end, pause = time.monotonic() + START_SECONDS, threading.Event()
        while time.monotonic() < end:
            if self._process.poll() is not None:
                break
            try:
                if requests.get(f"{self.address}/info/", timeout=5).ok:
                    return self.address
            except requests.RequestException:
                pass
            pause.wait(0.2)
        raise FedSCAError(tr("The hospital's server did not start. What it said is in {log}.").format(log=self.log))

    def stop(self) -> None:
        """End it with all that it started."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, sign)
                self._process.wait(STOP_SECONDS)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def _environment() -> dict[str, str]:
    """Threads that wait do not spin: the page's pictures need the cores too. The page's own settings of VTK are not the server's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("VTK_", "WSLINK_", "TRAME_"))}
    return {"OMP_WAIT_POLICY": "PASSIVE", **kept, "PYTHONPATH": os.pathsep.join((str(APP.parent), kept.get("PYTHONPATH", "")))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
