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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import (
    HalfOverflowError,
    MalformedMessageError,
    NotFiniteError,
    SchemaMismatchError,
    UnknownReferenceError,
    WireError,
)
from fed_backend.payload_codec import HALF_LARGEST, Encoding, decode_values, encode_values
from fed_backend.projection import PROJECTION_SIZE
from fed_backend.wire_frame import FRAME_SIZE, KINDS, MAGIC, MAX_MESSAGE, opened, prefix, sealed
from fed_backend.wire_header import (
    MAX_CASES,
    MAX_HEADER,
    MAX_NAMED,
    MAX_PAYLOAD,
    MAX_ROUND,
    MAX_SITES,
    PLAIN_VERSION,
    REFERENCE_DIGITS,
    WIRE_VERSION,
    Kind,
    at_most_named,
    canonical,
    check_layout,
    expect,
    largest,
)
from sam_adapters.schema import AdapterSchema, AdapterState


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
    return hashlib.sha256(state.to_vector().astype("<f4").tobytes()).hexdigest()[:REFERENCE_DIGITS]


def nearest_reference(state: AdapterState, references: Sequence[AdapterState]) -> AdapterState | None:
    """The reference with the smallest distance to `state`; None if that is no smaller than `state` itself."""
    vector = state.to_vector()
    distances = [float(np.linalg.norm(vector - reference.to_vector())) for reference in references]
    best = min(distances, default=float("inf"))
    return references[distances.index(best)] if best < float(np.linalg.norm(vector)) else None


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
    expect(header, site=site, round=round)
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
    expect(header, site=site, round=request.round, seed=request.seed, size=request.size)
    first, second = header["cases"]
    half_a, half_b = values.reshape(2, request.size)
    return ProbeReply(header["site"], header["round"], header["seed"], (first, second), half_a, half_b)


def encode_mixture(message: Mixture, coding: Coding | None = None) -> bytes:
    """The bytes of a mixture; of version 1: 2 bytes a value, about 250 more and about 30 for every site with a weight.

    Raises as `encode_update`.
    """
    weights = {name: float(weight) for name, weight in message.weights.items() if weight != 0}
    header: dict[str, Any] = {
        "site": message.site,
        "round": message.round,
        "newcomer": message.newcomer,
        "weights": at_most_named(weights),
        **_layout(message.state.schema),
    }
    if coding is not None:
        header["acknowledged"] = message.acknowledged
        header["weights"] = largest(weights)
    return _encode_state("mixture", header, message.state, coding)


def decode_mixture(
    data: bytes, schema: AdapterSchema, *, site: str | None = None, round: int | None = None, references: Sequence[AdapterState] = ()
) -> Mixture:
    """The mixture in `data`, under the site's `schema`; if given, it must be for `site` and of `round`. Raises WireError.

    `references`: the site's update of this round as the server has it, and the round's common state.
    """
    header, values = _decode("mixture", data, _runs(schema), schema)
    expect(header, site=site, round=round)
    state = _state_of(header, values, schema, references)
    return Mixture(header["site"], header["round"], state, header["weights"], header["newcomer"], header.get("acknowledged", ""))


def message_kind(data: bytes) -> Kind:
    """The kind that the first bytes of a message declare; nothing else is checked. Raises WireError."""
    return prefix(data)[0]


def message_version(data: bytes) -> int:
    """The version that the first bytes of a message declare, one that this software speaks. Raises WireError."""
    return prefix(data)[1]


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
        return sealed(kind, PLAIN_VERSION, header, values.astype("<f2").tobytes())
    # The length of the encoding's name is part of the message's: both names have four characters.
    overhead = FRAME_SIZE + len(canonical({**header, "encoding": coding.finest}))
    coded = encode_values(values, runs, finest=coding.finest, limit=coding.limit - overhead)
    return sealed(kind, WIRE_VERSION, {**header, "encoding": coded.encoding}, coded.payload)


def _decode(kind: Kind, data: bytes, runs: Sequence[int], schema: AdapterSchema | None) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Header and values (sum of runs,) float32 of a message of `kind`, everything checked."""
    version, header, payload = opened(kind, data)
    if schema is not None:
        check_layout(kind, header, schema)
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
    "nearest_reference",
    "state_digest",
]
