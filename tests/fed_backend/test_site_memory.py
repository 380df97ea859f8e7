"""What a site remembers of its messages: differences only to what is acknowledged, and an error that is fed back, not lost."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fed_backend import site_memory, wire
from fed_backend.errors import UnknownReferenceError
from fed_backend.payload_codec import ENCODINGS, Encoding
from fed_backend.site_memory import SiteMemory
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec
from tests.fed_backend.toys import BASE, OTHER_RANK, SCHEMA, toy_state

LARGE = AdapterSchema(BASE, rank=8, shared_depth=0.5, tensors=(TensorSpec("a", (1000, 8)), TensorSpec("b", (500, 8))))


def random_state(seed: int, size: float = 0.01) -> AdapterState:
    return AdapterState.from_vector(LARGE, np.random.default_rng(seed).normal(0, size, LARGE.size).astype(np.float32))


def update(round: int, state: AdapterState) -> wire.UpdateMessage:
    return wire.UpdateMessage("a", round, 5, state)


class Server:
    """Decodes updates as the server does: with the last accepted state as the one reference."""

    def __init__(self) -> None:
        self.known: list[AdapterState] = []

    def take(self, payload: bytes) -> str:
        state = wire.decode_update(payload, LARGE, references=self.known).state
        self.known = [state]
        return wire.state_digest(state)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_difference_is_sent_once_the_server_has_said_what_it_has(encoding: Encoding) -> None:
    server, memory = Server(), site_memory.empty("f", LARGE)
    state = random_state(0)
    payload, memory = site_memory.encode(memory, update(1, state), encoding)
    memory = site_memory.acknowledged(memory, 1, server.take(payload))
    near = AdapterState.from_vector(LARGE, state.to_vector() + random_state(1, 1e-4).to_vector())
    payload, memory = site_memory.encode(memory, update(2, near), encoding)
    with pytest.raises(UnknownReferenceError):
        wire.decode_update(payload, LARGE)
    server.take(payload)
    np.testing.assert_array_equal(server.known[0].to_vector(), memory.sent.to_vector())
    if encoding == "fp16":
        np.testing.assert_allclose(server.known[0].to_vector(), near.to_vector(), atol=3e-7)


@pytest.mark.parametrize("told", ["", "another", "late"])
def test_a_full_state_is_sent_when_it_is_not_known_what_the_server_has(told: str) -> None:
    memory = site_memory.empty("f", LARGE)
    payload, memory = site_memory.encode(memory, update(1, random_state(0)), "int8")
    digest = wire.state_digest(memory.sent)
    memory = site_memory.acknowledged(memory, 2 if told == "late" else 1, {"": "", "another": "ab" * 16, "late": digest}[told])
    payload, memory = site_memory.encode(memory, update(2, random_state(0)), "int8")
    wire.decode_update(payload, LARGE)


def test_a_round_that_is_asked_for_again_needs_no_reference_and_feeds_nothing_back_twice() -> None:
    server, memory = Server(), site_memory.empty("f", LARGE)
    payload, memory = site_memory.encode(memory, update(1, random_state(0)), "int8")
    memory = site_memory.acknowledged(memory, 1, server.take(payload))
    _, first = site_memory.encode(memory, update(2, random_state(1)), "int8")
    payload, again = site_memory.encode(first, update(2, random_state(1)), "int8")
    wire.decode_update(payload, LARGE)
    np.testing.assert_array_equal(again.error_before, first.error_before)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.lists(st.booleans(), min_size=12, max_size=12))
def test_the_sum_of_what_was_decoded_follows_the_sum_of_what_was_meant(seed: int, rounds: int, arrives: list[bool]) -> None:
    """Whatever is lost on the way: over the rounds that were acknowledged, what is missing is the last error alone."""
    rng = np.random.default_rng(seed)
    server, memory = Server(), site_memory.empty("f", LARGE)
    meant, decoded = np.zeros(LARGE.size), np.zeros(LARGE.size)
    state = np.zeros(LARGE.size, np.float32)
    left = np.zeros(LARGE.size)
    for number in range(1, rounds + 1):
        state = state + rng.normal(0, 0.01, LARGE.size).astype(np.float32)
        payload, memory = site_memory.encode(memory, update(number, AdapterState.from_vector(LARGE, state)), "int8")
        if not arrives[number - 1]:
            continue
        memory = site_memory.acknowledged(memory, number, server.take(payload))
        meant, decoded, left = meant + state, decoded + server.known[0].to_vector(), memory.error_after
    np.testing.assert_allclose(meant - decoded, left, atol=1e-5)
    assert np.linalg.norm(left) <= 0.2 * max(float(np.linalg.norm(state)), 0.01)


def test_without_feedback_the_same_sum_drifts_away() -> None:
    """That the test above can fail: one value far below the step is lost in every round, unless its error is kept."""
    values = np.zeros(LARGE.size, np.float32)
    values[::7] = 1.0
    values[1::7] = 0.003  # less than half of 1/127
    state = AdapterState.from_vector(LARGE, values)
    memory, kept, dropped = site_memory.empty("f", LARGE), 0.0, 0.0
    for number in range(1, 11):
        plain = wire.encode_update(update(number, state), wire.Coding("int8"))
        dropped += float(wire.decode_update(plain, LARGE).state.to_vector()[1])
        _, memory = site_memory.encode(dataclasses.replace(memory, sent=AdapterState.zeros(LARGE)), update(number, state), "int8")
        kept += float(memory.sent.to_vector()[1])
        memory = site_memory.acknowledged(memory, number, wire.state_digest(memory.sent))
    assert dropped == 0
    assert kept == pytest.approx(0.03, abs=1 / 127)


class TestFile:
    def memory(self) -> SiteMemory:
        _, memory = site_memory.encode(site_memory.empty("f", SCHEMA), update(3, toy_state([1, 2, 3, 4, 5, 7])), "int8")
        memory = site_memory.acknowledged(memory, 3, wire.state_digest(memory.sent))
        return site_memory.with_common(memory, 3, toy_state(2))

    def test_round_trip(self, tmp_path: Path) -> None:
        path, memory = tmp_path / "sent", self.memory()
        site_memory.save(memory, path)
        found = site_memory.load(path, "f", SCHEMA)
        assert (found.sent_round, found.is_acknowledged, found.common_round) == (3, True, 3)
        np.testing.assert_array_equal(found.sent.to_vector(), memory.sent.to_vector())
        np.testing.assert_array_equal(found.error_after, memory.error_after)
        assert [state.to_vector()[0] for state in site_memory.references(found, 3)] == [memory.sent.to_vector()[0], 2]
        assert site_memory.references(found, 4) == []

    def test_another_federation_or_layout_begins_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "sent"
        site_memory.save(self.memory(), path)
        for found in (site_memory.load(path, "g", SCHEMA), site_memory.load(path, "f", OTHER_RANK)):
            assert (found.sent_round, found.is_acknowledged) == (0, False)

    def test_any_damage_begins_anew(self, tmp_path: Path) -> None:
        path = tmp_path / "sent"
        site_memory.save(self.memory(), path)
        good = path.read_bytes()
        for position in range(0, len(good), 5):
            damaged = bytearray(good)
            damaged[position] ^= 0x04
            path.write_bytes(bytes(damaged))
            assert not site_memory.load(path, "f", SCHEMA).is_acknowledged, position
        for text in (b"", good[:-1], good[: len(good) // 2]):
            path.write_bytes(text)
            assert not site_memory.load(path, "f", SCHEMA).is_acknowledged
        path.unlink()
        assert not site_memory.load(path, "f", SCHEMA).is_acknowledged
