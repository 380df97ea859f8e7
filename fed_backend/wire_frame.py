"""The frame of a message on the wire: magic, version, kind, lengths, header, payload, checksum. Pure; see `wire`."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

from fed_backend.errors import MalformedMessageError, UnsupportedVersionError, WrongKindError
from fed_backend.wire_header import MAX_HEADER, MAX_PAYLOAD, PLAIN_VERSION, WIRE_VERSION, Kind, canonical, check_fields, parse_header

MAGIC = b"FSCA"
MAX_MESSAGE = MAX_HEADER + MAX_PAYLOAD
KINDS: dict[Kind, int] = {"update": 1, "probe request": 2, "probe reply": 3, "mixture": 4}
_KIND_NAMES = {number: name for name, number in KINDS.items()}

_PREFIX = struct.Struct("<4sHHII")
_DIGEST_SIZE = hashlib.sha256().digest_size
FRAME_SIZE = _PREFIX.size + _DIGEST_SIZE


def sealed(kind: Kind, version: int, header: Mapping[str, Any], payload: bytes) -> bytes:
    """The whole message. Raises MalformedMessageError for a header that its kind may not have, or too many bytes."""
    check_fields(kind, version, header)
    text = canonical(header)
    if len(text) > MAX_HEADER:
        raise MalformedMessageError(f"The {kind}'s header would have {len(text)} bytes, expected at most {MAX_HEADER}: too many sites.")
    if len(payload) > MAX_PAYLOAD:
        raise MalformedMessageError(
            f"The {kind} would have {len(payload)} bytes of values, expected at most {MAX_PAYLOAD}: lower the rank."
        )
    body = _PREFIX.pack(MAGIC, version, KINDS[kind], len(text), len(payload)) + text + payload
    return body + hashlib.sha256(body).digest()


def opened(kind: Kind, data: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Version, header and payload of a message of `kind`: whole, undamaged, its header checked. Raises WireError."""
    found, version, header_length, payload_length = prefix(data)
    if found != kind:
        raise WrongKindError(f"Received a {found}, expected a {kind}.")
    if header_length > MAX_HEADER:
        raise MalformedMessageError(f"The {kind}'s header claims {header_length} bytes, expected at most {MAX_HEADER}.")
    if payload_length > MAX_PAYLOAD:
        raise MalformedMessageError(f"The {kind}'s payload claims {payload_length} bytes, expected at most {MAX_PAYLOAD}.")
    expected = _PREFIX.size + header_length + payload_length + _DIGEST_SIZE
    if len(data) != expected:
        raise MalformedMessageError(f"The {kind} has {len(data)} bytes, its lengths add up to {expected}: truncated, or extra bytes.")
    if hashlib.sha256(memoryview(data)[:-_DIGEST_SIZE]).digest() != data[-_DIGEST_SIZE:]:
        raise MalformedMessageError(f"The {kind}'s checksum does not fit: it was damaged on the way, send it again.")
    start = _PREFIX.size + header_length
    header = parse_header(kind, data[_PREFIX.size : start])
    check_fields(kind, version, header)
    return version, header, data[start : start + payload_length]


def prefix(data: bytes) -> tuple[Kind, int, int, int]:
    """Kind, version, header length and payload length of a message, as its first bytes say. Raises WireError."""
    if not isinstance(data, bytes):
        raise MalformedMessageError(f"A message is {type(data).__name__}, expected bytes.")
    if len(data) < _PREFIX.size + _DIGEST_SIZE:
        raise MalformedMessageError(f"A message has {len(data)} bytes, expected at least {_PREFIX.size + _DIGEST_SIZE}.")
    magic, version, number, header_length, payload_length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise MalformedMessageError(f"A message begins with {magic!r}, expected {MAGIC!r}: this is not a FedSCA message.")
    if not PLAIN_VERSION <= version <= WIRE_VERSION:
        raise UnsupportedVersionError(
            f"Wire format version {version}, expected {PLAIN_VERSION} or {WIRE_VERSION}: update the older side of the federation."
        )
    if number not in _KIND_NAMES:
        raise MalformedMessageError(f"Message kind {number} is not known, expected one of {sorted(_KIND_NAMES)}.")
    return _KIND_NAMES[number], version, header_length, payload_length
