"""Payloads: what comes through exactly, how far off the rest is, how many bytes there are, and what a decoder refuses."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from fed_backend import payload_codec as codec
from fed_backend.errors import HalfOverflowError, MalformedMessageError, NotFiniteError, WireError

RUNS = (4, 1, 7)
PLENTY = 10_000
vectors = npst.arrays(np.float32, sum(RUNS), elements=st.floats(-60_000, 60_000, width=32))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(data) + compressor.flush()


class TestHalfPrecision:
    @given(npst.arrays(np.float32, sum(RUNS), elements=st.floats(-65504, 65504, width=16)))
    def test_what_16_bits_hold_comes_through_exactly(self, values: NDArray[np.float32]) -> None:
        coded = codec.encode_values(values, RUNS, finest="fp16", limit=PLENTY)
        assert coded.encoding == "fp16"
        np.testing.assert_array_equal(codec.decode_values(coded.payload, RUNS, "fp16"), values)

    def test_by_hand(self) -> None:
        """1 is 3c00, -2 is c000: low bytes first, then high bytes."""
        payload = raw_deflate(bytes([0x00, 0x00, 0x3C, 0xC0]))
        assert codec.decode_values(payload, [2], "fp16").tolist() == [1, -2]

    def test_normal_values_take_14_bits(self) -> None:
        values = np.random.default_rng(0).normal(0, 0.01, 52_992).astype(np.float32)
        coded = codec.encode_values(values, [52_992], finest="fp16", limit=110_000)
        assert coded.encoding == "fp16"
        assert 85_000 < len(coded.payload) < 94_000


class TestEightBits:
    @given(vectors)
    def test_no_value_is_off_by_more_than_half_a_step(self, values: NDArray[np.float32]) -> None:
        coded = codec.encode_values(values, RUNS, finest="int8", limit=PLENTY)
        decoded = codec.decode_values(coded.payload, RUNS, "int8")
        assert (coded.encoding, coded.levels) == ("int8", 127)
        start = 0
        for length in RUNS:
            part = slice(start, start + length)
            half_step = np.abs(values[part]).max() / 127 / 2
            assert np.abs(decoded[part] - values[part]).max() <= half_step * 1.001 + 1e-44
            start += length

    def test_by_hand(self) -> None:
        """Two runs: the first with a step of 0.5, the second of zeros."""
        payload = raw_deflate(struct.pack("<ff", 0.5, 0.0) + np.array([127, -1, 0, 0], np.int8).tobytes())
        assert codec.decode_values(payload, [2, 2], "int8").tolist() == [63.5, -0.5, 0, 0]

    def test_runs_have_steps_of_their_own(self) -> None:
        values = np.array([1000, -1000, 0.001, -0.001], np.float32)
        coded = codec.encode_values(values, [2, 2], finest="int8", limit=PLENTY)
        np.testing.assert_allclose(codec.decode_values(coded.payload, [2, 2], "int8"), values, rtol=1e-6)

    @pytest.mark.parametrize("bits", [1.8, 2.4, 3.4, 4.55, 5.9, 8.2])
    @pytest.mark.parametrize("shape", ["normal", "heavy tails", "one outlier", "flat", "sparse"])
    def test_the_limit_is_kept_and_used(self, bits: float, shape: str) -> None:
        rng = np.random.default_rng(1)
        count, runs = 52_992, [2_496] * 20 + [3_072]
        values = {
            "normal": rng.normal(0, 0.01, count),
            "heavy tails": rng.standard_t(3, count) * 0.01,
            "one outlier": np.append(rng.normal(0, 0.01, count - 1), 100.0),
            "flat": rng.uniform(-0.01, 0.01, count),
            "sparse": rng.normal(0, 0.01, count) * (rng.random(count) < 0.05),
        }[shape].astype(np.float32)
        limit = int(bits * count / 8)
        coded = codec.encode_values(values, runs, finest="int8", limit=limit)
        assert len(coded.payload) <= limit
        assert coded.levels == 127 or len(coded.payload) > 0.8 * limit
        decoded = codec.decode_values(coded.payload, runs, "int8")
        assert np.linalg.norm(decoded - values) < np.linalg.norm(values)

    def test_what_does_not_fit_as_fp16_is_sent_with_8_bits(self) -> None:
        values = np.random.default_rng(2).normal(0, 0.01, 10_000).astype(np.float32)
        assert codec.encode_values(values, [10_000], finest="fp16", limit=12_000).encoding == "int8"

    def test_a_hopeless_limit_is_told(self) -> None:
        with pytest.raises(MalformedMessageError, match="do not fit into 10 bytes"):
            codec.encode_values(np.ones(5000, np.float32), [5000], finest="fp16", limit=10)

    def test_zeros_cost_almost_nothing(self) -> None:
        zeros = np.zeros(52_992, np.float32)
        for finest in codec.ENCODINGS:
            coded = codec.encode_values(zeros, [52_992], finest=finest, limit=1_000)
            np.testing.assert_array_equal(codec.decode_values(coded.payload, [52_992], coded.encoding), zeros)


@pytest.mark.parametrize("finest", codec.ENCODINGS)
def test_what_cannot_be_sent(finest: codec.Encoding) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(NotFiniteError, match="1 of 3"):
            codec.encode_values(np.array([0, bad, 1], np.float32), [3], finest=finest, limit=PLENTY)
    with pytest.raises(HalfOverflowError, match="roll back"):
        codec.encode_values(np.array([0, 65520, 1], np.float32), [3], finest=finest, limit=PLENTY)
    largest = np.array([65504, -65519, 1], np.float32)
    coded = codec.encode_values(largest, [3], finest=finest, limit=PLENTY)
    np.testing.assert_allclose(codec.decode_values(coded.payload, [3], coded.encoding), largest, atol=260)


class TestHostilePayloads:
    @pytest.mark.parametrize("encoding", codec.ENCODINGS)
    def test_a_bomb_is_not_inflated(self, encoding: codec.Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
        """A gigabyte of zeros in a megabyte: at most one byte more than expected is ever made."""
        made: list[int] = []
        real = zlib.decompressobj

        class Watched:
            def __init__(self, bits: int) -> None:
                self.inner = real(bits)

            def __getattr__(self, name: str) -> object:
                return getattr(self.inner, name)

            def decompress(self, data: bytes, most: int) -> bytes:
                found = self.inner.decompress(data, most)
                made.append(len(found))
                return found

        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join(compressor.compress(bytes(2**20)) for _ in range(64)) + compressor.flush()
        monkeypatch.setattr(zlib, "decompressobj", Watched)
        with pytest.raises(MalformedMessageError, match="more than was expected"):
            codec.decode_values(bomb, RUNS, encoding)
        assert made
        assert max(made) <= 4 * sum(RUNS) + 1

    @settings(max_examples=300)
    @given(st.binary(max_size=80), st.sampled_from(codec.ENCODINGS))
    def test_any_bytes(self, payload: bytes, encoding: codec.Encoding) -> None:
        try:
            values = codec.decode_values(payload, RUNS, encoding)
        except WireError:
            return
        assert values.shape == (sum(RUNS),)
        assert np.isfinite(values).all()

    @settings(max_examples=300)
    @given(st.binary(min_size=24, max_size=24), st.sampled_from(codec.ENCODINGS))
    def test_any_bytes_well_packed(self, data: bytes, encoding: codec.Encoding) -> None:
        try:
            values = codec.decode_values(raw_deflate(data), RUNS, encoding)
        except WireError:
            return
        assert values.shape == (sum(RUNS),)
        assert np.isfinite(values).all()

    @pytest.mark.parametrize("step", [np.nan, np.inf, -1.0])
    def test_steps(self, step: float) -> None:
        with pytest.raises(MalformedMessageError, match="step"):
            codec.decode_values(raw_deflate(struct.pack("<f", step) + bytes(2)), [2], "int8")

    def test_a_step_that_overflows(self) -> None:
        with pytest.raises(NotFiniteError, match="1 of 2"):
            codec.decode_values(raw_deflate(struct.pack("<f", 3e38) + bytes([127, 1])), [2], "int8")

    def test_a_code_that_no_encoder_writes(self) -> None:
        with pytest.raises(MalformedMessageError, match="-128"):
            codec.decode_values(raw_deflate(struct.pack("<f", 1) + bytes([0x80, 1])), [2], "int8")

    def test_trailing_and_missing_bytes(self) -> None:
        good = codec.encode_values(np.arange(12, dtype=np.float32), RUNS, finest="fp16", limit=PLENTY).payload
        for bad in (good + b"\0", good[:-1], b""):
            with pytest.raises(MalformedMessageError):
                codec.decode_values(bad, RUNS, "fp16")
