"""A real MONAI Label server with this app, started for a measurement and stopped after it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

import monailabel_app

START_SECONDS = 240.0
COMPILE_SECONDS = 300.0


@dataclass
class LabelServer:
    """A running server. `session` keeps its connection open, as a viewer does."""

    address: str
    log: Path
    process: "subprocess.Popen[bytes]"
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, timeout: float = 60, **kwargs: Any) -> Any:
        """JSON of a GET."""
        reply = self.session.get(self.address + path, timeout=timeout, **kwargs)
        reply.raise_for_status()
        return reply.json()

    def post(self, path: str, body: Mapping[str, Any], session: requests.Session | None = None, timeout: float = 120) -> Any:
        """JSON of a POST; `session` is another viewer's connection."""
        reply = (session or self.session).post(self.address + path, json=body, timeout=timeout)
        if not reply.ok:
            raise RuntimeError(f"POST {path}: {reply.status_code} {reply.text[:300]}")
        return reply.json()

    @property
    def memory(self) -> int:
        """Resident bytes of the server process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def wait_until_compiled(self) -> float:
        """Seconds until the active version is served by the CPU engine. Raises RuntimeError if it is not in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < COMPILE_SECONDS:
            if str(self.get("/fedsca/status")["engine"]).startswith("openvino"):
                return time.monotonic() - begun
            time.sleep(0.2)
        raise RuntimeError(f"The server did not compile its version within {COMPILE_SECONDS:.0f} s; its log is {self.log}.")


@contextmanager
def label_server(studies: Path, site: Path, conf: Mapping[str, str], log: Path) -> Iterator[LabelServer]:
    """Start `monailabel start_server` on loopback and stop it with all that it started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = Path(monailabel_app.__file__).parent
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    for key, value in {"site": str(site), **conf}.items():
        command += ["--conf", key, value]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    server = LabelServer(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait_until_it_answers(server)
        yield server
    finally:
        stop_server(process)


def _wait_until_it_answers(server: LabelServer) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < START_SECONDS:
        if server.process.poll() is not None:
            break
        try:
            if server.session.get(server.address + "/info/", timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.2)
    raise RuntimeError(f"The server did not start; its log ends:\n{server.log.read_text(errors='replace')[-2000:]}")


def stop_server(process: "subprocess.Popen[bytes]") -> None:
    """End a server and the processes it started."""
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for child in children:
        if child.is_running():
            child.kill()
    psutil.wait_procs(children, timeout=10)
