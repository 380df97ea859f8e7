"""The server's interface, one method a request (docs/http.md, docs/server.md). Blocking: only called in worker threads."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional
from urllib.parse import quote

from FedSCALib.errors import BadReply, CaseGone, FedSCAError, SessionExpired
from FedSCALib.multipart import Progress
from FedSCALib.packets import Case, Info, Job, Segmented, Status, Submitted, Versions, read_cases, read_label_names
from FedSCALib.prompts import PromptSet, box_to_roi
from FedSCALib.translate import tr
from FedSCALib.transport import Transport

CLICK_SECONDS = 60.0
FILE_SECONDS = 600.0
JOB_WAIT = 10


@dataclass(frozen=True)
class SegmentRequest:
    """Everything one click asks for: the complete prompts of a slice.

    Attributes:
        mask: {"box", "data"}: the slice's mask as the person has it now, where it was edited.
        previous: an earlier result for the same slice and label.
    """

    image: str
    axis: str
    index: int
    label: str
    prompts: PromptSet
    previous: Optional[str] = None
    mask: Optional[Dict[str, Any]] = None
    version: str = "active"

    def to_json(self) -> Dict[str, Any]:
        """The body of `POST /fedsca/segment`."""
        body: Dict[str, Any] = {"image": self.image, "axis": self.axis, "index": self.index, "label": self.label, "version": self.version}
        for key, sign in (("foreground", True), ("background", False)):
            voxels = [list(point.ijk) for point in self.prompts.points if point.positive is sign]
            if voxels:
                body[key] = voxels
        if self.prompts.box is not None:
            body["roi"] = box_to_roi(self.axis, self.index, self.prompts.box)
        strokes = self.prompts.scribble.to_json() if self.prompts.scribble is not None else None
        for key, value in (("scribble", strokes), ("previous", self.previous), ("mask", self.mask)):
            if value is not None:
                body[key] = value
        return body


@dataclass(frozen=True)
class Client:
    """A server's requests."""

    transport: Transport

    def info(self, cancel: Optional[threading.Event] = None) -> Info:
        return Info.from_json(self.transport.request("GET", "/info/", cancel=cancel, timeout=15).json)

    def status(self, cancel: Optional[threading.Event] = None) -> Status:
        """How the hospital's server is. Raises BadReply for a server of another kind."""
        try:
            return Status.from_json(self.transport.request("GET", "/fedsca/status", cancel=cancel, timeout=15).json)
        except CaseGone as error:
            text = tr("{address} answers, but is not a FedSCA Label server: it has no /fedsca/status. Is the address right, also the port?")
            raise BadReply(text.format(address=self.transport.address)) from error

    def login(self, user: str, password: str) -> str:
        """A token; it is used from now on. Raises LoginNeeded for a wrong password."""
        form = {"grant_type": "password", "username": user, "password": password}
        told = self.transport.request("POST", "/auth/token", data=form, timeout=30).json
        token = told.get("access_token") if isinstance(told, dict) else None
        if not isinstance(token, str) or not token:
            raise BadReply(tr("The server's login gave no token."))
        self.transport.token = token
        return token

    def versions(self, cancel: Optional[threading.Event] = None) -> Versions:
        return Versions.from_json(self.transport.request("GET", "/fedsca/adapters", cancel=cancel).json)

    def activate(self, version: str, reason: str) -> str:
        """Make a version (or `base`) serve; returns what is active then."""
        told = self.transport.request("POST", f"/fedsca/adapters/{quote(version, safe='')}/activate", json={"reason": reason}).json
        return str(told.get("active")) if isinstance(told, dict) else version

    def next_case(self, strategy: str, cancel: Optional[threading.Event] = None) -> Optional[str]:
        """The case that should be labelled next; None when there is none left."""
        told = self.transport.request("POST", f"/activelearning/{quote(strategy, safe='')}", json={}, cancel=cancel).json
        case = told.get("id") if isinstance(told, dict) else None
        return str(case) if case else None

    def cases(self, cancel: Optional[threading.Event] = None) -> List[Case]:
        return read_cases(self.transport.request("GET", "/datastore/", params={"output": "all"}, cancel=cancel).json)

    def download_image(
        self, case: str, folder: Path, progress: Optional[Progress] = None, cancel: Optional[threading.Event] = None
    ) -> Path:
        """The case's image file in `folder`, under its own name."""
        return self._download("/datastore/image", {"image": case}, folder, case, progress, cancel)

    def download_label(self, case: str, tag: str, folder: Path, cancel: Optional[threading.Event] = None) -> Path:
        return self._download("/datastore/label", {"label": case, "tag": tag}, folder, f"{case}-{tag}", None, cancel)

    def label_names(self, case: str, tag: str, cancel: Optional[threading.Event] = None) -> Dict[int, str]:
        """Value -> name of a label's structures, as far as whoever saved it said."""
        return read_label_names(
            self.transport.request("GET", "/datastore/label/info", params={"label": case, "tag": tag}, cancel=cancel).json
        )

    def upload_image(self, path: Path, name: str, progress: Optional[Progress] = None, cancel: Optional[threading.Event] = None) -> str:
        """Put an image into the datastore as a case of this name; returns the case's id. Only the file's ending is told, never its path."""
        ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
        with path.open("rb") as stream:
            files = {"params": (None, "{}", "application/json"), "file": (f"{name}{ending}", stream, "application/octet-stream")}
            told = self.transport.request(
                "PUT", "/datastore/", params={"image": name}, files=files, progress=progress, cancel=cancel, timeout=FILE_SECONDS
            ).json
        return str(told.get("image") or name) if isinstance(told, dict) else name

    def segment(self, request: SegmentRequest, cancel: Optional[threading.Event] = None) -> Segmented:
        """One click. Raises SessionExpired when `previous` is no longer kept."""
        try:
            return Segmented.from_json(
                self.transport.request("POST", "/fedsca/segment", json=request.to_json(), cancel=cancel, timeout=CLICK_SECONDS).json
            )
        except CaseGone as error:
            if request.previous is not None:
                raise SessionExpired(error.status, error.detail) from error
            raise

    def prefetch(self, image: str, axis: str, index: int, viewer: str, cancel: Optional[threading.Event] = None) -> None:
        """Encode ahead from this slice outwards."""
        body = {"image": image, "axis": axis, "index": index, "viewer": viewer}
        self.transport.request("POST", "/fedsca/prefetch", json=body, cancel=cancel, timeout=15)

    def stop_prefetch(self, viewer: str) -> None:
        self.transport.request("DELETE", "/fedsca/prefetch", params={"viewer": viewer}, timeout=15)

    def propagate(self, previous: str, mask: Optional[Mapping[str, Any]] = None, cancel: Optional[threading.Event] = None) -> str:
        """Carry a result on to its neighbours; returns the job's id. Raises SessionExpired as `segment`."""
        body: Dict[str, Any] = {"previous": previous}
        if mask is not None:
            body["mask"] = dict(mask)
        try:
            return self._job(self.transport.request("POST", "/fedsca/propagate", json=body, cancel=cancel).json)
        except CaseGone as error:
            raise SessionExpired(error.status, error.detail) from error

    def volume(self, image: str, axis: str, index: int, label: str, cancel: Optional[threading.Event] = None) -> str:
        """Every slice without prompts; returns the job's id."""
        body = {"image": image, "axis": axis, "index": index, "label": label}
        return self._job(self.transport.request("POST", "/fedsca/volume", json=body, cancel=cancel).json)

    def job(self, job: str, after: int, wait: int = JOB_WAIT, cancel: Optional[threading.Event] = None) -> Job:
        """How far a job is, with the slices after number `after`; waits up to `wait` seconds for one."""
        params = {"after": after, "wait": wait}
        return Job.from_json(
            self.transport.request("GET", f"/fedsca/jobs/{quote(job, safe='')}", params=params, cancel=cancel, timeout=wait + 30).json
        )

    def cancel_job(self, job: str) -> None:
        self.transport.request("DELETE", f"/fedsca/jobs/{quote(job, safe='')}", timeout=15)

    def submit_label(
        self,
        case: str,
        path: Path,
        *,
        tag: str = "final",
        label_info: Optional[List[Dict[str, Any]]] = None,
        version: Optional[str] = None,
        client_id: str = "",
    ) -> Submitted:
        """Save a label file for a case. The server checks it before it replaces anything."""
        told: Dict[str, Any] = {"label_info": label_info or []}
        for key, value in (("version", version), ("client_id", client_id)):
            if value:
                told[key] = value
        with path.open("rb") as stream:
            ending = ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix
            files = {
                "params": (None, json.dumps(told), "application/json"),
                "label": (f"label{ending}", stream, "application/octet-stream"),
            }
            reply = self.transport.request("PUT", "/datastore/label", params={"image": case, "tag": tag}, files=files, timeout=FILE_SECONDS)
        return Submitted.from_json(reply.json)

    def start_tuning(self) -> None:
        self.transport.request("POST", "/train/sam", json={})

    def stop_tuning(self) -> None:
        self.transport.request("DELETE", "/train/")

    @staticmethod
    def _job(told: Any) -> str:
        job = told.get("job") if isinstance(told, dict) else None
        if not isinstance(job, str):
            raise BadReply(tr("The server began no job."))
        return job

    def _download(
        self, path: str, params: Mapping[str, str], folder: Path, name: str, progress: Optional[Progress], cancel: Optional[threading.Event]
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        into = folder / "download"
        reply = self.transport.request("GET", path, params=params, into=into, progress=progress, cancel=cancel, timeout=FILE_SECONDS)
        named = reply.name or name
        if "." not in named:
            text = tr("The server sent “{name}”, a file without an ending: what kind of image it is cannot be told.")
            raise FedSCAError(text.format(name=named))
        final = folder / named
        into.replace(final)
        return final
