"""A server without a network: the addresses that the client asks, answered from memory, with faults on demand."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from FedSCALib.errors import CaseGone, ConnectionProblem, FedSCAError, LoginNeeded
from FedSCALib.transport import Reply
from FedSCALib.wire import bounds, pack
from numpy.typing import NDArray

SIZE = (20, 16, 6)  # i, j, k


def disc(x: int, y: int, radius: int, shape: tuple[int, int] = (SIZE[1], SIZE[0])) -> NDArray[np.bool_]:
    """A disc on a slice perpendicular to k: (rows, columns)."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


class ScriptedServer:
    """A transport. Its model: discs of radius 3 around + points without those around - points, a box is filled.

    Attributes:
        asked: every request, in order: method, path, body.
        broken: raised instead of every answer while it is set.
        broken_click: the same, for clicks alone.
        hold: while it is cleared, clicks wait; `hold_label`: labels; `hold_job`: propagations, the first of which sets `job_asked`.
        objects: the datastore's cases.
        label_file: what is sent for a label, instead of the image.
    """

    def __init__(self, folder: Path) -> None:
        self.address = "http://hospital"
        self.token: str | None = None
        self.folder = folder
        self.asked: list[tuple[str, str, Any]] = []
        self.broken: FedSCAError | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.broken_click: FedSCAError | None = None
        self.hold_label = threading.Event()
        self.hold_label.set()
        self.hold_job, self.job_asked = threading.Event(), threading.Event()
        self.hold_job.set()
        self.objects: dict[str, Any] = {"case1": {"labels": {}}, "case2": {"labels": {"final": {"ext": ".nii.gz"}}}}
        self.results: dict[str, NDArray[np.bool_]] = {}
        self.labels: dict[str, bytes] = {}
        self.saved: list[dict[str, Any]] = []
        self.next: str | None = "case1"
        self.active = "base"
        self.decisions: list[dict[str, Any]] = []
        self.versions: list[dict[str, Any]] = []
        self.tuning: dict[str, Any] = {"running": False, "waiting": 0, "next": "1 of 3 labels", "progress": None, "last": None}
        self.job: dict[str, Any] | None = None
        self.label_file: Path | None = None
        self.image = folder / "case1.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SIZE[::-1], np.int16)), str(self.image))

    def paths(self, method: str | None = None) -> list[str]:
        """What was asked, without bodies."""
        return [path for how, path, _ in self.asked if method in (None, how)]

    def clicks(self) -> list[Any]:
        """The bodies of the clicks."""
        return [body for _, path, body in self.asked if path == "/fedsca/segment"]

    def request(
        self, method: str, path: str, *, json: Any = None, params: Any = None, files: Any = None, into: Path | None = None, **other: Any
    ) -> Reply:
        for held, event in (("/fedsca/segment", self.hold), ("/datastore/label", self.hold_label), ("/fedsca/propagate", self.hold_job)):
            if path == "/fedsca/propagate":
                self.job_asked.set()
            if path == held and method != "GET" and not event.wait(60):
                raise AssertionError("held for a minute")
        self.asked.append((method, path, json if json is not None else params))
        if self.broken is not None:
            raise self.broken
        if self.broken_click is not None and path == "/fedsca/segment":
            raise self.broken_click
        if into is not None:
            into.write_bytes((self.label_file if path == "/datastore/label" and self.label_file else self.image).read_bytes())
            return Reply(200, file=into, name="case1.nii.gz")
        answers: Mapping[str, Callable[[], Any]] = {
            "/info/": lambda: {
                "name": "site",
                "labels": {"tumour": 1, "organ": 2},
                "strategies": {"first": {}, "random": {}},
                "models": {"sam": {}},
            },
            "/fedsca/status": lambda: self._status(),
            "/fedsca/adapters": lambda: {"active": self.active, "versions": self.versions, "decisions": self.decisions},
            "/activelearning/first": lambda: {"id": self.next} if self.next else {},
            "/datastore/": lambda: {"objects": self.objects} if method == "GET" else {"image": params["image"]},
            "/fedsca/segment": lambda: self._segment(json),
            "/datastore/label/info": lambda: self.objects[params["label"]]["labels"][params["tag"]].get("info", {}),
            "/fedsca/prefetch": lambda: {"queued": 0, "ready": 0},
            "/fedsca/propagate": lambda: {"job": "job1"},
            "/fedsca/jobs/job1": lambda: self.job if method == "GET" else {},
            "/datastore/label": lambda: self._save(files, params),
            "/auth/token": lambda: self._login(other["data"]),
        }
        if path.endswith("/activate"):
            self.active = path.split("/")[3]
            return Reply(200, {"active": self.active, "generation": 1})
        return Reply(200, answers[path]())

    def _status(self) -> dict[str, Any]:
        told = {"site": "hospital", "active": self.active, "base": {"name": "litemedsam", "sha256": "0" * 64}}
        return {**told, "cases": {"total": 2, "offered": 1}, "labels": {"total": 1}, "tuning": self.tuning, "last_round": None}

    def _login(self, form: Mapping[str, str]) -> dict[str, str]:
        if form["password"] != "right":  # noqa: S105
            raise LoginNeeded(401, "User name or password is not right.")
        return {"access_token": "t"}

    def _segment(self, body: dict[str, Any]) -> dict[str, Any]:
        if "previous" in body and body["previous"] not in self.results:
            raise CaseGone(404, "That result has expired.")
        mask = np.zeros((SIZE[1], SIZE[0]), bool)
        if "roi" in body:
            i0, i1, j0, j1, _, _ = body["roi"]
            mask[j0 : j1 + 1, i0 : i1 + 1] = True
        for i, j, _ in body.get("foreground", []):
            mask |= disc(i, j, 3)
        for i, j, _ in body.get("background", []):
            mask &= ~disc(i, j, 3)
        result = f"r{len(self.results)}"
        before = self.results.get(body.get("previous", ""), np.zeros_like(mask))
        self.results[result] = mask
        echoed = {key: body[key] for key in ("axis", "index", "label")}
        told = {"version": "v1", "size": list(mask.shape), "area": int(mask.sum()), "box": bounds(mask), "iou": 0.9}
        return {"result": result, **echoed, **told, "against": body.get("previous"), "change": change(before, mask)}

    def _save(self, files: Any, params: Any) -> dict[str, Any]:
        self.labels[params["image"]] = files["label"][1].read()
        self.saved.append({"params": files["params"][1], "name": files["label"][0], **params})
        return {"label": params["image"], "fedsca": {"tuning": {"started": True, "reason": "4 new labels"}}}


def change(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> dict[str, Any] | None:
    """As the server sends it."""
    box = bounds(before != after)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    return {"box": list(box), "data": pack(after[y0 : y1 + 1, x0 : x1 + 1])}


GONE = ConnectionProblem("No server answers.")
