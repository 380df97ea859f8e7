"""Numbers that every site must draw alike: the frozen down-projections A of the shared adapters, and the starts of the local ones.

numpy only. Drawn from the raw bit stream of Philox, which numpy guarantees never to change, because its *distributions* may change
between versions. Two machines can then differ by the rounding of float32 at most (in log, cos and the QR factorisation).
"""

import hashlib

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

from sam_adapters.errors import SettingError


def frozen_projection(base_sha256: str, module: str, rank: int, in_features: int) -> NDArray[np.float32]:
    """A (rank, in_features) with orthonormal rows, the same at every site for one base and module.

    Uniform over all such matrices: the Q of a QR factorisation of normal numbers, with R's diagonal made positive.

    Raises:
        SettingError: rank exceeds in_features, so that rows cannot be orthonormal.
    """
    if not 1 <= rank <= in_features:
        raise SettingError(f"LoRA rank {rank} for {module} with {in_features} inputs, expected 1 to {in_features}: lower the rank.")
    normals = _normals(_key("frozen", base_sha256, module), in_features * rank).reshape(in_features, rank)
    q, r = np.linalg.qr(normals)
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray((q * signs).T).astype(np.float32)


def starting_projection(seed: int, module: str, rank: int, in_features: int) -> NDArray[np.float32]:
    """A (rank, in_features) from which a local adapter starts: uniform in +-1/sqrt(in_features), as nn.Linear and PEFT start."""
    uniform = _uniform(_key("start", str(seed), module), rank * in_features).reshape(rank, in_features)
    centred: NDArray[np.float32] = ((2 * uniform - 1) / in_features**0.5).astype(np.float32)
    return centred


def _key(*parts: str) -> NDArray[np.uint64]:
    """A Philox key (two 64-bit words) from texts."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return np.frombuffer(digest[:16], "<u8").astype(np.uint64)


def _uniform(key: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """`count` numbers in (0, 1): the upper 53 bits of the raw stream, centred in their interval so that 0 never occurs."""
    raw = np.asarray(Philox(key=key).random_raw(count), np.uint64)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def _normals(key: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """`count` standard normal numbers by Box and Muller's transform."""
    pairs = -(-count // 2)
    uniform = _uniform(key, 2 * pairs).reshape(pairs, 2)
    radius, angle = np.sqrt(-2 * np.log(uniform[:, 0])), 2 * np.pi * uniform[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:count]
