"""The bytes that travel between a site and the server. Pure numpy; `docs/wire.md` is the specification.

    magic "FSCA" | version u16 | kind u16 | header length u32 | payload length u32 | header | payload | sha256
                   little-endian                                 canonical JSON                of all before

Four kinds: a site sends an *update* and a *probe reply*, the server a *probe request* and a *mixture*.

Version 1 is a full state in half precision. Version 2 is what a `Coding` asks for: half precision or 8 bits, packed, within a number of
bytes, and where both sides have a state in common only the difference to it. Decoders read both. A side that is spoken to in version 1
answers in version 1, so server and sites can be updated one after the other.

The decoders trust nothing: lengths are checked before anything is parsed, and whatever is wrong raises a `WireError` of the class that
says why, never another exception. The checksum finds damage, not forgery: who sent a message is the transport's business (TLS, node keys).
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
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
    UnknownReferenceError,
    UnsupportedVersionError,
    WireError,
    WrongKindError,
)
from fed_backend.payload_codec import ENCODINGS, HALF_LARGEST, Encoding, decode_values, encode_values
from fed_backend.projection import LARGEST_SEED, NONZEROS, PROJECTION_SIZE
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.site_directory import SITE_NAME_PATTERN

MAGIC = b"FSCA"
WIRE_VERSION = 2
PLAIN_VERSION = 1
MAX_HEADER = 65_536
MAX_PAYLOAD = 2**28
MAX_SITES = 512
MAX_NAMED = 64  # sites with the largest weights that a mixture of version 2 names
MAX_CASES = 10_000_000
MAX_ROUND = 1_000_000_000
MAX_MESSAGE = MAX_HEADER + MAX_PAYLOAD

Kind = Literal["update", "probe request", "probe reply", "mixture"]
KINDS: dict[Kind, int] = {"update": 1, "probe request": 2, "probe reply": 3, "mixture": 4}
_KIND_NAMES = {number: name for name, number in KINDS.items()}

_PREFIX = struct.Struct("<4sHHII")
_DIGEST_SIZE = hashlib.sha256().digest_size
_WEIGHT_SUM_TOLERANCE = 1e-6
_REFERENCE_DIGITS = 32


@dataclass(frozen=True)
class Coding:
    """How a message of version 2 is made.

    Attributes:
        finest: `fp16`, or `int8` to never send more than 8 bits a value. What does not fit into `limit` is sent with int8.
        limit: the whole message's largest length in bytes.
        reference: a state that the receiver has too: only the difference to it is sent. None: the full state.
    """

    finest: Encoding = "fp16"
    limit: int = MAX_MESSAGE
    reference: AdapterState | None = None


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
    """What a site receives.

    `weights`: by site name, sum 1, zeros left out; version 2 names the largest `MAX_NAMED` only. `newcomer`: it is the mean over all, not
    fitted to the site. `acknowledged`: `state_digest` of what the server has decoded of this site's update; "" in version 1.
    """

    site: str
    round: int
    state: AdapterState
    weights: Mapping[str, float] = field(default_factory=dict)
    newcomer: bool = False
    acknowledged: str = ""


def state_digest(state: AdapterState) -> str:
    """By what a reference is known: the first 32 hexadecimal digits of the sha256 of the values as little-endian float32."""
    return hashlib.sha256(state.to_vector().astype("<f4").tobytes()).hexdigest()[:_REFERENCE_DIGITS]


def encode_update(message: UpdateMessage, coding: Coding | None = None) -> bytes:
    """The bytes of an update; without `coding` of version 1: 2 bytes a value and about 250 more.

    What the receiver will have is told by `decode_update`: with int8 it is not quite what was meant.

    Raises:
        NotFiniteError, HalfOverflowError: a value that cannot be sent. MalformedMessageError: a field out of range, or the limit too low.
    """
    header = {"site": message.site, "round": message.round, "cases": message.cases, **_layout(message.state.schema)}
    return _encode_state("update", header, message.state, coding)


def decode_update(
    data: bytes, schema: AdapterSchema, *, site: str | None = None, round: int | None = None, references: Sequence[AdapterState] = ()
) -> UpdateMessage:
    """The update in `data`, under the federation's `schema`; if given, it must come from `site` and be of `round`.

    `references`: states of this site that it may have sent the difference to.

    Raises:
        WireError: of the class that says why it is refused.
    """
    header, values = _decode("update", data, _runs(schema), schema)
    _expect(header, site=site, round=round)
    return UpdateMessage(header["site"], header["round"], header["cases"], _state_of(header, values, schema, references))


def encode_probe_request(message: ProbeRequest, coding: Coding | None = None) -> bytes:
    """The bytes of a probe request. Raises as `encode_update`."""
    header = {"round": message.round, "seed": message.seed, "size": message.size, **_layout(message.state.schema)}
    return _encode_state("probe request", header, message.state, coding)


def decode_probe_request(data: bytes, schema: AdapterSchema) -> ProbeRequest:
    """The probe request in `data`, under the site's `schema`. Raises WireError."""
    header, values = _decode("probe request", data, _runs(schema), schema)
    return ProbeRequest(header["round"], _state_of(header, values, schema, ()), header["seed"], header["size"])


def encode_probe_reply(message: ProbeReply, coding: Coding | None = None) -> bytes:
    """The bytes of a probe reply; of version 1: 4 bytes for every value of the projection and about 150 more. Raises as `encode_update`."""
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
    size = len(message.half_a)
    return _encode("probe reply", header, np.concatenate([message.half_a, message.half_b]), (size, size), coding)


def decode_probe_reply(data: bytes, request: ProbeRequest, *, site: str | None = None) -> ProbeReply:
    """The reply in `data` to `request`; if given, it must come from `site`.

    Raises:
        WireError: of the class that says why it is refused; UnexpectedMessageError for another round or projection.
    """
    header, values = _decode("probe reply", data, (request.size, request.size), None)
    _expect(header, site=site, round=request.round, seed=request.seed, size=request.size)
    first, second = header["cases"]
    half_a, half_b = values.reshape(2, request.size)
    return ProbeReply(header["site"], header["round"], header["seed"], (first, second), half_a, half_b)


def encode_mixture(message: Mixture, coding: Coding | None = None) -> bytes:
    """The bytes of a mixture; of version 1: 2 bytes a value, about 250 more and about 30 for every site with a weight.

    Raises as `encode_update`.
    """
    header: dict[str, Any] = {
        "site": message.site,
        "round": message.round,
        "newcomer": message.newcomer,
        "weights": {name: float(weight) for name, weight in message.weights.items() if weight != 0},
        **_layout(message.state.schema),
    }
    if coding is not None:
        header["acknowledged"] = message.acknowledged
        header["weights"] = _largest(header["weights"])
    return _encode_state("mixture", header, message.state, coding)


def decode_mixture(
    data: bytes, schema: AdapterSchema, *, site: str | None = None, round: int | None = None, references: Sequence[AdapterState] = ()
) -> Mixture:
    """The mixture in `data`, under the site's `schema`; if given, it must be for `site` and of `round`. Raises WireError.

    `references`: the site's update of this round as the server has it, and the round's common state.
    """
    header, values = _decode("mixture", data, _runs(schema), schema)
    _expect(header, site=site, round=round)
    state = _state_of(header, values, schema, references)
    return Mixture(header["site"], header["round"], state, header["weights"], header["newcomer"], header.get("acknowledged", ""))


def message_kind(data: bytes) -> Kind:
    """The kind that the first bytes of a message declare; nothing else is checked. Raises WireError."""
    return _prefix(data)[0]


def message_version(data: bytes) -> int:
    """The version that the first bytes of a message declare, one that this software speaks. Raises WireError."""
    return _prefix(data)[1]


def _layout(schema: AdapterSchema) -> dict[str, Any]:
    return {"base": schema.base, "schema": schema.id, "count": schema.size}


def _runs(schema: AdapterSchema) -> tuple[int, ...]:
    """Lengths of the runs that share a step with int8: whole tensors. A row has only as many values as the rank."""
    return tuple(spec.size for spec in schema.tensors)


def _encode_state(kind: Kind, header: Mapping[str, Any], state: AdapterState, coding: Coding | None) -> bytes:
    """A message whose payload is `state`, or its difference to the coding's reference."""
    values = state.to_vector()
    if coding is None or kind == "probe request":  # every site has to decode the same common state, whatever it remembers
        return _encode(kind, header, values, _runs(state.schema), coding)
    if coding.reference is None:
        return _encode(kind, {**header, "reference": ""}, values, _runs(state.schema), coding)
    _check_sendable(kind, values)
    known = {**header, "reference": state_digest(coding.reference)}
    return _encode(kind, known, values - coding.reference.to_vector(), _runs(state.schema), coding)


def _state_of(
    header: Mapping[str, Any], values: NDArray[np.float32], schema: AdapterSchema, references: Sequence[AdapterState]
) -> AdapterState:
    """The state that a message means: its values, or the reference plus its values."""
    name = header.get("reference", "")
    if not name:
        return AdapterState.from_vector(schema, values)
    for reference in references:
        if reference.schema == schema and state_digest(reference) == name:
            with np.errstate(over="ignore"):  # found just below
                vector = reference.to_vector() + values
            if not np.isfinite(vector).all():
                raise NotFiniteError("A difference makes values that are not finite: roll its sender back to a good version.")
            return AdapterState.from_vector(schema, vector)
    raise UnknownReferenceError(
        f"The message is the difference to a state {name} that this side does not have: the next message has to be a full one, which its "
        "sender does by itself once it is told so."
    )


def _check_sendable(kind: Kind, values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"The {kind} has {bad} of {len(values)} values that are not finite: nothing was sent.")
    with np.errstate(over="ignore"):  # that is what is looked for
        overflows = not np.isfinite(values.astype("<f2")).all()
    if overflows:
        raise HalfOverflowError(
            f"The {kind} has a value of {np.abs(values).max():.6g}, 16-bit floats end at {HALF_LARGEST:.0f}: such adapters have diverged, "
            "roll back to a good version."
        )


def _encode(kind: Kind, header: Mapping[str, Any], values: NDArray[np.float32], runs: Sequence[int], coding: Coding | None) -> bytes:
    """The whole message: of version 1 without a coding."""
    _check_sendable(kind, values)
    if coding is None:
        return _sealed(kind, PLAIN_VERSION, header, values.astype("<f2").tobytes())
    # The length of the encoding's name is part of the message's: both names have four characters.
    overhead = _PREFIX.size + len(_canonical({**header, "encoding": coding.finest})) + _DIGEST_SIZE
    coded = encode_values(values, runs, finest=coding.finest, limit=coding.limit - overhead)
    return _sealed(kind, WIRE_VERSION, {**header, "encoding": coded.encoding}, coded.payload)


def _sealed(kind: Kind, version: int, header: Mapping[str, Any], payload: bytes) -> bytes:
    _check_fields(kind, version, header)
    text = _canonical(header)
    if len(text) > MAX_HEADER:
        raise MalformedMessageError(f"The {kind}'s header would have {len(text)} bytes, expected at most {MAX_HEADER}: too many sites.")
    if len(payload) > MAX_PAYLOAD:
        raise MalformedMessageError(
            f"The {kind} would have {len(payload)} bytes of values, expected at most {MAX_PAYLOAD}: lower the rank."
        )
    body = _PREFIX.pack(MAGIC, version, KINDS[kind], len(text), len(payload)) + text + payload
    return body + hashlib.sha256(body).digest()


def _decode(kind: Kind, data: bytes, runs: Sequence[int], schema: AdapterSchema | None) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Header and values (sum of runs,) float32 of a message of `kind`, everything checked."""
    found, version, header_length, payload_length = _prefix(data)
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
    header = _parse_header(kind, data[_PREFIX.size : start])
    _check_fields(kind, version, header)
    if schema is not None:
        _check_layout(kind, header, schema)
    payload = data[start : start + payload_length]
    if version == PLAIN_VERSION:
        return header, _plain_values(kind, header, payload, sum(runs))
    if header["count"] != sum(runs):
        raise SchemaMismatchError(f"The {kind} has {header['count']} values, expected {sum(runs)}: use the same settings at all sites.")
    return header, decode_values(payload, runs, header["encoding"])


def _plain_values(kind: Kind, header: Mapping[str, Any], payload: bytes, count: int) -> NDArray[np.float32]:
    """The values of a payload of version 1."""
    if header["count"] != count or len(payload) != 2 * count:
        raise SchemaMismatchError(
            f"The {kind} has {header['count']} values in {len(payload)} bytes, expected {count} in {2 * count}: "
            "use the same settings at all sites."
        )
    values = np.frombuffer(payload, "<f2").astype(np.float32)
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"The {kind} has {bad} of {count} values that are not finite: roll its sender back to a good version.")
    return values


def _prefix(data: bytes) -> tuple[Kind, int, int, int]:
    """Kind, version, header length and payload length."""
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


def _largest(weights: Mapping[str, float]) -> dict[str, float]:
    """The `MAX_NAMED` largest weights, names in alphabetical order where they are equal."""
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0]))[:MAX_NAMED])


def _are_largest_weights(value: Any) -> bool:
    """As `_are_weights`, but where as many sites as can be named are, the rest of the weight may be with others."""
    if not isinstance(value, dict) or len(value) != MAX_NAMED:
        return isinstance(value, dict) and len(value) < MAX_NAMED and _are_weights(value)
    weights = list(value.values())
    good = all(_is_site(name) for name in value) and all(type(weight) is float and weight > 0 for weight in weights)
    return good and sum(weights) <= 1 + _WEIGHT_SUM_TOLERANCE


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


_ENCODING = {"encoding": _Field(lambda value: value in ENCODINGS, " or ".join(ENCODINGS))}
_REFERENCE = _Field(lambda value: value == "" or _is_hex(_REFERENCE_DIGITS)(value), f"{_REFERENCE_DIGITS} hexadecimal digits, or none")
_LARGEST_WEIGHTS = _Field(
    _are_largest_weights, f"1 to {MAX_NAMED} site names with numbers above 0 that sum to 1, or to less with {MAX_NAMED}"
)
_CODED_FIELDS: dict[Kind, dict[str, _Field]] = {
    "update": {**_FIELDS["update"], **_ENCODING, "reference": _REFERENCE},
    "probe request": {**_FIELDS["probe request"], **_ENCODING},
    "probe reply": {**_FIELDS["probe reply"], **_ENCODING},
    "mixture": {**_FIELDS["mixture"], **_ENCODING, "reference": _REFERENCE, "acknowledged": _REFERENCE, "weights": _LARGEST_WEIGHTS},
}


def _check_fields(kind: Kind, version: int, header: Mapping[str, Any]) -> None:
    fields = _FIELDS[kind] if version == PLAIN_VERSION else _CODED_FIELDS[kind]
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
    "MAX_MESSAGE",
    "MAX_NAMED",
    "MAX_PAYLOAD",
    "MAX_ROUND",
    "MAX_SITES",
    "PLAIN_VERSION",
    "WIRE_VERSION",
    "Coding",
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
    "message_version",
    "state_digest",
]
