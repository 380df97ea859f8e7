"""The workstation as a process and a headless Chromium in front of it."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.monailabel_app.server_process import wait_until

ROOT = Path(__file__).resolve().parents[3]
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
START_SECONDS = 120.0


def missing() -> str:
    """Why neither a page nor pictures can be had here; "" where both can."""
    if not chromium():
        return "no Chromium is installed (Debian: apt install chromium)"
    if ctypes.util.find_library("EGL") is None:
        return "libEGL is missing (Debian: apt install libegl1 libgl1-mesa-dri)"
    return ""


def chromium() -> str:
    """The browser's program, or ""."""
    found = (os.environ.get("FEDSCA_CHROMIUM"), shutil.which("chromium"), shutil.which("chromium-browser"), shutil.which("google-chrome"))
    return next((program for program in found if program), "")


@contextmanager
def workstation(folder: Path, *options: str) -> Iterator[str]:
    """Run `python -m workstation`; gives the page's address with its one-time token. What it prints is in folder/workstation.log."""
    folder.mkdir(parents=True, exist_ok=True)
    ready, log = folder / "ready", folder / "workstation.log"
    ready.unlink(missing_ok=True)
    paths = [ROOT / "slicer_extension", ROOT / "slicer_extension" / "FedSCA", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [
        sys.executable,
        "-m",
        "workstation",
        "--no-browser",
        "--port",
        "0",
        "--home",
        str(folder / "home"),
        "--ready-file",
        str(ready),
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, *options], stdout=stream, stderr=subprocess.STDOUT, env=environment)

    def there() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")
        return ready.is_file() and bool(ready.read_text(encoding="utf-8"))

    try:
        wait_until(there, START_SECONDS, what="the workstation", note=lambda: log.read_text(encoding="utf-8", errors="replace"))
        yield ready.read_text(encoding="utf-8")
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[Any]:
    """A page of a headless Chromium of its own. `page.requests` lists every address that was asked for, `page.problems` what went wrong."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = started.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(60_000)
        page.requests, page.problems = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("websocket", lambda socket: page.requests.append(socket.url))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        try:
            yield page
        finally:
            started.close()


def pause(seconds: float) -> None:
    """For scripts that take pictures; tests wait for events."""
    threading.Event().wait(seconds)
