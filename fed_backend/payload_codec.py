"""How the values of a message become few bytes, and bytes values again. Pure numpy and zlib; `docs/wire.md` is the specification.

    fp16   half-precision values: the low bytes of all, then the high bytes of all
    int8   runs of values with one step each (float32, the run's largest magnitude divided by `levels`), then one signed byte a value

Both go through DEFLATE with Huffman codes. The noise-like low bytes of fp16 do not shrink, exponents do. With int8 the encoder chooses the
most levels (at most 127) with which the result fits into a number of bytes: an error is never larger than half a step.

The arithmetic of decoding is single float32 multiplications and additions, which IEEE 754 rounds in one way only: every machine decodes
the same bits. A decoder never inflates more than the expected number of values takes.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import HalfOverflowError, MalformedMessageError, NotFiniteError

Encoding = Literal["fp16", "int8"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
MOST_LEVELS = 127
HALF_LARGEST = float(np.finfo(np.float16).max)  # 65504

_QUARTERS = 4  # levels are chosen in quarters: with few of them, whole ones would leave a part of the limit unused
_STEP = np.dtype("<f4")
_SPARE_BYTES = 80  # DEFLATE's code tables and block headers, in estimates


@dataclass(frozen=True)
class CodedValues:
    """A payload and how it was made; `levels`, a multiple of a quarter, is 0 for fp16."""

    encoding: Encoding
    payload: bytes
    levels: float = 0


def encode_values(values: NDArray[np.float32], runs: Sequence[int], *, finest: Encoding, limit: int) -> CodedValues:
    """The payload of `values`: fp16 if that is allowed and fits, else int8 with the most levels that fit.

    Args:
        values: (n,) finite float32.
        runs: lengths of the consecutive runs that share a step; their sum is n.
        finest: `fp16`, or `int8` to never use more.
        limit: the payload's largest length in bytes.

    Raises:
        NotFiniteError, HalfOverflowError: values that cannot be sent.
        MalformedMessageError: not even one level fits.
    """
    check_sendable(values)
    if finest == "fp16" and _half_bytes_expected(values) <= limit:
        payload = deflate(_half_planes(values))
        if len(payload) <= limit:
            return CodedValues("fp16", payload)
    quarters = _quarter_levels_expected_to_fit(values, runs, limit)
    while quarters >= _QUARTERS:
        payload = deflate(_quantised(values, runs, quarters / _QUARTERS))
        if len(payload) <= limit:
            return CodedValues("int8", payload, quarters / _QUARTERS)
        quarters = min(quarters - 1, int(quarters * 0.97))
    raise MalformedMessageError(f"{len(values)} values do not fit into {limit} bytes in any encoding: raise the limit, or lower the rank.")


def decode_values(payload: bytes, runs: Sequence[int], encoding: Encoding) -> NDArray[np.float32]:
    """Inverse of `encode_values`: (n,) float32, exact for what fp16 can hold and within half a step for int8.

    Raises:
        MalformedMessageError: not DEFLATE data of exactly the length that `runs` and `encoding` ask for, or a code or step out of range.
        NotFiniteError: a value is NaN or infinite.
    """
    count = sum(runs)
    if encoding == "fp16":
        planes = np.frombuffer(inflate(payload, 2 * count), np.uint8).reshape(2, count)
        values = np.ascontiguousarray(planes.T).view("<f2").ravel().astype(np.float32)
    else:
        values = _dequantised(inflate(payload, _STEP.itemsize * len(runs) + count), runs)
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"The message has {bad} of {count} values that are not finite: roll its sender back to a good version.")
    return values


def check_sendable(values: NDArray[np.float32]) -> None:
    """Raises NotFiniteError or HalfOverflowError for values that no healthy adapter has."""
    if not np.isfinite(values).all():
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise NotFiniteError(f"{bad} of {len(values)} values are not finite: nothing was sent.")
    largest = float(np.abs(values).max(initial=0))
    if largest >= HALF_LARGEST + 16:  # from here on rounded to infinity
        raise HalfOverflowError(
            f"A value is {largest:.6g}, 16-bit floats end at {HALF_LARGEST:.0f}: such adapters have diverged, roll back to a good version."
        )


def deflate(data: bytes) -> bytes:
    """Huffman codes without a search for repeats, which there are none of but zeros; zlib's own run-length coding finds those."""
    return min((_deflated(data, strategy) for strategy in (zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)), key=len)


def _deflated(data: bytes, strategy: int) -> bytes:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return compressor.compress(data) + compressor.flush()


def inflate(data: bytes, length: int) -> bytes:
    """The `length` bytes that `data` is the raw DEFLATE stream of; never makes more than one byte beyond them.

    Raises:
        MalformedMessageError: anything else.
    """
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = decompressor.decompress(data, length + 1)
    except zlib.error as error:
        raise MalformedMessageError(f"The payload is not DEFLATE data ({error}): it was damaged, send it again.") from error
    if len(found) != length or not decompressor.eof or decompressor.unused_data:
        raise MalformedMessageError(f"The payload is not exactly {length} bytes when inflated: truncated, or more than was expected.")
    return found


def _half_planes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values.astype("<f2").view(np.uint8).reshape(-1, 2).T).tobytes()


def _half_bytes_expected(values: NDArray[np.float32]) -> float:
    planes = np.frombuffer(_half_planes(values), np.uint8).reshape(2, -1)
    return sum(_entropy_bytes(plane) for plane in planes) * 0.97


def _steps(values: NDArray[np.float32], runs: Sequence[int], levels: float) -> NDArray[np.float32]:
    """One step a run, (runs,) float32; 0 for a run of zeros."""
    starts = np.concatenate([[0], np.cumsum(runs)[:-1]])
    largest = np.maximum.reduceat(np.abs(values), starts)
    return (largest / np.float32(levels)).astype(np.float32)


def _codes(values: NDArray[np.float32], steps: NDArray[np.float32], runs: Sequence[int]) -> NDArray[np.int8]:
    each = np.repeat(steps, runs)
    ratio = np.divide(values, each, out=np.zeros_like(values), where=each > 0)
    return np.clip(np.rint(ratio), -MOST_LEVELS, MOST_LEVELS).astype(np.int8)


def _quantised(values: NDArray[np.float32], runs: Sequence[int], levels: float) -> bytes:
    steps = _steps(values, runs, levels)
    return steps.astype(_STEP).tobytes() + _codes(values, steps, runs).tobytes()


def _dequantised(data: bytes, runs: Sequence[int]) -> NDArray[np.float32]:
    head = _STEP.itemsize * len(runs)
    steps = np.frombuffer(data, _STEP, len(runs)).astype(np.float32)
    codes = np.frombuffer(data, np.int8, offset=head)
    if not (np.isfinite(steps).all() and (steps >= 0).all()) or (codes == -128).any():
        raise MalformedMessageError("The payload has a negative or infinite step, or a code of -128: this is not what an encoder writes.")
    with np.errstate(over="ignore"):  # found by the caller's check
        return np.repeat(steps, runs) * codes.astype(np.float32)


def _quarter_levels_expected_to_fit(values: NDArray[np.float32], runs: Sequence[int], limit: int) -> int:
    """The most quarters of a level whose estimated size is within the limit, at least one level; bisection, as size grows with levels."""
    room = limit - _SPARE_BYTES - _STEP.itemsize * len(runs)
    low, high = _QUARTERS, _QUARTERS * MOST_LEVELS
    while low < high:
        middle = (low + high + 1) // 2
        codes = _codes(values, _steps(values, runs, middle / _QUARTERS), runs)
        if _entropy_bytes(codes.view(np.uint8)) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _entropy_bytes(symbols: NDArray[np.uint8]) -> float:
    """Bytes that an ideal code without memory needs for `symbols`."""
    counts = np.bincount(symbols, minlength=256).astype(np.float64)
    present = counts[counts > 0]
    return float(-(present * np.log2(present / len(symbols))).sum() / 8)
