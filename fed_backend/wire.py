"""The bytes that travel between a site and the server. Pure numpy; `docs/wire.md` is the specification.

    magic "FSCA" | version u16 | kind u16 | header length u32 | payload length u32 | header | payload | sha256
                   little-endian                                 canonical JSON      fp16     of all before

Four kinds: a site sends an *update* and a *probe reply*, the server a *probe request* and a *mixture*.

The decoders trust nothing: lengths are checked before anything is parsed, and whatever is wrong raises a `WireError` of the class that
says why, never another exception. The checksum finds damage, not forgery: who sent a message is the transport's business (TLS, node keys).
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import (
    BaseMismatchError,
    HalfOverflowError,
    MalformedMessageError,
    NotFiniteError,
    SchemaMismatchError,
    UnexpectedMessageError,
    UnsupportedVersionError,
    WireError,
    WrongKindError,
)
from fed_backend.projection import LARGEST_SEED, NONZEROS, PROJECTION_SIZE
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.site_directory import SITE_NAME_PATTERN

MAGIC = b"FSCA"
WIRE_VERSION = 1
MAX_HEADER = 65_536
MAX_PAYLOAD = 2**28
MAX_SITES = 512
MAX_CASES = 10_000_000
MAX_ROUND = 1_000_000_000
HALF_LARGEST = float(np.finfo(np.float16).max)  # 65504

Kind = Literal["update", "probe request", "probe reply", "mixture"]
KINDS: dict[Kind, int] = {"update": 1, "probe request": 2, "probe reply": 3, "mixture": 4}
_KIND_NAMES = {number: name for name, number in KINDS.items()}

_PREFIX = struct.Struct("<4sHHII")
_DIGEST_SIZE = hashlib.sha256().digest_size
_WEIGHT_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True)
class UpdateMessage:
    """A site's shared adapter. `cases`: labelled training cases it was tuned on, 0 for a newcomer."""

    site: str
    round: int
    cases: int
    state: AdapterState


@dataclass(frozen=True)
class ProbeRequest:
    """The common state at which every site computes its gradients, and the projection they all use."""

    round: int
    state: AdapterState
    seed: int
    size: int = PROJECTION_SIZE


@dataclass(frozen=True)
class ProbeReply:
    """A site's two projected gradient halves (size,) float32 and how many cases each is the mean of (each at least 1).

    `seed` repeats the request's: halves of another projection cannot be compared.
    """

    site: str
    round: int
    seed: int
    cases: tuple[int, int]
    half_a: NDArray[np.float32]
    half_b: NDArray[np.float32]


@dataclass(frozen=True)
class Mixture:
    """What a site receives. `weights`: by site name, sum 1, zeros left out. `newcomer`: it is the mean over all, not fitted to the site."""

    site: str
    round: int
    state: AdapterState
    weights: Mapping[str, float] = field(default_factory=dict)
    newcomer: bool = False


def encode_update(message: UpdateMessage) -> bytes:
    """The bytes of an update: 2 bytes a value and about 250 more.

    Raises:
        NotFiniteError, HalfOverflowError: a value that cannot be sent. MalformedMessageError: a field out of range.
    """
    header = {"site": message.site, "round": message.round, "cases": message.cases, **_layout(message.state.schema)}
    return _encode("update", header, message.state.to_vector())


def decode_update(data: bytes, schema: AdapterSchema, *, site: str | None = None, round: int | None = None) -> UpdateMessage:
    """The update in `data`, under the federation's `schema`; if given, it must come from `site` and be of `round`.

    Raises:
        WireError: of the class that says why it is refused.
    """
    header, vector = _decode("update", data, schema.size, schema)
    _expect(header, site=site, round=round)
    return UpdateMessage(header["site"], header["round"], header["cases"], AdapterState.from_vector(schema, vector))


def encode_probe_request(message: ProbeRequest) -> bytes:
    """The bytes of a probe request. Raises as `encode_update`."""
    header = {"round": message.round, "seed": message.seed, "size": message.size, **_layout(message.state.schema)}
    return _encode("probe request", header, message.state.to_vector())


def decode_probe_request(data: bytes, schema: AdapterSchema) -> ProbeRequest:
    """The probe request in `data`, under the site's `schema`. Raises WireError."""
    header, vector = _decode("probe request", data, schema.size, schema)
    return ProbeRequest(header["round"], AdapterState.from_vector(schema, vector), header["seed"], header["size"])


def encode_probe_reply(message: ProbeReply) -> bytes:
    """The bytes of a probe reply: 4 bytes for every value of the projection and about 150 more. Raises as `encode_update`."""
    if message.half_a.ndim != 1 or message.half_a.shape != message.half_b.shape:
        raise MalformedMessageError(f"Halves have shapes {list(message.half_a.shape)} and {list(message.half_b.shape)}, expected one (p,).")
    header = {
        "site": message.site,
        "round": message.round,
        "seed": message.seed,
        "size": len(message.half_a),
        "cases": list(message.cases),
        "count": 2 * len(message.half_a),
    }
    return _encode("probe reply", header, np.concatenate([message.half_a, message.half_b]))


def decode_probe_reply(data: bytes, request: ProbeRequest, *, site: str | None = None) -> ProbeReply:
    """The reply in `data` to `request`; if given, it must come from `site`.

    Raises:
        WireError: of the class that says why it is refused; UnexpectedMessageError for another round or projection.
    """
    header, values = _decode("probe reply", data, 2 * request.size, None)
    _expect(header, site=site, round=request.round, seed=request.seed, size=request.size)
    first, second = header["cases"]
    half_a, half_b = values.reshape(2, request.size)
    return ProbeReply(header["site"], header["round"], header["seed"], (first, second), half_a, half_b)


def encode_mixture(message: Mixture) -> bytes:
    """The bytes of a mixture: 2 bytes a value, about 250 more and about 30 for every site with a weight. Raises as `encode_update`."""
    header = {
        "site": message.site,
        "round": message.round,
        "newcomer": message.newcomer,
        "weights": {name: float(weight) for name, weight in message.weights.items() if weight != 0},
        **_layout(message.state.schema),
    }
    return _encode("mixture", header, message.state.to_vector())


def decode_mixture(data: bytes, schema: AdapterSchema, *, site: str | None = None, round: int | None = None) -> Mixture:
    """The mixture in `data`, under the site's `schema`; if given, it must be for `site` and of `round`. Raises WireError."""
    header, vector = _decode("mixture", data, schema.size, schema)
    _expect(header, site=site, round=round)
    state = AdapterState.from_vector(schema, vector)
    return Mixture(header["site"], header["round"], state, header["weights"], header["newcomer"])


def message_kind(data: bytes) -> Kind:
    """The kind that the first bytes of a message declare; nothing else is checked. Raises WireError."""
    return _prefix(data)[0]


def _layout(schema: AdapterSchema) -> dict[str, Any]:
    return {"base": schema.base, "schema": schema.id, "count": schema.size}


def _encode(kind: Kind, header: Mapping[str, Any], values: NDArray[np.float32]) -> bytes:
    _check_fields(kind, header)
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"The {kind} has {bad} of {len(values)} values that are not finite: nothing was sent.")
    with np.errstate(over="ignore"):  # checked just below
        payload = values.astype("<f2")
    if not np.isfinite(payload).all():
        raise HalfOverflowError(
            f"The {kind} has a value of {np.abs(values).max():.6g}, 16-bit floats end at {HALF_LARGEST:.0f}: such adapters have diverged, "
            "roll back to a good version."
        )
    text = _canonical(header)
    if len(text) > MAX_HEADER:
        raise MalformedMessageError(f"The {kind}'s header would have {len(text)} bytes, expected at most {MAX_HEADER}: too many sites.")
    if payload.nbytes > MAX_PAYLOAD:
        raise MalformedMessageError(
            f"The {kind} would have {payload.nbytes} bytes of values, expected at most {MAX_PAYLOAD}: lower the rank."
        )
    body = _PREFIX.pack(MAGIC, WIRE_VERSION, KINDS[kind], len(text), payload.nbytes) + text + payload.tobytes()
    return body + hashlib.sha256(body).digest()


def _decode(kind: Kind, data: bytes, count: int, schema: AdapterSchema | None) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Header and payload (count,) float32 of a message of `kind`, everything checked."""
    found, header_length, payload_length = _prefix(data)
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
    header = _parse_header(kind, data[_PREFIX.size : _PREFIX.size + header_length])
    _check_fields(kind, header)
    if schema is not None:
        _check_layout(kind, header, schema)
    if header["count"] != count or payload_length != 2 * count:
        raise SchemaMismatchError(
            f"The {kind} has {header['count']} values in {payload_length} bytes, expected {count} in {2 * count}: "
            "use the same settings at all sites."
        )
    values = np.frombuffer(data, "<f2", count, _PREFIX.size + header_length).astype(np.float32)
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"The {kind} has {bad} of {count} values that are not finite: roll its sender back to a good version.")
    return header, values


def _prefix(data: bytes) -> tuple[Kind, int, int]:
    """Kind, header length and payload length, after magic and version."""
    if not isinstance(data, bytes):
        raise MalformedMessageError(f"A message is {type(data).__name__}, expected bytes.")
    if len(data) < _PREFIX.size + _DIGEST_SIZE:
        raise MalformedMessageError(f"A message has {len(data)} bytes, expected at least {_PREFIX.size + _DIGEST_SIZE}.")
    magic, version, number, header_length, payload_length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise MalformedMessageError(f"A message begins with {magic!r}, expected {MAGIC!r}: this is not a FedSCA message.")
    if version != WIRE_VERSION:
        raise UnsupportedVersionError(f"Wire format version {version}, expected {WIRE_VERSION}: update the older side of the federation.")
    if number not in _KIND_NAMES:
        raise MalformedMessageError(f"Message kind {number} is not known, expected one of {sorted(_KIND_NAMES)}.")
    return _KIND_NAMES[number], header_length, payload_length


def _canonical(header: object) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _parse_header(kind: Kind, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("ascii"))
        canonical = _canonical(header)
    except (ValueError, RecursionError) as error:  # includes UnicodeDecodeError, JSONDecodeError, NaN, numbers of thousands of digits
        raise MalformedMessageError(f"The {kind}'s header cannot be read ({type(error).__name__}), expected canonical JSON.") from error
    # Only one spelling of a header is accepted, so there are no repeated keys and no two messages that mean the same.
    if not isinstance(header, dict) or canonical != text:
        raise MalformedMessageError(f"The {kind}'s header is not a JSON object in canonical form (sorted keys, no spaces).")
    return header


def _is_integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value <= high


def _is_hex(length: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) == length and set(value) <= set("0123456789abcdef")


def _is_site(value: Any) -> bool:
    return isinstance(value, str) and SITE_NAME_PATTERN.fullmatch(value) is not None


def _is_pair_of_cases(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(number) is int and 1 <= number <= MAX_CASES for number in value)


def _are_weights(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and 1 <= len(value) <= MAX_SITES
        and all(_is_site(name) and type(weight) is float and 0 < weight <= 1 + _WEIGHT_SUM_TOLERANCE for name, weight in value.items())
        and abs(sum(value.values()) - 1) <= _WEIGHT_SUM_TOLERANCE
    )


def _is_projection_size(value: Any) -> bool:
    return type(value) is int and NONZEROS <= value <= 2**20 and value % NONZEROS == 0


@dataclass(frozen=True)
class _Field:
    good: Callable[[Any], bool]
    expected: str


_SITE = _Field(_is_site, "a site name")
_ROUND = _Field(_is_integer(0, MAX_ROUND), f"0 to {MAX_ROUND}")
_CASES = _Field(_is_integer(0, MAX_CASES), f"0 to {MAX_CASES}")
_SEED = _Field(_is_integer(0, LARGEST_SEED), f"0 to {LARGEST_SEED}")
_SIZE = _Field(_is_projection_size, f"a multiple of {NONZEROS} up to {2**20}")
_COUNT = _Field(_is_integer(1, MAX_PAYLOAD // 2), f"1 to {MAX_PAYLOAD // 2}")
_LAYOUT = {
    "base": _Field(_is_hex(64), "64 hexadecimal digits"),
    "schema": _Field(_is_hex(16), "16 hexadecimal digits"),
    "count": _COUNT,
}
_FIELDS: dict[Kind, dict[str, _Field]] = {
    "update": {"site": _SITE, "round": _ROUND, "cases": _CASES, **_LAYOUT},
    "probe request": {"round": _ROUND, "seed": _SEED, "size": _SIZE, **_LAYOUT},
    "probe reply": {
        "site": _SITE,
        "round": _ROUND,
        "seed": _SEED,
        "size": _SIZE,
        "cases": _Field(_is_pair_of_cases, f"two numbers from 1 to {MAX_CASES}"),
        "count": _COUNT,
    },
    "mixture": {
        "site": _SITE,
        "round": _ROUND,
        "newcomer": _Field(lambda value: isinstance(value, bool), "true or false"),
        "weights": _Field(_are_weights, f"1 to {MAX_SITES} site names with numbers above 0 that sum to 1"),
        **_LAYOUT,
    },
}


def _check_fields(kind: Kind, header: Mapping[str, Any]) -> None:
    fields = _FIELDS[kind]
    if set(header) != set(fields):
        raise MalformedMessageError(f"The {kind}'s header has fields {_short(sorted(header))}, expected {sorted(fields)}.")
    for name, rule in fields.items():
        if not rule.good(header[name]):
            raise MalformedMessageError(f"The {kind}'s {name} is {_short(header[name])}, expected {rule.expected}.")


def _check_layout(kind: Kind, header: Mapping[str, Any], schema: AdapterSchema) -> None:
    if header["base"] != schema.base:
        raise BaseMismatchError(
            f"The {kind} is for base {header['base'][:16]}, this side's base is {schema.base[:16]}: use one base at all sites."
        )
    if header["schema"] != schema.id:
        raise SchemaMismatchError(
            f"The {kind} has adapter layout {header['schema']}, this side's is {schema.id} (rank {schema.rank}, shared depth "
            f"{schema.shared_depth}, {schema.size} values): use the same settings at all sites."
        )


def _expect(header: Mapping[str, Any], **expected: str | int | None) -> None:
    for name, value in expected.items():
        if value is not None and header[name] != value:
            raise UnexpectedMessageError(f"The message's {name} is {header[name]!r}, expected {value!r}: it answers something else.")


def _short(value: Any) -> str:
    """`repr`, cut where a sender made it long."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


__all__ = [
    "KINDS",
    "MAGIC",
    "MAX_CASES",
    "MAX_HEADER",
    "MAX_PAYLOAD",
    "MAX_ROUND",
    "MAX_SITES",
    "WIRE_VERSION",
    "Kind",
    "Mixture",
    "ProbeReply",
    "ProbeRequest",
    "UpdateMessage",
    "WireError",
    "decode_mixture",
    "decode_probe_reply",
    "decode_probe_request",
    "decode_update",
    "encode_mixture",
    "encode_probe_reply",
    "encode_probe_request",
    "encode_update",
    "message_kind",
]
