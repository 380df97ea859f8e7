"""A hospital's MONAI Label server as the scripted radiologist sees it: HTTP and nothing else.

One client belongs to one thread at a time (`requests.Session` is not thread-safe). Every call has a deadline.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import requests
from numpy.typing import NDArray
from requests_toolbelt.multipart.decoder import MultipartDecoder

from fed_backend.demo.errors import DemoError, RestError
from fed_backend.demo.hospital import read_pixels

QUICK_SECONDS = 30.0
INFER_SECONDS = 300.0


@dataclass(frozen=True)
class InferReply:
    """A mask and what the server says about it: boolean (k, j, i); `params` holds at least `version`."""

    mask: NDArray[np.bool_]
    params: Mapping[str, Any]

    @property
    def version(self) -> str:
        """The version that made the mask."""
        return str(self.params.get("version", ""))


class HospitalServer(Protocol):
    """What the radiologist needs of a hospital's server."""

    def status(self) -> dict[str, Any]:
        """`GET /fedsca/status`."""

    def next_case(self, strategy: str) -> str | None:
        """The case that the server proposes to label next, None if nothing is left."""

    def infer(self, model: str, case: str, params: Mapping[str, Any]) -> InferReply:
        """Segment a case with a model and prompts."""

    def submit(self, case: str, label: Path, params: Mapping[str, Any]) -> dict[str, Any]:
        """Hand in a finished label."""


class RestClient:
    """`HospitalServer` over MONAI Label's REST interface.

    Args:
        address: such as `http://127.0.0.1:8100`.
        name: the hospital's name, for messages.
    """

    def __init__(self, address: str, name: str) -> None:
        self.address = address.rstrip("/")
        self.name = name
        self._session = requests.Session()
        self._session.trust_env = False  # loopback never goes through a proxy

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def ready(self) -> bool:
        """Whether the server answers `GET /info/`."""
        try:
            return bool(self._session.get(f"{self.address}/info/", timeout=5).ok)
        except requests.RequestException:
            return False

    def info(self) -> dict[str, Any]:
        """`GET /info/`: models, strategies, label names."""
        return self._json("GET", "/info/")

    def status(self) -> dict[str, Any]:
        """`GET /fedsca/status`."""
        return self._json("GET", "/fedsca/status")

    def adapters(self) -> Any:
        """`GET /fedsca/adapters`: the site's versions."""
        return self._request("GET", "/fedsca/adapters").json()

    def next_case(self, strategy: str) -> str | None:
        """`POST /activelearning/<strategy>`."""
        reply = self._json("POST", f"/activelearning/{strategy}", json={"client_id": "scripted-radiologist"})
        return str(reply["id"]) if reply.get("id") else None

    def infer(self, model: str, case: str, params: Mapping[str, Any]) -> InferReply:
        """`POST /infer/<model>`: mask and reply parameters from one multipart answer."""
        reply = self._request(
            "POST",
            f"/infer/{model}",
            params={"image": case, "output": "all"},
            files={"params": (None, json.dumps(dict(params)), "application/json")},
            timeout=INFER_SECONDS,
        )
        if "multipart" not in reply.headers.get("Content-Type", ""):
            raise RestError(f"{self.name}: infer {model} on {case} gave no mask: {reply.text[:300]}")
        try:
            parts = _parts(reply)
            return InferReply(_mask(*parts["image"]), json.loads(parts["params"][1]))
        except (KeyError, ValueError, DemoError) as error:
            raise RestError(f"{self.name}: infer {model} on {case} gave an answer that cannot be read ({error!r}).") from error

    def submit(self, case: str, label: Path, params: Mapping[str, Any]) -> dict[str, Any]:
        """`PUT /datastore/label`: the finished label of a case, tag `final`."""
        with label.open("rb") as stream:
            return self._json(
                "PUT",
                "/datastore/label",
                params={"image": case, "tag": "final"},
                files={
                    "params": (None, json.dumps(dict(params)), "application/json"),
                    "label": (label.name, stream, "application/octet-stream"),
                },
                timeout=QUICK_SECONDS,
            )

    def _json(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        value = self._request(method, path, **kwargs).json()
        return value if isinstance(value, dict) else {"value": value}

    def _request(self, method: str, path: str, *, timeout: float = QUICK_SECONDS, **kwargs: Any) -> requests.Response:
        try:
            reply = self._session.request(method, self.address + path, timeout=timeout, **kwargs)
        except requests.RequestException as error:
            raise RestError(f"{self.name}: {method} {path} got no answer within {timeout:.0f} s ({type(error).__name__}).") from error
        if not reply.ok:
            raise RestError(f"{self.name}: {method} {path} answered {reply.status_code}: {reply.text[:300]}", status=reply.status_code)
        return reply


def _parts(reply: requests.Response) -> dict[str, tuple[str, bytes]]:
    """Multipart answer as part name -> (file name, content)."""
    parts: dict[str, tuple[str, bytes]] = {}
    decoder: Sequence[Any] = MultipartDecoder.from_response(reply).parts
    for part in decoder:
        header = Message()
        header["Content-Disposition"] = part.headers[b"Content-Disposition"].decode()
        name = header.get_param("name", header="Content-Disposition")
        parts[str(name)] = (str(header.get_filename() or ""), part.content)
    return parts


def _mask(file_name: str, content: bytes) -> NDArray[np.bool_]:
    """Decode a mask file; its name only tells the format."""
    with tempfile.TemporaryDirectory(prefix="fedsca-") as folder:
        path = Path(folder) / ("mask" + "".join(Path(file_name).suffixes[-2:]))
        path.write_bytes(content)
        pixels = read_pixels(path)
    return np.asarray((pixels.max(axis=-1) if pixels.ndim == 4 else pixels) > 0)
