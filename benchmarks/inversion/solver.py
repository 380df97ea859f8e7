"""The attack: the coefficients of a picture whose gradient would look like what was seen, in two ways. Pure numpy.

`solve` is Levenberg and Marquardt's method on the sum of squares of a maximum a posteriori estimate,

    |f(z) - seen|² / σ² + |z|²,        z standard normal beforehand (`pictures.Prior`),

with Broyden's updates of the Jacobian ("A class of methods for solving nonlinear simultaneous equations", 1965) between Jacobians by
differences. It needs first derivatives of the loss only, where descent on pixels needs second ones and thousands of steps. σ is not known
to the attacker: it follows the misfit down, so that the prior rules at first and what was seen in the end.

`search` is the cross-entropy method (Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", 1999): pictures
are drawn, and the best of them say where to draw next. It needs no slope, and so gets past jumps and hollows where the first gets stuck;
but only for a few unknowns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

LARGEST_STEP, SMALLEST_STEP = 0.3, 0.02
"""Of the differences, in standard deviations of the prior: a fifth of the misfit. Gradients of a network with rectifiers jump from place to
place; differences over some distance see the slope behind the jumps."""


@dataclass(frozen=True)
class Solution:
    """Where the attack ended.

    Attributes:
        z: coefficients (k,).
        misfit: |f(z) - seen| / |seen|.
        calls: calls of f.
        misfits: of every accepted step.
    """

    z: Vector
    misfit: float
    calls: int
    misfits: tuple[float, ...]


def jacobian(f: Callable[[Vector], Vector], z: Vector, at: Vector, width: float) -> Vector:
    """Derivative (p, k) of f at z by differences of `width`; `at` is f(z)."""
    return np.stack([(f(z + width * direction) - at) / width for direction in np.eye(len(z))], axis=1)


def solve(
    f: Callable[[Vector], Vector],
    seen: Vector,
    start: Vector,
    *,
    calls: int,
    noise: float = 0.0,
    told: Callable[[Vector, float], None] = lambda z, misfit: None,
) -> Solution:
    """Look for z with f(z) = seen.

    Args:
        f: (k,) to (p,).
        start: z to begin with (k,).
        calls: bound on the calls of f; no Jacobian is begun that would exceed it.
        noise: standard deviation of the noise in each value of `seen`, if the attacker knows it.
        told: called with z and the misfit after every accepted step.
    """
    size = float(np.linalg.norm(seen))
    z, value = np.array(start, np.float64), f(start)
    history = [float(np.linalg.norm(value - seen)) / size]
    spent, damping, failures = 1, 1e-2, 0
    while failures < 2 and spent + len(z) + 1 <= calls:
        width = float(np.clip(0.2 * history[-1], SMALLEST_STEP, LARGEST_STEP)) * 0.5**failures
        slopes = jacobian(f, z, value, width)
        spent += len(z)
        failures += 1
        for _try in range(6):
            if spent >= calls:
                break
            variance = max(float(np.mean((value - seen) ** 2)), noise**2, 1e-18)
            normal = slopes.T @ slopes / variance + np.eye(len(z))
            downhill = slopes.T @ (seen - value) / variance - z
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), downhill)
            tried = f(z + step)
            spent += 1
            before, after = (float(np.sum((v - seen) ** 2) / variance + np.sum(c**2)) for v, c in ((value, z), (tried, z + step)))
            slopes += np.outer(tried - value - slopes @ step, step) / max(float(step @ step), 1e-30)
            if after >= before:
                damping = min(damping * 6, 1e6)
                continue
            failures = failures if after > before * 0.98 else 0
            z, value, damping = z + step, tried, max(damping / 4, 1e-6)
            history.append(float(np.linalg.norm(value - seen)) / size)
            told(z, history[-1])
            if history[-1] < 1e-9:
                return Solution(z, history[-1], spent, tuple(history))
    return Solution(z, history[-1], spent, tuple(history))


def search(
    f: Callable[[Vector], Vector], seen: Vector, unknowns: int, *, calls: int, seed: int, draws: int = 40, kept: int = 8
) -> Solution:
    """Look for z (unknowns,) with f(z) along `seen`, beginning with draws from the prior.

    Args:
        calls: bound on the calls of f, 2 or more; no round of `draws` (fewer under a low bound) goes beyond it.
        kept: how many of a round's draws decide where the next are made.
    """
    rng = np.random.default_rng(seed)
    draws = min(draws, calls - 1)
    centre, spread = np.zeros(unknowns), np.ones(unknowns)
    size = float(np.linalg.norm(seen))
    best, history = centre, [float(np.linalg.norm(f(centre) - seen)) / size]
    spent = 1
    while spent + draws <= calls:
        drawn = centre + spread * rng.normal(size=(draws, unknowns))
        misfits = np.array([np.linalg.norm(f(z) - seen) for z in drawn]) / size
        spent += draws
        order = np.argsort(misfits)
        if misfits[order[0]] < history[-1]:
            best = drawn[order[0]]
            history.append(float(misfits[order[0]]))
        centre, spread = drawn[order[:kept]].mean(axis=0), 1.1 * np.maximum(drawn[order[:kept]].std(axis=0), 0.05)
    return Solution(best, history[-1], spent, tuple(history))
