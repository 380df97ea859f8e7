"""A DICOMweb server (QIDO-RS, WADO-RS, STOW-RS) as this app needs it: list series, fetch the files of one, store a file.

Every exchange has a deadline, an answer's size is bounded, redirects are not followed, and UIDs are checked before they become part of an
address or a file's name. The files themselves go to the disk one by one: no series is ever held in memory.
Threads: one `requests` session per call, so any thread may call anything.
"""

import json
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pydicom
import requests
from pydicom.errors import InvalidDicomError
from requests_toolbelt.multipart.decoder import ImproperBodyPartContentException, MultipartDecoder, NonMultipartContentTypeException

from monailabel_app.app_errors import RefusedByArchiveError, RemoteStudiesError, RequestError
from sam_adapters.errors import SettingError
from sam_adapters.images import MAX_IMAGE_BYTES

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
LIST_SECONDS = 30.0
FETCH_SECONDS = 600.0
STORE_SECONDS = 120.0
PAGE = 200
MAX_SERIES = 20_000
MAX_FILES = 10_000
MAX_ANSWER_BYTES = 64 * 2**20
MAX_FILE_BYTES = 2**29
MAX_FETCH_BYTES = 2 * MAX_IMAGE_BYTES

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _PATIENT, _COUNT, _DESCRIPTION = "00080060", "00100020", "00201209", "0008103E"

NOT_IMAGES = frozenset(
    {"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "FID", "RWV", "DOC", "AU", "ECG", "HD", "SM"}
)
"""Modalities whose series are not volumes to be segmented (whole-slide pathology among them)."""

_AS_STORED = ('multipart/related; type="application/dicom"; transfer-syntax=*', 'multipart/related; type="application/dicom"')
"""What files are asked for as: as they are stored; by servers that do not know how to say so, in their own default encoding. One at a time:
Orthanc refuses a list of types."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_FILTER_KEY = re.compile(r"[A-Za-z]{1,64}|[0-9A-Fa-f]{8}")


@dataclass(frozen=True)
class RemoteSeries:
    """A series as the server lists it.

    Attributes:
        uid: SeriesInstanceUID, the case's name here.
        study: StudyInstanceUID.
        modality: CT, MR …
        patient: PatientID, "" where there is none.
        files: number of instances; 0 where the server does not say.
        description: SeriesDescription.
    """

    uid: str
    study: str
    modality: str = ""
    patient: str = ""
    files: int = 0
    description: str = ""


def checked_uid(text: object) -> str:
    """Return `text` if it is a DICOM UID (digits and dots, at most 64), else raise RequestError."""
    if not isinstance(text, str) or len(text) > 64 or not _UID.fullmatch(text):
        raise RequestError(f"{str(text)[:80]!a} is not a DICOM UID: expected digits and dots, at most 64.")
    return text


def checked_address(address: str) -> str:
    """A DICOMweb server's address without slash at its end.

    Raises:
        SettingError: not an http(s) address, or one with a password, a query or a fragment in it.
    """
    try:
        parts = urlsplit(address.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingError(
            f"Studies are {address[:80]!a}, expected the address of a DICOMweb server, e.g. http://127.0.0.1:8042/dicom-web."
        )
    if parts.username or parts.password:
        raise SettingError(
            "The address of the studies holds a name or password, which would end up in logs: give them in the environment "
            "(MONAI_LABEL_DICOMWEB_USERNAME, MONAI_LABEL_DICOMWEB_PASSWORD)."
        )
    return address.strip().rstrip("/")


def parse_filter(text: str) -> dict[str, str]:
    """`Modality=CT,StudyDescription=Abdomen*` as QIDO-RS parameters.

    Raises:
        SettingError: it is written otherwise.
    """
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not _FILTER_KEY.fullmatch(key.strip()) or not value.strip().isprintable() or not value.strip():
            raise SettingError(f"Setting dicomweb_filter is {text!r}, expected e.g. Modality=CT,StudyDescription=Abdomen*.")
        found[key.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class DicomWeb:
    """One DICOMweb server.

    Attributes:
        address: checked by `checked_address`.
        username, password: for HTTP basic authentication; none when empty.
        filter: QIDO-RS parameters that a series must match.
    """

    address: str
    username: str = ""
    password: str = field(default="", repr=False)
    filter: tuple[tuple[str, str], ...] = ()

    def list_series(self) -> list[RemoteSeries]:
        """All series of images that match the filter, sorted by UID; entries without usable UIDs are left out.

        Raises:
            RemoteStudiesError: the server cannot be asked.
        """
        deadline = time.monotonic() + LIST_SECONDS
        wanted = {"includefield": "0008103E,00201209", **dict(self.filter)}
        found: dict[str, RemoteSeries] = {}
        for entry in self._pages("series", wanted, MAX_SERIES, deadline):
            series = _series_of(entry)
            if series is not None and series.modality not in NOT_IMAGES:
                found[series.uid] = series
        return [found[uid] for uid in sorted(found)]

    def fetch(self, series: RemoteSeries, folder: Path, cancelled: Callable[[], bool] = bool) -> int:
        """Write every file of a series into `folder` as <SOPInstanceUID>.dcm; returns their number.

        Raises:
            RemoteStudiesError: the server cannot be asked, it takes longer than `FETCH_SECONDS`, or the series is empty or too large.
        """
        deadline = time.monotonic() + FETCH_SECONDS
        base = f"studies/{checked_uid(series.study)}/series/{checked_uid(series.uid)}/instances"
        entries = self._pages(base, {}, MAX_FILES, deadline)
        names = sorted({uid for entry in entries if (uid := _uid_of(entry, INSTANCE)) is not None})
        if not names:
            raise RemoteStudiesError(f"The DICOMweb server has no files of series {series.uid} (any more).")
        total = 0
        with self._session() as session:
            for name in names:
                if cancelled():
                    raise RemoteStudiesError(f"Fetching series {series.uid} was given up.")
                data = self._file(session, f"{base}/{name}", deadline)
                _require_instance(data, series.uid, name)
                total += len(data)
                if total > MAX_FETCH_BYTES:
                    raise RemoteStudiesError(f"Series {series.uid} is larger than {MAX_FETCH_BYTES / 2**30:.0f} GiB: it is not fetched.")
                (folder / f"{name}.dcm").write_bytes(data)
        return len(names)

    def store(self, data: bytes, study: str) -> None:
        """Send one DICOM file to a study (STOW-RS).

        Raises:
            RefusedByArchiveError: the server takes no such file.
            RemoteStudiesError: the server cannot be asked; try again later.
        """
        boundary = uuid4().hex
        body = b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n--%b--\r\n" % (boundary.encode(), data, boundary.encode())
        headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Accept": "application/dicom+json",
        }
        deadline = time.monotonic() + STORE_SECONDS
        with self._session() as session:
            status, _, answer = self._exchange(
                session, "POST", f"studies/{checked_uid(study)}", deadline=deadline, limit=MAX_ANSWER_BYTES, headers=headers, data=body
            )
        failed = _failed(answer)
        if status in (400, 409, 415, 422) or failed:
            raise RefusedByArchiveError(f"The DICOMweb server refused the label (status {status}{_reason(failed)}).")
        if status not in (200, 202):
            raise RemoteStudiesError(f"The DICOMweb server answered {status} to a label: is it one that stores (STOW-RS)?")

    # --- how --------------------------------------------------------------------------------------------------------------------------

    def _pages(self, path: str, parameters: Mapping[str, str], most: int, deadline: float) -> Iterator[Mapping[str, Any]]:
        """All entries of a QIDO-RS search; a server that does not page answers everything at once."""
        seen: set[str] = set()
        with self._session() as session:
            while len(seen) < most:
                query = {**parameters, "limit": str(PAGE), "offset": str(len(seen))}
                entries = self._search(session, path, query, deadline)
                fresh = {_value(entry, INSTANCE) or _value(entry, SERIES): entry for entry in entries}
                new = fresh.keys() - seen
                yield from (fresh[name] for name in sorted(new))
                seen |= new
                if len(entries) < PAGE or not new:
                    return

    def _search(self, session: requests.Session, path: str, query: Mapping[str, str], deadline: float) -> list[Mapping[str, Any]]:
        headers = {"Accept": "application/dicom+json"}
        status, _, answer = self._exchange(session, "GET", path, deadline=deadline, limit=MAX_ANSWER_BYTES, headers=headers, params=query)
        if status == 204 or (status == 200 and not answer.strip()):
            return []
        entries = _json(answer) if status == 200 else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise RemoteStudiesError(f"The DICOMweb server answered {status} to a search, expected a list of series (DICOM JSON).")
        return entries

    def _file(self, session: requests.Session, path: str, deadline: float) -> bytes:
        """One DICOM file by WADO-RS, as it is stored."""
        status, kind, answer = 0, "", b""
        for accepted in _AS_STORED:
            headers = {"Accept": accepted}
            status, kind, answer = self._exchange(session, "GET", path, deadline=deadline, limit=MAX_FILE_BYTES, headers=headers)
            if status not in (400, 406):
                break
        if status != 200:
            raise RemoteStudiesError(f"The DICOMweb server answered {status} instead of a file of the series.")
        try:
            parts = MultipartDecoder(answer, kind).parts
        except (NonMultipartContentTypeException, ImproperBodyPartContentException, ValueError) as error:
            raise RemoteStudiesError("The DICOMweb server answered something else than a DICOM file in a multipart message.") from error
        if len(parts) != 1 or parts[0].content[128:132] != b"DICM":
            raise RemoteStudiesError(f"The DICOMweb server answered {len(parts)} parts instead of one DICOM file.")
        return bytes(parts[0].content)

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        with requests.Session() as session:
            session.auth = (self.username, self.password) if self.username else None
            session.trust_env = self.address.startswith("https://")  # no proxy for plain http inside the house; CA bundles count for https
            yield session

    def _exchange(
        self, session: requests.Session, method: str, path: str, *, deadline: float, limit: int, **request: Any
    ) -> tuple[int, str, bytes]:
        """One exchange: status, content type and body. `deadline` is of the monotonic clock."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._too_slow()
        try:
            with session.request(
                method,
                f"{self.address}/{path}",
                timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
                allow_redirects=False,
                stream=True,
                **request,
            ) as reply:
                if reply.status_code in (401, 403):
                    raise RemoteStudiesError(
                        f"The DICOMweb server asks for other credentials ({reply.status_code}): set MONAI_LABEL_DICOMWEB_USERNAME and "
                        "MONAI_LABEL_DICOMWEB_PASSWORD."
                    )
                if reply.status_code >= 500:
                    raise RemoteStudiesError(f"The DICOMweb server failed ({reply.status_code}): see its log.")
                return reply.status_code, reply.headers.get("Content-Type", ""), self._body(reply, deadline, limit)
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _body(self, reply: requests.Response, deadline: float, limit: int) -> bytes:
        body = bytearray()
        for chunk in reply.iter_content(1 << 18):
            body += chunk
            if len(body) > limit:
                raise RemoteStudiesError(f"The DICOMweb server's answer is larger than {limit / 2**20:.0f} MiB.")
            if time.monotonic() > deadline:
                raise self._too_slow()
        return bytes(body)

    def _unreachable(self, error: requests.RequestException) -> RemoteStudiesError:
        if isinstance(error, requests.Timeout):
            return self._too_slow()
        return RemoteStudiesError(f"The DICOMweb server {self.address} cannot be reached ({type(error).__name__}).")

    def _too_slow(self) -> RemoteStudiesError:
        return RemoteStudiesError(f"The DICOMweb server {self.address} did not answer in time.")


def _require_instance(data: bytes, series: str, instance: str) -> None:
    """Raise RemoteStudiesError unless a DICOM file is the one that was asked for: another's image must not be taken for this patient's."""
    try:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "SOPInstanceUID"])
        found = str(header.get("SeriesInstanceUID")), str(header.get("SOPInstanceUID"))
    except (InvalidDicomError, ValueError, OSError, struct.error) as error:
        raise RemoteStudiesError(f"The DICOMweb server sent a file of series {series} that is damaged.") from error
    if found != (series, instance):
        raise RemoteStudiesError(f"The DICOMweb server sent a file of another series than {series}, which was asked for.")


def _series_of(entry: Mapping[str, Any]) -> RemoteSeries | None:
    uid, study = _uid_of(entry, SERIES), _uid_of(entry, STUDY)
    if uid is None or study is None:
        return None
    count = _value(entry, _COUNT)
    files = int(count) if count.isdigit() and len(count) < 8 else 0
    return RemoteSeries(uid, study, _value(entry, _MODALITY), _value(entry, _PATIENT), files, _value(entry, _DESCRIPTION)[:64])


def _uid_of(entry: Mapping[str, Any], tag: str) -> str | None:
    try:
        return checked_uid(_value(entry, tag))
    except RequestError:
        return None


def _value(entry: Mapping[str, Any], tag: str) -> str:
    """First value of an attribute in DICOM JSON as text, "" where there is none."""
    attribute = entry.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return str(values[0]) if isinstance(values, list) and values and isinstance(values[0], str | int | float) else ""


def _json(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _failed(answer: bytes) -> list[Any]:
    """FailedSOPSequence of a STOW-RS answer; Orthanc sends an empty one when nothing failed."""
    value = _json(answer)
    sequence = value.get("00081198") if isinstance(value, dict) else None
    items = sequence.get("Value") if isinstance(sequence, dict) else None
    return items if isinstance(items, list) else []


def _reason(failed: list[Any]) -> str:
    """The first failure's reason (DICOM PS3.18 I.2.2), for a sentence."""
    reason = _value(failed[0], "00081197") if failed and isinstance(failed[0], dict) else ""
    return f", failure reason {reason}" if reason else ""
