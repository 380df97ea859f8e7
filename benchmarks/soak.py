"""Minutes of a busy day on a real server: users click, save labels, tune and send rubbish; does it stay quick, whole and small?

    fedsca bench soak [--minutes 10] [--users 3] [--json FILE]

Each user opens a case, clicks around, undoes, saves a label and goes on to the next case. Meanwhile labels trigger tunings, volumes are
segmented and cancelled, and one visitor sends requests that must be refused. Ends with exit code 1 if a request was answered otherwise than
expected, if the server's memory grew beyond what its caches may hold, or if a label was lost.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import requests

from benchmarks.label_server import LabelServer, label_server
from benchmarks.machine import machine
from benchmarks.timing import Timing, elapsed

CASES = 24
SIZE_IJK = (160, 144, 40)
RUBBISH: tuple[tuple[str, str, dict[str, Any], int], ...] = (
    ("POST", "/fedsca/segment", {"json": {"image": "case_00", "foreground": [[1e9, 0, 0]]}}, 400),
    ("POST", "/fedsca/segment", {"json": {"image": "case_00", "axis": "z"}}, 400),
    ("POST", "/fedsca/segment", {"json": {"image": "../../etc/passwd", "foreground": [[1, 1, 1]]}}, 400),
    ("POST", "/fedsca/segment", {"json": {"image": "nobody", "foreground": [[1, 1, 1]]}}, 404),
    ("POST", "/fedsca/segment", {"data": b"{not json"}, 400),
    ("GET", "/fedsca/results/unknown", {}, 404),
    ("POST", "/infer/nothing?image=case_00", {"files": {"params": (None, "{}")}}, 404),
    ("PUT", "/datastore/label?image=case_00&tag=../x", {"files": {"params": (None, "{}"), "label": ("x.nii.gz", b"no image")}}, 400),
    ("PUT", "/datastore/label?image=case_00", {"files": {"params": (None, "{}"), "label": ("x.nii.gz", b"no image")}}, 422),
)
MEMORY_SLACK = 400 * 2**20
"""What a server may grow beyond its caches: buffers of the allocator and of the engine for the largest request so far."""


@dataclass
class Record:
    """What happened; filled by several threads (appending is atomic)."""

    times: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    saved: dict[str, int] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def done(self, what: str, milliseconds: float) -> None:
        """Note one request."""
        self.times.setdefault(what, []).append(milliseconds)
        self.counts[what] += 1


class User(threading.Thread):
    """One radiologist: opens every third case or so, clicks, undoes, saves."""

    def __init__(self, number: int, server: LabelServer, labels: Path, record: Record, until: float) -> None:
        super().__init__(name=f"user {number}")
        self._number, self._server, self._labels, self._record, self._until = number, server, labels, record, until
        self._session = requests.Session()
        self._rng = np.random.default_rng(number)

    def run(self) -> None:
        case_number = self._number
        while time.monotonic() < self._until:
            self._work_on(f"case_{case_number % CASES:02d}")
            case_number += 3

    def _work_on(self, case: str) -> None:
        index = int(self._rng.integers(10, SIZE_IJK[2] - 10))
        self._json("open", "POST", "/fedsca/prefetch", json={"image": case, "index": index, "viewer": self.name})
        results: list[str] = []
        for _ in range(6):
            x, y = (int(self._rng.integers(40, 100)) for _ in range(2))
            body: dict[str, Any] = {"image": case, "index": index, "foreground": [[x, y, index]]}
            if results:
                body["previous"] = results[-1]
            reply = self._json("click" if results else "first click", "POST", "/fedsca/segment", json=body)
            if reply is None:
                return
            results.append(reply["result"])
            if time.monotonic() >= self._until:
                return
        self._json("undo", "GET", f"/fedsca/results/{results[-2]}", params={"since": results[-1]})
        if self._rng.random() < 0.2:
            job = self._json("volume", "POST", "/fedsca/volume", json={"image": case, "index": index})
            if job is not None:
                self._json("cancel", "DELETE", f"/fedsca/jobs/{job['job']}")
        self._save(case)

    def _save(self, case: str) -> None:
        with (self._labels / f"{case}.nii.gz").open("rb") as stream:
            files = {"params": (None, "{}"), "label": (f"{case}.nii.gz", stream)}
            if self._json("save", "PUT", "/datastore/label", params={"image": case}, files=files) is not None:
                self._record.saved[case] = self._record.saved.get(case, 0) + 1

    def _json(self, what: str, method: str, path: str, **kwargs: Any) -> Any:
        return request(self._record, self._session, self._server, what, method, path, 200, **kwargs)


def request(
    record: Record, session: requests.Session, server: LabelServer, what: str, method: str, path: str, expected: int, **kwargs: Any
) -> Any:
    """Send one request and note how long it took; None when it was answered otherwise than expected."""
    replies: list[requests.Response] = []
    try:
        took = elapsed(lambda: replies.append(session.request(method, server.address + path, timeout=120, **kwargs)))
    except requests.RequestException as error:
        record.wrong.append(f"{what}: {error}")
        return None
    reply = replies[0]
    if reply.status_code != expected or (expected != 200 and not reply.json().get("detail")):
        record.wrong.append(f"{what} {method} {path}: {reply.status_code}, expected {expected}: {reply.text[:200]}")
        return None
    record.done(what, took)
    return reply.json()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it, show what happened, end with 1 if something was wrong."""
    options = _parser().parse_args(arguments)
    about = machine()
    with tempfile.TemporaryDirectory(prefix="fedsca-soak-") as scratch:
        record, bound, status = soak(Path(scratch), minutes=options.minutes, users=options.users, image_size=options.image_size)
    timings = [Timing(name, tuple(values)) for name, values in sorted(record.times.items())]
    first, last = _memory_at(record, 0.25), max(size for _, size in record.memory)
    if last > first + bound:
        record.wrong.append(
            f"The server grew from {first / 2**20:.0f} to {last / 2**20:.0f} MiB, more than its caches' {bound / 2**20:.0f} MiB."
        )
    result = {
        "machine": about,
        "minutes": options.minutes,
        "users": options.users,
        "image_size": options.image_size,
        "engine": status["engine"],
        "tunings": status["tuning"]["last"],
        "timings": [{key: value for key, value in timing.to_dict().items() if key != "milliseconds"} for timing in timings],
        "memory_mib": [[round(at, 1), round(size / 2**20)] for at, size in record.memory],
        "embeddings": status["embeddings"],
        "wrong": record.wrong,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for timing in timings:
        print(
            f"{timing.name:12} {len(timing.milliseconds):6} times, p50 {timing.percentile(50):7.0f} ms, p95 {timing.percentile(95):7.0f} ms"
        )
    print(f"Memory: {first / 2**20:.0f} MiB after a quarter, {last / 2**20:.0f} MiB at most; active version {status['active']}")
    print("\n".join(record.wrong[:20]) or "Every request was answered as expected, and no label was lost.")
    sys.exit(bool(record.wrong))


def soak(
    folder: Path, *, minutes: float, users: int, image_size: int, conf: dict[str, str] | None = None
) -> tuple[Record, int, dict[str, Any]]:
    """Run the traffic against a new server in `folder`.

    Returns:
        What happened, how many bytes the server may grow after its first quarter, and its status at the end.
    """
    studies, labels = _studies(folder)
    record = Record()
    settings = {"image_size": str(image_size), "tune_after": "4", "tune_steps": "6", "cache_mb": "128", "results_mb": "16", **(conf or {})}
    bound = 2 * 128 * 2**20 + 16 * 2**20 + MEMORY_SLACK
    with label_server(studies, folder / "site", settings, folder / "server.log") as server:
        begun = time.monotonic()
        until = begun + 60 * minutes
        threads: list[threading.Thread] = [User(number, server, labels, record, until) for number in range(users)]
        threads.append(threading.Thread(target=lambda: _send_rubbish(server, record, until)))
        threads.append(threading.Thread(target=lambda: _ask_for_information(server, record, begun, until)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status = server.get("/fedsca/status")
        _check_labels(studies, labels, record)
        if server.process.poll() is not None:
            record.wrong.append(f"The server ended: {server.log.read_text(errors='replace')[-1000:]}")
    return record, bound, status


def _send_rubbish(server: LabelServer, record: Record, until: float) -> None:
    session = requests.Session()

    def send(turn: int) -> None:
        method, path, kwargs, expected = RUBBISH[turn % len(RUBBISH)]
        request(record, session, server, "refused", method, path, expected, **kwargs)

    _repeat(until, 0.5, send)


def _ask_for_information(server: LabelServer, record: Record, begun: float, until: float) -> None:
    session = requests.Session()

    def ask(_: int) -> None:
        request(record, session, server, "info", "GET", "/info/", 200)
        record.memory.append((time.monotonic() - begun, server.memory))

    _repeat(until, 0.5, ask)


def _repeat(until: float, pause: float, action: Callable[[int], object]) -> None:
    stop, turn = threading.Event(), 0
    while time.monotonic() < until:
        action(turn)
        turn += 1
        stop.wait(pause)


def _memory_at(record: Record, part: float) -> int:
    return record.memory[int(part * len(record.memory))][1]


def _check_labels(studies: Path, labels: Path, record: Record) -> None:
    for case in record.saved:
        stored = studies / "labels" / "final" / f"{case}.nii.gz"
        if not stored.exists() or stored.read_bytes() != (labels / f"{case}.nii.gz").read_bytes():
            record.wrong.append(f"The label of {case} was saved, and is not there as it was sent.")


def _studies(folder: Path) -> tuple[Path, Path]:
    studies, labels = folder / "studies", folder / "own-labels"
    studies.mkdir()
    labels.mkdir()
    i, j, k = np.mgrid[: SIZE_IJK[0], : SIZE_IJK[1], : SIZE_IJK[2]]
    for number in range(CASES):
        rng = np.random.default_rng(number)
        ball = (i - 70) ** 2 + (j - 70) ** 2 + 9 * (k - 20) ** 2 < rng.uniform(20, 40) ** 2
        voxels = (200 * ball + rng.normal(0, 30, ball.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), studies / f"case_{number:02d}.nii.gz")
        nib.save(nib.Nifti1Image(ball.astype(np.uint8), np.eye(4)), labels / f"case_{number:02d}.nii.gz")
    return studies, labels


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedsca bench soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--users", type=int, default=3, help="radiologists at once (default: 3)")
    parser.add_argument("--image-size", type=int, default=256, help="side of the network's input (default: 256)")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    return parser


if __name__ == "__main__":
    main()
