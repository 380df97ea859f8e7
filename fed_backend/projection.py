"""A seeded random projection that is the same at every site and on every numpy version. Pure numpy.

A sparse Johnson-Lindenstrauss transform (Kane & Nelson, "Sparser Johnson-Lindenstrauss transforms", J. ACM 2014, block construction):
the output is cut into s blocks, and every input value is added, with a random sign and divided by √s, to one random place of each block.
Then E<Px, Py> = <x, y> and Var<Px, Py> <= (‖x‖² ‖y‖² + <x, y>²) / size: for orthogonal vectors the cosine has a standard error of 1/√size.

Places and signs are cut out of the raw 64-bit stream of the Philox bit generator, which is defined by its publication; numpy promises
the same for the stream of a bit generator, but not for the distributions drawn from it, so none is used.

Tables are cached; the cache is safe under threads, and its arrays are read-only.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import AggregationError

PROJECTION_SIZE = 4096
NONZEROS = 4  # a square, so that dividing by √s is exact
LARGEST_SEED = 2**63 - 1
_LARGEST_INPUT = 2**24


def project(vector: NDArray[np.floating], *, seed: int, size: int = PROJECTION_SIZE) -> NDArray[np.float32]:
    """Project vectors of n values to `size` values; linear, and inner products are kept without bias.

    Args:
        vector: (n,) or (m, n), any n; real numbers.
        seed: 0 to 2^63 - 1; all vectors that are to be compared need the same one.
        size: length of the result, a multiple of 4 from 4 to 2^20.

    Returns:
        (size,) or (m, size) float32; sums are made in float64.

    Raises:
        AggregationError: a value that is not finite, or a shape, seed or size outside the above.
    """
    array = np.asarray(vector)
    if array.ndim not in (1, 2) or not 0 < array.shape[-1] <= _LARGEST_INPUT or array.dtype.kind != "f":
        raise AggregationError(f"Vector to project is {array.dtype}{list(array.shape)}, expected real numbers (n,) or (m, n), n >= 1.")
    if not np.isfinite(array).all():
        raise AggregationError(f"Vector to project has {int(np.count_nonzero(~np.isfinite(array)))} values that are not finite.")
    places, signs = projection_table(array.shape[-1], seed, size)
    rows = np.atleast_2d(array).astype(np.float64)
    projected = np.empty((len(rows), size), np.float32)
    for row, values in enumerate(rows):
        spread = (values * signs).ravel()
        projected[row] = np.bincount(places.ravel(), weights=spread, minlength=size) / np.sqrt(NONZEROS)
    return projected.reshape(*array.shape[:-1], size)


@functools.lru_cache(maxsize=4)
def projection_table(length: int, seed: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Where each input value goes: places (s, length) int64 in 0..size-1 and signs (s, length) int8 of ±1, both read-only.

    Raw number b * length + c of the stream belongs to block b and input value c: its upper 32 bits, times size/s, divided by 2^32,
    are the place within the block; its lowest bit is the sign (1: minus).

    Raises:
        AggregationError: seed or size outside what `project` takes.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise AggregationError(f"Projection seed is {seed}, expected 0 to {LARGEST_SEED}.")
    if size % NONZEROS or not NONZEROS <= size <= 2**20:
        raise AggregationError(f"Projection size is {size}, expected a multiple of {NONZEROS} from {NONZEROS} to {2**20}.")
    raw = np.asarray(np.random.Philox(counter=0, key=seed).random_raw(NONZEROS * length), np.uint64).reshape(NONZEROS, length)
    block = size // NONZEROS
    within = ((raw >> np.uint64(32)) * np.uint64(block)) >> np.uint64(32)
    places = within.astype(np.int64) + block * np.arange(NONZEROS)[:, None]
    signs = 1 - 2 * (raw & np.uint64(1)).astype(np.int8)
    places.flags.writeable = False
    signs.flags.writeable = False
    return places, signs
