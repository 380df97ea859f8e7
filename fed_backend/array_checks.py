"""What the arithmetic of SGCA takes for numbers."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fed_backend.errors import AggregationError

FloatArray = NDArray[np.float64]


def real_array(values: ArrayLike, name: str, dimensions: int) -> FloatArray:
    """A copy in float64.

    Raises:
        AggregationError: other than so many dimensions, or no real numbers.
    """
    array: NDArray[Any] = np.asarray(values)
    if array.ndim != dimensions or array.dtype.kind not in "fiub":
        raise AggregationError(f"{name} is {array.dtype}{list(array.shape)}, expected {dimensions} dimension(s) of real numbers.")
    return array.astype(np.float64)


def noise_array(noise: ArrayLike) -> FloatArray:
    """Variances (n,), from 0 to infinity.

    Raises:
        AggregationError: NaN or a negative value.
    """
    v = real_array(noise, "noise", 1)
    if np.isnan(v).any() or (v < 0).any():
        raise AggregationError(f"noise is {v.tolist()}, expected numbers from 0 to infinity.")
    return v
