"""How like two pictures are: PSNR and SSIM, for values 0..1. Pure numpy and scipy."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_SSIM_SIGMA = 1.5
_SSIM_REACH = 3.5  # 11 x 11 pixels
_C1, _C2 = 0.01**2, 0.03**2


def psnr(found: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / mean squared error); infinite for equal pictures."""
    error = float(np.mean((np.asarray(found, np.float64) - true) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(found: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """Mean structural similarity of two pictures (h, w): Wang et al., IEEE Trans. Image Processing 2004, Gaussian window."""

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gaussian_filter(values, _SSIM_SIGMA, truncate=_SSIM_REACH))

    a, b = np.asarray(found, np.float64), np.asarray(true, np.float64)
    mean_a, mean_b = mean(a), mean(b)
    spread_a, spread_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    values = (2 * mean_a * mean_b + _C1) * (2 * both + _C2) / ((mean_a**2 + mean_b**2 + _C1) * (spread_a + spread_b + _C2))
    return float(values.mean())


def likeness(found: NDArray[np.floating], true: NDArray[np.floating]) -> dict[str, float]:
    """Both, of pictures (h, w); values of `found` outside 0..1 are cut off first."""
    cut = np.clip(found, 0, 1)
    return {"psnr": round(psnr(cut, true), 2), "ssim": round(ssim(cut, true), 3)}
