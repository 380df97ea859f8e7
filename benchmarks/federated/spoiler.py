"""A member that spoils what it shares, beside really tuned ones: what that costs the others in Dice. No torch.

The attacks that the server's checks take (see `docs/robustness.md`), and a sign flip, which they refuse once the others agree.
"""

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sam_adapters.adapter_files import read_schema, read_shared_state, write_mixture
from sam_adapters.errors import SettingError
from sam_adapters.schema import AdapterState

FloatArray = NDArray[np.float64]
HONEST, DRIFT, BACKDOOR, REPLAY, FLIP = "", "slow drift", "backdoor-like", "old adapters", "sign flip"
KINDS = (DRIFT, BACKDOOR, REPLAY, FLIP)
DRIFT_STEP = 0.2
"""Of the norm, more in every round."""
PART = 0.4
"""Norm of the backdoor's part beside the rest, in one value of a hundred."""


def spoil(kind: str, tuned: Path, first: Path | None, out: Path, *, seed: int, number: int) -> Path:
    """Write the adapters that the member shares instead of `tuned`.

    Args:
        kind: one of `KINDS`.
        tuned: what honest tuning gave.
        first: what it shared in the first round; None in that round.
        out: folder to write.
        seed: of the directions.
        number: of the round, from 1.

    Raises:
        SettingError: no such kind.
    """
    if kind not in KINDS:
        raise SettingError(f"There is no attack {kind!r}: expected one of {', '.join(KINDS)}.")
    schema = read_schema(tuned)
    honest = read_shared_state(tuned, schema).to_vector().astype(np.float64)
    old = None if first is None else read_shared_state(first, schema).to_vector().astype(np.float64)
    values = _values(kind, honest, old, np.random.default_rng(zlib.crc32(f"{kind} {seed}".encode())), number)
    write_mixture(tuned, AdapterState.from_vector(schema, values.astype(np.float32)), out)
    return out


def _values(kind: str, honest: FloatArray, old: FloatArray | None, rng: np.random.Generator, number: int) -> FloatArray:
    size = float(np.linalg.norm(honest))
    if kind == FLIP:
        return -honest
    if kind == REPLAY:
        return honest if old is None else old
    direction = rng.normal(size=honest.shape)
    if kind == BACKDOOR:
        direction = direction * (rng.random(honest.shape) < 0.01)
    share = PART if kind == BACKDOOR else DRIFT_STEP * number
    return np.asarray(honest + share * size * direction / np.linalg.norm(direction), np.float64)
