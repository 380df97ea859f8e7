"""Version 2 of the wire format: differences, limits, damage, and sizes on the default base's layout."""

import dataclasses
import hashlib
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from fed_backend import wire, wire_budget
from fed_backend.errors import (
    HalfOverflowError,
    MalformedMessageError,
    NotFiniteError,
    SchemaMismatchError,
    UnknownReferenceError,
    WireError,
)
from fed_backend.payload_codec import ENCODINGS, Encoding
from sam_adapters.schema import AdapterState
from tests.fed_backend.toys import BASE, FULL_SIZE, OTHER_RANK, SCHEMA, toy_state

KNOWN = toy_state([1, 2, 3, 4, 5, 6])
REQUEST = wire.ProbeRequest(round=4, state=toy_state(0.5), seed=99, size=8)
HALF = np.arange(8, dtype=np.float32)


def messages(encoding: Encoding) -> dict[str, tuple[bytes, Callable[[bytes], object]]]:
    full, difference = wire.Coding(encoding), wire.Coding(encoding, reference=KNOWN)
    known = [KNOWN]
    update = wire.UpdateMessage("north", 4, 17, toy_state([1, -2, 0.5, 0, 3, 4]))
    mixture = wire.Mixture("north", 4, toy_state(2), {"north": 0.75, "south": 0.25}, acknowledged="ab" * 16)
    return {
        "full update": (wire.encode_update(update, full), lambda data: wire.decode_update(data, SCHEMA)),
        "difference": (wire.encode_update(update, difference), lambda data: wire.decode_update(data, SCHEMA, references=known)),
        "probe request": (wire.encode_probe_request(REQUEST, full), lambda data: wire.decode_probe_request(data, SCHEMA)),
        "probe reply": (
            wire.encode_probe_reply(wire.ProbeReply("north", 4, 99, (5, 6), HALF, -HALF), full),
            lambda data: wire.decode_probe_reply(data, REQUEST),
        ),
        "mixture": (wire.encode_mixture(mixture, difference), lambda data: wire.decode_mixture(data, SCHEMA, references=known)),
    }


ALL = {f"{kind} {encoding}": value for encoding in ENCODINGS for kind, value in messages(encoding).items()}
EVERY_MESSAGE = pytest.mark.parametrize(("data", "decode"), ALL.values(), ids=list(ALL))


def rebuild(data: bytes, change: Callable[[dict[str, Any]], object] | None = None, *, payload: bytes | None = None) -> bytes:
    """`data` with a changed header or payload, and lengths and checksum that fit."""
    length = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[16 : 16 + length])
    if change:
        change(header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    inside = data[16 + length : -32] if payload is None else payload
    body = data[:8] + struct.pack("<II", len(text), len(inside)) + text + inside
    return body + hashlib.sha256(body).digest()


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


states = npst.arrays(np.float32, SCHEMA.size, elements=st.floats(-1000, 1000, width=32))


class TestRoundTrip:
    @given(states, states, st.sampled_from(ENCODINGS))
    def test_a_difference(self, values: NDArray[np.float32], base: NDArray[np.float32], encoding: Encoding) -> None:
        state, reference = AdapterState.from_vector(SCHEMA, values), AdapterState.from_vector(SCHEMA, base)
        data = wire.encode_update(wire.UpdateMessage("a", 3, 5, state), wire.Coding(encoding, reference=reference))
        message = wire.decode_update(data, SCHEMA, site="a", round=3, references=[toy_state(9), reference])
        scale = np.abs(values - base).max()
        allowed = scale / 127 / 2 * 1.01 if encoding == "int8" else scale * 2**-11
        np.testing.assert_allclose(message.state.to_vector(), values, rtol=1e-6, atol=allowed + 1e-4)

    @given(states, st.sampled_from(ENCODINGS))
    def test_no_difference_at_all_is_exact(self, values: NDArray[np.float32], encoding: Encoding) -> None:
        """What a site alone is sent back is what it has sent, bit by bit."""
        state = AdapterState.from_vector(SCHEMA, values)
        data = wire.encode_mixture(wire.Mixture("a", 3, state, {"a": 1.0}), wire.Coding(encoding, reference=state))
        decoded = wire.decode_mixture(data, SCHEMA, references=[state]).state.to_vector()
        np.testing.assert_array_equal(decoded, values)

    def test_what_else_a_mixture_says(self) -> None:
        data, _ = ALL["mixture fp16"]
        message = wire.decode_mixture(data, SCHEMA, site="north", round=4, references=[KNOWN])
        assert (message.weights, message.acknowledged, message.newcomer) == ({"north": 0.75, "south": 0.25}, "ab" * 16, False)

    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_a_probe_reply(self, encoding: Encoding) -> None:
        data, _ = messages(encoding)["probe reply"]
        reply = wire.decode_probe_reply(data, REQUEST, site="north")
        assert reply.cases == (5, 6)
        np.testing.assert_allclose([reply.half_a, reply.half_b], [HALF, -HALF], atol=7 / 127 / 2 * 1.01)

    def test_only_the_largest_weights_of_a_large_federation_are_named(self) -> None:
        weights = {f"site-{index:04}": 2 * (index + 1) / (1000 * 1001) for index in range(1000)}
        data = wire.encode_mixture(wire.Mixture("site-0000", 1, KNOWN, weights), wire.Coding())
        named = wire.decode_mixture(data, SCHEMA).weights
        assert sorted(named) == [f"site-{index:04}" for index in range(1000 - wire.MAX_NAMED, 1000)]
        assert named["site-0999"] == weights["site-0999"]

    def test_a_site_of_version_1_is_told_of_as_many_as_it_can_read(self) -> None:
        weights = {f"site-{index:04}": 2 * (index + 1) / (1000 * 1001) for index in range(1000)}
        named = wire.decode_mixture(wire.encode_mixture(wire.Mixture("site-0000", 1, KNOWN, weights)), SCHEMA).weights
        assert sorted(named) == [f"site-{index:04}" for index in range(1000 - wire.MAX_SITES, 1000)]
        assert sum(named.values()) == pytest.approx(1)
        assert named["site-0999"] / named["site-0500"] == pytest.approx(1000 / 501)

    @EVERY_MESSAGE
    def test_version_and_kind(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        decode(data)
        assert wire.message_version(data) == 2


def test_an_update_by_hand() -> None:
    """As the table in docs/wire.md has it: 0.5 more than the reference at the first value, 2 less at the last."""
    name = hashlib.sha256(np.array([1, 2, 3, 4, 5, 6], "<f4").tobytes()).hexdigest()[:32]
    text = (
        f'{{"base":"{BASE}","cases":17,"count":6,"encoding":"fp16","reference":"{name}","round":4,"schema":"{SCHEMA.id}","site":"north"}}'
    )
    payload = raw_deflate(bytes.fromhex("000000000000 3800000000c0"))
    body = b"FSCA" + bytes([2, 0, 1, 0]) + struct.pack("<II", len(text), len(payload)) + text.encode() + payload
    message = wire.decode_update(body + hashlib.sha256(body).digest(), SCHEMA, references=[KNOWN])
    assert message.state.to_vector().tolist() == [1.5, 2, 3, 4, 5, 4]


class TestReferences:
    def test_one_that_is_not_there(self) -> None:
        data, _ = ALL["difference fp16"]
        for references in ([], [toy_state(1)], [toy_state([1, 2, 3, 4, 5, 6], OTHER_RANK)]):
            with pytest.raises(UnknownReferenceError, match="has to be a full one") as refused:
                wire.decode_update(data, SCHEMA, references=references)
            assert refused.value.reason == "reference"

    def test_a_sum_that_overflows(self) -> None:
        huge = toy_state(3e38)
        data, _ = ALL["difference int8"]
        steps = struct.pack("<ff", 2e36, 2e36) + bytes([127] * 6)
        changed = rebuild(data, lambda header: header.update(reference=wire.state_digest(huge)), payload=raw_deflate(steps))
        with pytest.raises(NotFiniteError):
            wire.decode_update(changed, SCHEMA, references=[huge])

    @pytest.mark.parametrize("bad", [np.nan, np.inf, 7e4])
    def test_what_cannot_be_sent_is_not_hidden_by_the_reference(self, bad: float) -> None:
        state = toy_state([bad, 0, 0, 0, 0, 0])
        with pytest.raises((NotFiniteError, HalfOverflowError)):
            wire.encode_update(wire.UpdateMessage("a", 1, 1, state), wire.Coding(reference=toy_state(6e4)))


class TestDamage:
    @EVERY_MESSAGE
    def test_any_single_byte(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        for position in range(len(data)):
            for change in (0x01, 0x80):
                damaged = bytearray(data)
                damaged[position] ^= change
                with pytest.raises(WireError):
                    decode(bytes(damaged))

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(ALL)), st.data())
    def test_random_bytes_with_a_good_checksum(self, kind: str, data: st.DataObject) -> None:
        """What an attacker would send: another good message may come out, never another exception or a value that is not finite."""
        message, decode = ALL[kind]
        start = data.draw(st.integers(0, len(message) - 33))
        noise = data.draw(st.binary(min_size=1, max_size=40))
        changed = (message[:start] + noise + message[start + len(noise) :])[:-32]
        try:
            found = decode(changed + hashlib.sha256(changed).digest())
        except WireError:
            return
        arrays = [found.half_a, found.half_b] if isinstance(found, wire.ProbeReply) else [found.state.to_vector()]  # type: ignore[attr-defined]
        assert all(np.isfinite(array).all() for array in arrays)

    @settings(max_examples=200)
    @given(st.sampled_from(sorted(ALL)), st.binary(max_size=60), st.booleans())
    def test_random_payload(self, kind: str, payload: bytes, packed: bool) -> None:
        message, decode = ALL[kind]
        try:
            decode(rebuild(message, payload=raw_deflate(payload) if packed else payload))
        except WireError:
            return
        assert payload, "nothing cannot mean something"

    @pytest.mark.parametrize(
        ("field", "value"),
        [("encoding", "fp32"), ("encoding", None), ("encoding", ["fp16"]), ("reference", "ab"), ("reference", 0), ("reference", "A" * 32)],
    )
    def test_fields(self, field: str, value: object) -> None:
        data, decode = ALL["difference fp16"]
        with pytest.raises(MalformedMessageError, match=field):
            decode(rebuild(data, lambda header: header.update({field: value})))

    def test_fields_of_version_1_only(self) -> None:
        data, decode = ALL["mixture fp16"]
        with pytest.raises(MalformedMessageError, match="header has fields"):
            decode(rebuild(data, lambda header: header.pop("acknowledged")))

    def test_another_count(self) -> None:
        data, decode = ALL["full update fp16"]
        with pytest.raises(SchemaMismatchError, match="has 7 values, expected 6"):
            decode(rebuild(data, lambda header: header.update(count=7)))

    @pytest.mark.parametrize("weights", [{}, {"a": 0.5}, {"a": 1.5}, {f"s{index}": 1 / 65 for index in range(65)}, {"a": 1}, "a"])
    def test_weights(self, weights: object) -> None:
        data, decode = ALL["mixture int8"]
        with pytest.raises(MalformedMessageError, match="weights"):
            decode(rebuild(data, lambda header: header.update(weights=weights)))


class TestSizes:
    """One site's round on the default base: 52,992 values, projections to 4,096 numbers, 64 sites with long names in the mixture."""

    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("shape", ["normal", "heavy tails", "flat", "any bits"])
    def test_a_round_keeps_its_budget(self, encoding: Encoding, shape: str) -> None:
        rng = np.random.default_rng(3)

        def state() -> AdapterState:
            count = FULL_SIZE.size
            values = {
                "normal": lambda: rng.normal(0, 0.01, count),
                "heavy tails": lambda: rng.standard_t(2, count) * 0.01,
                "flat": lambda: rng.uniform(-0.01, 0.01, count),
                "any bits": lambda: rng.integers(0, 0x7BFF, count).astype("<u2").view("<f2") * rng.choice([-1, 1], count),
            }[shape]()
            return AdapterState.from_vector(FULL_SIZE, np.asarray(values, np.float32))

        name, count = "hospital-a", FULL_SIZE.size
        halves = rng.normal(0, 0.02, (2, 4096)).astype(np.float32)
        update = wire.encode_update(
            wire.UpdateMessage(name, 3, 60, state()), wire.Coding(encoding, wire_budget.update_limit(encoding, count), toy_full())
        )
        reply = wire.encode_probe_reply(wire.ProbeReply(name, 3, 2**62, (16, 16), halves[0], halves[1]), wire.Coding("int8"))
        request = wire.encode_probe_request(
            wire.ProbeRequest(3, state(), 2**62), wire.Coding(encoding, wire_budget.probe_request_limit(encoding, count))
        )
        mixture = wire.Mixture(name, 3, state(), {f"hospital-with-a-long-name-{index:03}": 1 / 64 for index in range(64)})
        both = [
            len(wire.encode_mixture(mixture, wire.Coding(encoding, wire_budget.mixture_limit(encoding, count, probed=probed))))
            for probed in (True, False)
        ]
        budget = wire_budget.BUDGET[encoding]
        assert len(update) + len(reply) <= budget
        assert len(reply) <= wire_budget.PROBE_REPLY_LARGEST
        assert len(request) + both[0] <= budget
        assert both[1] <= budget
        decoded = wire.decode_update(update, FULL_SIZE, references=[toy_full()])
        assert dataclasses.asdict(decoded)["cases"] == 60


def toy_full() -> AdapterState:
    return AdapterState.from_vector(FULL_SIZE, np.full(FULL_SIZE.size, 1e-3, np.float32))
