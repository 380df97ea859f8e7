"""The wire format: whole messages come through, everything else is refused with a WireError that says why."""

import hashlib
import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from fed_backend import wire
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
from sam_adapters.schema import AdapterState
from tests.fed_backend.toys import BASE, FULL_SIZE, OTHER_BASE, OTHER_RANK, SCHEMA, toy_state

REQUEST = wire.ProbeRequest(round=4, state=toy_state(0.5), seed=99, size=8)
UPDATE = wire.encode_update(wire.UpdateMessage("north", 4, 17, toy_state([1, -2, 0.5, 0, 3, 4])))
PROBE_REQUEST = wire.encode_probe_request(REQUEST)
PROBE_REPLY = wire.encode_probe_reply(
    wire.ProbeReply("north", 4, 99, (5, 6), np.arange(8, dtype=np.float32), -np.arange(8, dtype=np.float32))
)
MIXTURE = wire.encode_mixture(wire.Mixture("north", 4, toy_state(2), {"north": 0.75, "south": 0.25, "west": 0.0}))

MESSAGES: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "update": (UPDATE, lambda data: wire.decode_update(data, SCHEMA)),
    "probe request": (PROBE_REQUEST, lambda data: wire.decode_probe_request(data, SCHEMA)),
    "probe reply": (PROBE_REPLY, lambda data: wire.decode_probe_reply(data, REQUEST)),
    "mixture": (MIXTURE, lambda data: wire.decode_mixture(data, SCHEMA)),
}
EVERY_MESSAGE = pytest.mark.parametrize(("data", "decode"), MESSAGES.values(), ids=list(MESSAGES))

halves = st.floats(-65504, 65504, width=16)
names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
rounds = st.integers(0, wire.MAX_ROUND)


def rebuild(data: bytes, change: Callable[[dict[str, Any]], object] | None = None, *, payload: bytes | None = None) -> bytes:
    """`data` with a changed header or payload, and lengths and checksum that fit: only the meaning is wrong."""
    length = struct.unpack_from("<I", data, 8)[0]
    header = json.loads(data[16 : 16 + length])
    if change:
        change(header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return assemble(data, text, data[16 + length : -32] if payload is None else payload)


def assemble(data: bytes, header: bytes, payload: bytes) -> bytes:
    body = data[:8] + struct.pack("<II", len(header), len(payload)) + header + payload
    return body + hashlib.sha256(body).digest()


def seal(data: bytes) -> bytes:
    """`data` with a checksum that fits."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


class TestRoundTrip:
    @given(names, rounds, st.integers(0, wire.MAX_CASES), npst.arrays(np.float32, SCHEMA.size, elements=halves))
    def test_update(self, site: str, number: int, cases: int, values: NDArray[np.float32]) -> None:
        data = wire.encode_update(wire.UpdateMessage(site, number, cases, AdapterState.from_vector(SCHEMA, values)))
        message = wire.decode_update(data, SCHEMA, site=site, round=number)
        assert (message.site, message.round, message.cases) == (site, number, cases)
        np.testing.assert_array_equal(message.state.to_vector(), values)
        assert message.state.schema == SCHEMA
        assert wire.encode_update(message) == data

    @given(rounds, st.integers(0, 2**63 - 1), st.integers(1, 2**18), npst.arrays(np.float32, SCHEMA.size, elements=halves))
    def test_probe_request(self, number: int, seed: int, quarter: int, values: NDArray[np.float32]) -> None:
        request = wire.ProbeRequest(number, AdapterState.from_vector(SCHEMA, values), seed, 4 * quarter)
        message = wire.decode_probe_request(wire.encode_probe_request(request), SCHEMA)
        assert (message.round, message.seed, message.size) == (number, seed, 4 * quarter)
        np.testing.assert_array_equal(message.state.to_vector(), values)

    @given(names, st.tuples(*2 * [st.integers(1, wire.MAX_CASES)]), npst.arrays(np.float32, (2, 8), elements=halves))
    def test_probe_reply(self, site: str, cases: tuple[int, int], values: NDArray[np.float32]) -> None:
        reply = wire.ProbeReply(site, REQUEST.round, REQUEST.seed, cases, values[0], values[1])
        message = wire.decode_probe_reply(wire.encode_probe_reply(reply), REQUEST, site=site)
        assert (message.site, message.round, message.seed, message.cases) == (site, 4, 99, cases)
        np.testing.assert_array_equal([message.half_a, message.half_b], values)
        assert message.half_a.dtype == np.float32

    @given(names, rounds, st.booleans(), st.dictionaries(names, st.floats(1e-6, 1), min_size=1, max_size=9))
    def test_mixture(self, site: str, number: int, newcomer: bool, shares: dict[str, float]) -> None:
        weights = {name: share / sum(shares.values()) for name, share in shares.items()}
        data = wire.encode_mixture(wire.Mixture(site, number, toy_state(1), weights, newcomer))
        message = wire.decode_mixture(data, SCHEMA, site=site, round=number)
        assert (message.site, message.round, message.newcomer, message.weights) == (site, number, newcomer, weights)

    def test_weights_of_zero_are_left_out(self) -> None:
        assert wire.decode_mixture(MIXTURE, SCHEMA).weights == {"north": 0.75, "south": 0.25}

    def test_values_are_rounded_to_half_precision(self) -> None:
        values = np.random.default_rng(0).normal(0, 0.01, SCHEMA.size).astype(np.float32)
        data = wire.encode_update(wire.UpdateMessage("a", 1, 1, AdapterState.from_vector(SCHEMA, values)))
        np.testing.assert_allclose(wire.decode_update(data, SCHEMA).state.to_vector(), values, rtol=2**-11)

    @EVERY_MESSAGE
    def test_kind_is_told(self, data: bytes, decode: object) -> None:
        assert MESSAGES[wire.message_kind(data)][0] == data


def test_bytes_never_change() -> None:
    """An update written out by hand from the table in docs/wire.md."""
    header = f'{{"base":"{BASE}","cases":17,"count":6,"round":4,"schema":"{SCHEMA.id}","site":"north"}}'.encode()
    body = b"FSCA" + bytes([1, 0, 1, 0]) + struct.pack("<II", len(header), 12) + header + bytes.fromhex("003c00c0003800000042 0044")
    assert body + hashlib.sha256(body).digest() == UPDATE
    assert SCHEMA.id == hashlib.sha256(SCHEMA.to_json().encode()).hexdigest()[:16]


def test_sizes() -> None:
    """What a hospital's line has to carry with the default base: 175,616 shared values and 4096 projected ones."""
    assert FULL_SIZE.size == 175_616
    state = AdapterState.zeros(FULL_SIZE)
    long_name = "n" * 64
    everybody = {f"{index:064}": 1 / 64 for index in range(64)}
    half = np.zeros(4096, np.float32)
    sizes = {
        "update": len(wire.encode_update(wire.UpdateMessage(long_name, wire.MAX_ROUND, wire.MAX_CASES, state))),
        "probe request": len(wire.encode_probe_request(wire.ProbeRequest(wire.MAX_ROUND, state, 2**63 - 1))),
        "probe reply": len(
            wire.encode_probe_reply(wire.ProbeReply(long_name, wire.MAX_ROUND, 2**63 - 1, (wire.MAX_CASES, wire.MAX_CASES), half, half))
        ),
        "mixture": len(wire.encode_mixture(wire.Mixture(long_name, wire.MAX_ROUND, state, everybody))),
    }
    assert sizes["update"] < 352_000
    assert sizes["probe request"] < 352_000
    assert sizes["probe reply"] < 17_000
    assert sizes["mixture"] < 357_000


def test_sizes_in_the_documentation() -> None:
    state, half, name = AdapterState.zeros(FULL_SIZE), np.zeros(4096, np.float32), "hospital-a"
    messages = (
        wire.encode_update(wire.UpdateMessage(name, 3, 60, state)),
        wire.encode_probe_request(wire.ProbeRequest(3, state, 2**62)),
        wire.encode_probe_reply(wire.ProbeReply(name, 3, 2**62, (16, 16), half, half)),
        wire.encode_mixture(wire.Mixture(name, 3, state, {name: 0.6123456789, "hospital-b": 1 - 0.6123456789})),
    )
    text = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
    for data in messages:
        assert f"| {len(data):,} |" in text


class TestDamage:
    @EVERY_MESSAGE
    def test_any_single_byte(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        decode(data)
        for position in range(len(data)):
            for change in (0x01, 0x80, 0xFF):
                damaged = bytearray(data)
                damaged[position] ^= change
                with pytest.raises(WireError):
                    decode(bytes(damaged))

    @EVERY_MESSAGE
    def test_any_truncation(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        for length in range(len(data)):
            with pytest.raises(MalformedMessageError):
                decode(data[:length])
            with pytest.raises(MalformedMessageError):
                decode(data[length + 1 :])

    @EVERY_MESSAGE
    @pytest.mark.parametrize("extra", [b"\0", b"\n", bytes(32), UPDATE])
    def test_extra_bytes(self, data: bytes, decode: Callable[[bytes], object], extra: bytes) -> None:
        with pytest.raises(MalformedMessageError, match="extra bytes"):
            decode(data + extra)

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=400))
    def test_random_bytes(self, kind: str, noise: bytes) -> None:
        with pytest.raises(WireError):
            MESSAGES[kind][1](noise)

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(MESSAGES)), st.data())
    def test_random_bytes_with_a_good_checksum(self, kind: str, data: st.DataObject) -> None:
        """What an attacker would send: the parser itself has to stand."""
        message, decode = MESSAGES[kind]
        start = data.draw(st.integers(0, len(message) - 33))
        noise = data.draw(st.binary(min_size=1, max_size=40))
        changed = seal(message[:start] + noise + message[start + len(noise) :])
        try:
            decode(changed)
        except WireError:
            return
        # A change of payload or header values may well give another good message, but never one of another length.
        assert len(changed) == len(message)

    @settings(max_examples=200)
    @given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=200))
    def test_random_header(self, kind: str, header: bytes) -> None:
        message, decode = MESSAGES[kind]
        with pytest.raises(MalformedMessageError):
            decode(assemble(message, header, b""))

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    )

    @pytest.mark.parametrize("cases", [[1], [1, 1, 1], [0, 1], [1, -1], [1, 1.0], [1, True], 2, "2"])
    def test_a_probe_reply_has_two_halves_of_some_cases(self, cases: object) -> None:
        message, decode = MESSAGES["probe reply"]
        decode(rebuild(message, lambda header: header.update(cases=[1, 1])))
        with pytest.raises(WireError):
            decode(rebuild(message, lambda header: header.update(cases=cases)))

    @settings(max_examples=300)
    @given(st.sampled_from(sorted(MESSAGES)), st.data())
    def test_any_json_in_a_header_field(self, kind: str, data: st.DataObject) -> None:
        message, decode = MESSAGES[kind]
        length = struct.unpack_from("<I", message, 8)[0]
        field = data.draw(st.sampled_from(sorted(json.loads(message[16 : 16 + length]))))
        value = data.draw(self.json_values)
        try:
            decode(rebuild(message, lambda header: header.update({field: value})))
        except WireError:
            return
        if (kind, field) == ("probe reply", "cases"):
            assert len(value) == 2
            assert all(type(one) is int and one >= 1 for one in value), "two halves, each of some cases"
            return
        assert type(value) in (int, str, bool), "only another number, name or flag can be another good message"


class TestPrefix:
    @EVERY_MESSAGE
    def test_another_version(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        for version in (0, 3, 65535):
            with pytest.raises(UnsupportedVersionError, match=f"version {version}, expected 1 or 2: update the older side"):
                decode(seal(data[:4] + struct.pack("<H", version) + data[6:]))

    @EVERY_MESSAGE
    def test_another_kind(self, data: bytes, decode: Callable[[bytes], object]) -> None:
        for other, (other_data, _) in MESSAGES.items():
            if other_data != data:
                with pytest.raises(WrongKindError, match=f"Received a {other}, expected a"):
                    decode(other_data)
        with pytest.raises(MalformedMessageError, match="kind 5 is not known"):
            decode(seal(data[:6] + struct.pack("<H", 5) + data[8:]))

    @pytest.mark.parametrize("lengths", [(2**32 - 1, 12), (12, 2**32 - 1), (wire.MAX_HEADER + 1, 0), (0, wire.MAX_PAYLOAD + 1)])
    def test_lengths_are_checked_before_anything_is_read(self, lengths: tuple[int, int]) -> None:
        with pytest.raises(MalformedMessageError, match=r"expected at most|add up to"):
            wire.decode_update(seal(UPDATE[:8] + struct.pack("<II", *lengths) + UPDATE[16:]), SCHEMA)

    def test_a_header_as_long_as_it_claims_but_too_long(self) -> None:
        with pytest.raises(MalformedMessageError, match="expected at most 65536"):
            wire.decode_update(assemble(UPDATE, b" " * 70_000, bytes(12)), SCHEMA)

    def test_something_else_altogether(self) -> None:
        with pytest.raises(MalformedMessageError, match="begins with"):
            wire.decode_update(b"PK\x03\x04" + bytes(100), SCHEMA)
        with pytest.raises(MalformedMessageError, match="NoneType, expected bytes"):
            wire.decode_update(None, SCHEMA)  # type: ignore[arg-type]


class TestHeader:
    @pytest.mark.parametrize(
        "header",
        [
            b"",
            b"[]",
            b"null",
            b"{",
            b"[" * 60_000,
            b'{"a":' * 10_000,
            b"\xff\xfe",
            b'{"round":NaN}',
            b'{"round":1e999}',
            b"1" * 5000,
            '{"site":"ü"}'.encode(),
        ],
    )
    def test_not_a_json_object(self, header: bytes) -> None:
        with pytest.raises(MalformedMessageError, match="header"):
            wire.decode_update(assemble(UPDATE, header, bytes(12)), SCHEMA)

    def test_only_the_canonical_spelling(self) -> None:
        length = struct.unpack_from("<I", UPDATE, 8)[0]
        text = UPDATE[16 : 16 + length]
        for other in (text.replace(b'"cases":17', b'"cases": 17'), text.replace(b"{", b'{"base":"x",', 1), text + b" "):
            with pytest.raises(MalformedMessageError, match="canonical"):
                wire.decode_update(assemble(UPDATE, other, bytes(12)), SCHEMA)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("site", ""),
            ("site", "../x"),
            ("site", "a" * 65),
            ("site", "north\n"),
            ("site", 5),
            ("site", None),
            ("round", -1),
            ("round", 1.0),
            ("round", True),
            ("round", "4"),
            ("round", wire.MAX_ROUND + 1),
            ("cases", -1),
            ("cases", 0.5),
            ("cases", False),
            ("cases", wire.MAX_CASES + 1),
            ("cases", [17]),
            ("base", "AB" * 32),
            ("base", "ab"),
            ("schema", 0),
            ("count", 0),
            ("count", "6"),
            ("extra", 1),
        ],
    )
    def test_update_fields(self, field: str, value: object) -> None:
        with pytest.raises(MalformedMessageError, match=field):
            wire.decode_update(rebuild(UPDATE, lambda header: header.update({field: value})), SCHEMA)

    def test_missing_field(self) -> None:
        with pytest.raises(MalformedMessageError, match="header has fields"):
            wire.decode_update(rebuild(UPDATE, lambda header: header.pop("cases")), SCHEMA)

    @pytest.mark.parametrize(
        "weights",
        [
            {},
            [],
            {"north": 1},
            {"north": True},
            {"north": "1.0"},
            {"north": 0.5},
            {"north": 1.5, "south": -0.5},
            {"north": 1.0, "south": 0.0},
            {"../north": 1.0},
            {f"s{index}": 1 / 600 for index in range(600)},
        ],
    )
    def test_weights(self, weights: object) -> None:
        with pytest.raises(MalformedMessageError, match="weights"):
            wire.decode_mixture(rebuild(MIXTURE, lambda header: header.update(weights=weights)), SCHEMA)

    @pytest.mark.parametrize("flag", [0, 1, None, "false"])
    def test_newcomer(self, flag: object) -> None:
        with pytest.raises(MalformedMessageError, match="newcomer"):
            wire.decode_mixture(rebuild(MIXTURE, lambda header: header.update(newcomer=flag)), SCHEMA)

    @pytest.mark.parametrize("cases", [[1], [1, 2, 3], [0, 1], [1, 1.5], {"a": 1}, 3])
    def test_probe_cases(self, cases: object) -> None:
        with pytest.raises(MalformedMessageError, match="cases"):
            wire.decode_probe_reply(rebuild(PROBE_REPLY, lambda header: header.update(cases=cases)), REQUEST)

    @pytest.mark.parametrize(("field", "value"), [("seed", -1), ("seed", 2**63), ("size", 0), ("size", 7), ("size", 2**21)])
    def test_projection(self, field: str, value: int) -> None:
        with pytest.raises(MalformedMessageError, match=field):
            wire.decode_probe_request(rebuild(PROBE_REQUEST, lambda header: header.update({field: value})), SCHEMA)

    def test_a_message_does_not_repeat_at_length_what_was_sent(self) -> None:
        with pytest.raises(MalformedMessageError) as refused:
            wire.decode_update(rebuild(UPDATE, lambda header: header.update(site="x" * 60_000)), SCHEMA)
        assert len(str(refused.value)) < 400


class TestMeaning:
    def test_another_base(self) -> None:
        data = wire.encode_update(wire.UpdateMessage("a", 1, 1, toy_state(1, OTHER_BASE)))
        with pytest.raises(BaseMismatchError, match="base cdcdcdcdcdcdcdcd, this side's base is abababab") as refused:
            wire.decode_update(data, SCHEMA)
        assert refused.value.reason == "base"

    def test_another_layout_of_the_same_size(self) -> None:
        data = wire.encode_update(wire.UpdateMessage("a", 1, 1, toy_state(1, OTHER_RANK)))
        with pytest.raises(SchemaMismatchError, match="same settings at all sites"):
            wire.decode_update(data, SCHEMA)

    @pytest.mark.parametrize("count", [5, 7])
    def test_another_number_of_values(self, count: int) -> None:
        with pytest.raises(SchemaMismatchError, match="expected 6"):
            wire.decode_update(rebuild(UPDATE, payload=bytes(2 * count)), SCHEMA)
        with pytest.raises(SchemaMismatchError, match="expected 6"):
            wire.decode_update(rebuild(UPDATE, lambda header: header.update(count=count), payload=bytes(2 * count)), SCHEMA)
        with pytest.raises(SchemaMismatchError, match="expected 6"):
            wire.decode_update(rebuild(UPDATE, payload=bytes(11)), SCHEMA)

    @pytest.mark.parametrize("bad", ["007c", "00fc", "017e", "ff7f"])
    def test_not_finite(self, bad: str) -> None:
        with pytest.raises(NotFiniteError, match="1 of 6 values"):
            wire.decode_update(rebuild(UPDATE, payload=bytes(10) + bytes.fromhex(bad)), SCHEMA)
        with pytest.raises(NotFiniteError, match="1 of 16 values"):
            wire.decode_probe_reply(rebuild(PROBE_REPLY, payload=bytes(30) + bytes.fromhex(bad)), REQUEST)

    def test_another_sender_or_round(self) -> None:
        with pytest.raises(UnexpectedMessageError, match="site is 'north', expected 'south'"):
            wire.decode_update(UPDATE, SCHEMA, site="south")
        with pytest.raises(UnexpectedMessageError, match="round is 4, expected 5"):
            wire.decode_mixture(MIXTURE, SCHEMA, round=5)

    @pytest.mark.parametrize(("field", "value"), [("round", 5), ("seed", 98)])
    def test_reply_to_another_request(self, field: str, value: int) -> None:
        with pytest.raises(UnexpectedMessageError, match=field):
            wire.decode_probe_reply(rebuild(PROBE_REPLY, lambda header: header.update({field: value})), REQUEST)

    def test_reply_of_another_size(self) -> None:
        reply = wire.ProbeReply("north", 4, 99, (5, 6), np.zeros(4, np.float32), np.zeros(4, np.float32))
        with pytest.raises(SchemaMismatchError, match="8 values"):
            wire.decode_probe_reply(wire.encode_probe_reply(reply), REQUEST)


class TestEncoding:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_not_finite(self, value: float) -> None:
        with pytest.raises(NotFiniteError, match="nothing was sent"):
            wire.encode_update(wire.UpdateMessage("a", 1, 1, toy_state([0, 0, 0, 0, 0, value])))

    def test_largest_half(self) -> None:
        state = toy_state(65504)
        data = wire.encode_update(wire.UpdateMessage("a", 1, 1, state))
        np.testing.assert_array_equal(wire.decode_update(data, SCHEMA).state.to_vector(), state.to_vector())

    @pytest.mark.parametrize("value", [65520, -1e30])
    def test_overflow(self, value: float) -> None:
        with pytest.raises(HalfOverflowError, match="have diverged"):
            wire.encode_update(wire.UpdateMessage("a", 1, 1, toy_state(value)))

    @pytest.mark.parametrize("message", [("a b", 1, 1), ("a", -1, 1), ("a", 1, -1), ("a", 1, wire.MAX_CASES + 1)])
    def test_fields_out_of_range(self, message: tuple[str, int, int]) -> None:
        with pytest.raises(MalformedMessageError, match="expected"):
            wire.encode_update(wire.UpdateMessage(*message, toy_state(1)))

    def test_halves_that_do_not_fit(self) -> None:
        with pytest.raises(MalformedMessageError, match="Halves have shapes"):
            wire.encode_probe_reply(wire.ProbeReply("a", 1, 1, (1, 1), np.zeros(4, np.float32), np.zeros(8, np.float32)))

    def test_weights_that_are_not_numbers(self) -> None:
        with pytest.raises(MalformedMessageError, match="weights"):
            wire.encode_mixture(wire.Mixture("a", 1, toy_state(1), {"a": math.nan}))


def test_every_refusal_has_a_reason_of_its_own() -> None:
    reasons = [error.reason for error in WireError.__subclasses__()]
    assert len(set(reasons)) == len(reasons)
    assert "refused" not in reasons
