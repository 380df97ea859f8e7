"""Requests to the server over requests (which Slicer brings): TLS with a hospital's CA, a token, deadlines, errors as sentences.

Threads: one `RequestsTransport` may be used from several worker threads; each thread has a requests session of its own. The token is
replaced as a whole.
"""

from __future__ import annotations

import json as json_module
import os
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Protocol

import requests
import urllib3

from FedSCALib.errors import (
    Cancelled,
    CaseGone,
    CertificateProblem,
    ConnectionProblem,
    FedSCAError,
    LoginNeeded,
    NotAllowed,
    ServerBusy,
    ServerRefused,
    TimedOut,
)
from FedSCALib.multipart import Files, Multipart, Progress
from FedSCALib.translate import tr

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
DOWNLOAD_SECONDS = 3600.0
IDLE_SECONDS = 4.0  # servers close a silent connection, uvicorn after five seconds: an order sent just then would be lost
CHUNK = 256 * 1024
DRIP = 4096  # a piece is waited for as a whole, whatever the deadline
LONGEST_DETAIL = 600


@dataclass(frozen=True)
class Reply:
    """An answer that is not an error. `json` is None where the body is none; `file` is a download, `name` what the server calls it."""

    status: int
    json: Any = None
    file: Optional[Path] = None
    name: str = ""


class Transport(Protocol):
    """What `client.Client` needs. Blocking: only called in worker threads."""

    address: str
    token: Optional[str]

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        data: Optional[Mapping[str, str]] = None,
        files: Optional[Files] = None,
        into: Optional[Path] = None,
        progress: Optional[Progress] = None,
        cancel: Optional[threading.Event] = None,
        timeout: float = READ_SECONDS,
    ) -> Reply:
        """Ask, and wait for the answer.

        Args:
            into: where the answer's body is written; it appears there complete or not at all.
            progress: of a download, or of `files`.
            cancel: once it is set, a transfer breaks off.
            timeout: seconds that the server may be silent; an answer that is no download has to be complete by then too.

        Raises:
            FedSCAError: of the fitting kind.
        """


class RequestsTransport:
    """A server at an address.

    Args:
        address: as `address.normalise` gives it.
        ca_file: certificate authority (PEM) that signed the server's certificate; None trusts the usual ones.
    """

    def __init__(self, address: str, *, ca_file: Optional[Path] = None, token: Optional[str] = None) -> None:
        self.address = address
        self.token = token
        self._verify: Any = str(ca_file) if ca_file else True
        if ca_file and not Path(ca_file).is_file():
            raise CertificateProblem(tr("There is no certificate file {path}.").format(path=ca_file))
        self._local = threading.local()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        data: Optional[Mapping[str, str]] = None,
        files: Optional[Files] = None,
        into: Optional[Path] = None,
        progress: Optional[Progress] = None,
        cancel: Optional[threading.Event] = None,
        timeout: float = READ_SECONDS,
    ) -> Reply:
        given: Dict[str, Any] = {"params": params, "json": json, "data": data, "timeout": (CONNECT_SECONDS, timeout)}
        if files is not None:
            form = Multipart(files, progress, cancel)
            given.update(data=form, headers={"Content-Type": form.content_type})
        tries = 2 if method in ("GET", "HEAD") else 1  # only what changes nothing is asked twice
        for number in range(1, tries + 1):
            if cancel is not None and cancel.is_set():
                raise Cancelled()
            try:
                with self._session().request(method, self.address + path, stream=True, allow_redirects=False, **given) as reply:
                    if reply.status_code >= 300:
                        raise refusal(reply.status_code, read_body(reply, timeout)[: 64 * 1024], reply.headers)
                    kept = self._keep(reply, into, progress, cancel) if into is not None else _answer(reply, timeout)
                    self._local.answered = time.monotonic()
                    return kept
            except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
                problem = explain(error, self.address, timeout)
                if number == tries or isinstance(problem, (CertificateProblem, TimedOut)):
                    raise problem from error
        raise AssertionError("unreachable")

    def _session(self) -> requests.Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = not _is_loopback(self.address)  # a proxy of the environment cannot reach this computer
            session.auth = self._authorise  # says who asks; without it, requests would take what a .netrc file says
        elif time.monotonic() - self._local.answered > IDLE_SECONDS:
            session.close()  # its connections; it opens another
        self._local.answered = time.monotonic()
        # requests prefers REQUESTS_CA_BUNDLE to what a session says, but not to what a session with trust_env off says
        if self._verify is not True:
            session.trust_env = False
        session.verify = self._verify
        session.headers["User-Agent"] = "FedSCA"
        return session

    def _authorise(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            prepared.headers["Authorization"] = f"Bearer {self.token}"
        return prepared

    def _keep(self, reply: requests.Response, into: Path, progress: Optional[Progress], cancel: Optional[threading.Event]) -> Reply:
        total = int(reply.headers.get("Content-Length") or 0) or None
        partial = into.with_name(into.name + ".part")
        size, deadline = 0, time.monotonic() + DOWNLOAD_SECONDS
        with partial.open("wb") as stream:
            for chunk in reply.iter_content(CHUNK):
                if cancel is not None and cancel.is_set():
                    raise Cancelled()
                stream.write(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(size, total)
                if time.monotonic() > deadline:
                    raise TimedOut(tr("The download took longer than an hour."))
            stream.flush()
            os.fsync(stream.fileno())
        if total is not None and size < total and "Content-Encoding" not in reply.headers:
            raise ConnectionProblem(tr("The download broke off after {size} of {total} bytes.").format(size=size, total=total))
        partial.replace(into)
        return Reply(reply.status_code, None, into, file_name(reply.headers.get("Content-Disposition", "")))


def _answer(reply: requests.Response, timeout: float) -> Reply:
    body = read_body(reply, timeout)
    try:
        value = json_module.loads(body) if body and "json" in reply.headers.get("Content-Type", "") else None
    except ValueError as error:
        raise FedSCAError(tr("The server's answer cannot be read. Is it a MONAI Label server?")) from error
    return Reply(reply.status_code, value)


def read_body(reply: requests.Response, seconds: float) -> bytes:
    """All of an answer. Raises TimedOut where it has not come within about `seconds`, also when it drips."""
    deadline, pieces = time.monotonic() + seconds, []
    for piece in reply.iter_content(DRIP):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TimedOut(tr("The server did not answer within {seconds} seconds.").format(seconds=round(seconds)))
    return b"".join(pieces)


def explain(error: Exception, address: str, timeout: float) -> ConnectionProblem:
    """What a person can do about a request that got no answer."""
    if isinstance(error, requests.exceptions.SSLError):
        text = str(error).lower()
        if "wrong version number" in text or "record layer" in text:
            return CertificateProblem(tr("{address} does not speak HTTPS: try http:// in front of the address.").format(address=address))
        return CertificateProblem(
            tr(
                "The certificate of {address} is not trusted here. Choose your hospital's CA certificate, and check that the address is "
                "the name in it."
            ).format(address=address)
        )
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return TimedOut(
            tr("{address} does not answer. Is the address right, and this computer in the hospital's network?").format(address=address)
        )
    if isinstance(error, requests.exceptions.Timeout):
        return TimedOut(tr("The server did not answer within {seconds} seconds.").format(seconds=round(timeout)))
    if "Name or service not known" in str(error) or "getaddrinfo" in str(error) or "nodename" in str(error):
        return ConnectionProblem(tr("There is no computer named in {address}: check the spelling.").format(address=address))
    if "BadStatusLine" in str(error) or "RemoteDisconnected" in str(error):
        return ConnectionProblem(
            tr("{address} closed the connection. If the server uses HTTPS, type https:// in front.").format(address=address)
        )
    return ConnectionProblem(tr("No server answers at {address}. Is it running, and is the port right?").format(address=address))


def refusal(status: int, body: bytes, headers: Mapping[str, str]) -> ServerRefused:
    """The server's refusal, with its own sentence where it gave one."""
    detail = _sentence(body) or {
        401: tr("The server asks for a login."),
        403: tr("Your account may not do this."),
        404: tr("The server does not have this."),
        413: tr("The file is larger than the server takes."),
    }.get(status, tr("The server answered with error {status}.").format(status=status))
    if 300 <= status < 400:
        return ServerRefused(
            status, tr("The server sends us on to another address: type that one. ({to})").format(to=headers.get("Location", "?"))
        )
    if status == 401:
        return LoginNeeded(status, detail)
    if status == 403:
        return NotAllowed(status, detail)
    if status == 404:
        return CaseGone(status, detail)
    if status == 429 or (status == 503 and "Retry-After" in headers):
        try:
            wait = float(headers.get("Retry-After", "2"))
        except ValueError:
            wait = 2.0
        return ServerBusy(status, detail, min(max(wait, 0.5), 60.0))
    return ServerRefused(status, detail)


def file_name(disposition: str) -> str:
    """The bare file name of a Content-Disposition header, free of folders; "" where there is none."""
    found = re.search(r"filename\*=(?:UTF-8'')?\"?([^\";]+)|filename=\"?([^\";]+)", disposition, re.IGNORECASE)
    name = (found.group(1) or found.group(2)) if found else ""
    name = re.sub(r"[^\w.\- ]", "_", re.split(r"[\\/]", name.strip())[-1])
    return "" if name.strip(". ") == "" else name


def _sentence(body: bytes) -> str:
    try:
        value = json_module.loads(body)
    except ValueError:
        return ""
    detail = value.get("detail") if isinstance(value, dict) else None
    return str(detail)[:LONGEST_DETAIL] if isinstance(detail, str) else ""


def _is_loopback(address: str) -> bool:
    return re.match(r"https?://(localhost|127\.[\d.]+|\[::1\])(:|/|$)", address) is not None
