"""Can the picture be had back? The same attack on what a site sends in different settings, beside what the attacker's prior alone gives."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.inversion.control import Perceptron, read_off
from benchmarks.inversion.likeness import likeness
from benchmarks.inversion.pictures import Prior, with_pixels
from benchmarks.inversion.solver import Solution, search, solve
from benchmarks.inversion.views import View
from fed_backend.privacy import HALF_NORM
from sam_adapters.tuning_slices import TrainingSlice

Vector = NDArray[np.float64]
PROBE_SIGMA, UPDATE_SIGMA = 2 * HALF_NORM, 2.0
"""Noise in every value under a privacy rule of clip 1 and noise multiplier 1."""
NEAR = 0.2
"""Start of the setting `near`: this share of the way from the truth to the prior's mean."""


@dataclass(frozen=True)
class Setting:
    """One attack.

    Attributes:
        name: in the results.
        view: how the attacker computes what a picture would have sent.
        seen: what the site sent.
        noise: standard deviation of the noise that the attacker knows to be in it.
        near: the attacker is given a start near the truth.
        searched: 0, or the number of unknowns of a search over the first components of the prior.
        simple: the attacked picture is what those few components show of the true one: nothing in it is beyond the attacker's reach.
    """

    name: str
    view: View
    seen: Vector
    noise: float = 0.0
    near: bool = False
    searched: int = 0
    simple: bool = False


def baselines(one: TrainingSlice, prior: Prior, own: NDArray[np.floating]) -> dict[str, dict[str, float]]:
    """How like the truth pictures are that need no attack, or that bound it.

    Args:
        own: the attacker's own patients, (n, S * S).
    """
    true, shape = one.pixels[0], one.target.shape
    others = [likeness(row.reshape(shape), true) for row in own]
    return {
        "mean of the attacker's own patients": likeness(prior.mean.reshape(shape), true),
        "another patient, on average": {key: round(float(np.mean([other[key] for other in others])), 3) for key in ("psnr", "ssim")},
        "another patient, the likest": max(others, key=lambda other: other["psnr"]),
        "blurred by 2 pixels": likeness(gaussian_filter(true, 2), true),
        "best that the attack can show": likeness(prior.picture(prior.coefficients(true)).reshape(shape), true),
    }


def attack(
    setting: Setting,
    gradient: Callable[[Vector], NDArray[np.floating]],
    starts: tuple[Vector, NDArray[np.floating]],
    truth: Vector,
    calls: int,
) -> Solution:
    """Look for the coefficients of a picture (k,): from the start whose gradient fits best, or by search.

    Args:
        gradient: coefficients (k,) to the raw gradient.
        starts: coefficients (m, k) and their raw gradients (m, n).
        truth: coefficients of the truth (k,), for `near` only.
    """
    unknowns = starts[0].shape[1]

    def seen_of(z: Vector) -> Vector:
        return np.asarray(setting.view.of(gradient(np.concatenate([z, np.zeros(unknowns - len(z))])))[0])

    if setting.searched:
        found = search(seen_of, setting.seen, setting.searched, calls=calls, seed=0)
        return dataclasses.replace(found, z=np.concatenate([found.z, np.zeros(unknowns - setting.searched)]))
    fits = np.linalg.norm(setting.view.of(starts[1]) - setting.seen, axis=1)
    start = (1 - NEAR) * truth if setting.near else starts[0][int(fits.argmin())]
    return solve(seen_of, setting.seen, start, calls=calls, noise=setting.noise)


def judged(
    found: Vector, prior: Prior, candidates: list[TrainingSlice], number: int, misfits: tuple[float, float], calls: int
) -> dict[str, Any]:
    """A row of results: likeness to the truth, and at which place of all candidates the true one comes by correlation."""
    picture, shape = prior.picture(found), candidates[number].target.shape
    rows = np.stack([candidate.pixels[0].ravel() for candidate in candidates]) - prior.mean
    moved = picture - prior.mean
    order = np.argsort(-(rows @ moved) / np.maximum(np.linalg.norm(rows, axis=1), 1e-12), kind="stable")
    return {
        "picture": number,
        **likeness(picture.reshape(shape), candidates[number].pixels[0]),
        "misfit_at_start": round(misfits[0], 3),
        "misfit": round(misfits[1], 3),
        "place_of_truth": int(np.flatnonzero(order == number)[0]) + 1,
        "calls": calls,
    }


def controls(candidates: list[TrainingSlice], number: int, prior: Prior, views: dict[str, View], calls: int) -> Iterator[dict[str, Any]]:
    """The same attack, prior and projection on a network whose gradient gives the picture away."""
    one = candidates[number]
    network = Perceptron(one.target)
    raw = network.gradient(one.pixels[0].ravel())
    exact = likeness(read_off(raw).reshape(one.target.shape), one.pixels[0])
    yield {"setting": "perceptron, read off", "picture": number, **exact}
    noise = PROBE_SIGMA * np.random.default_rng(0).normal(size=views["projected"].of(raw).shape[1])
    for name, view, sigma in (("in full", "all", 0.0), ("projected", "projected", 0.0), ("projected, rule", "projected", PROBE_SIGMA)):
        seen = views[view].of(raw)[0] + (noise if sigma else 0)
        setting = Setting(f"perceptron, {name}", views[view], seen, sigma)
        starts = np.zeros((1, len(prior.basis)))
        solution = attack(
            setting, lambda z: network.gradient(prior.picture(z)), (starts, network.gradient(prior.mean)[None]), starts[0], calls
        )
        misfits = (solution.misfits[0], solution.misfit)
        yield {"setting": setting.name, **judged(solution.z, prior, candidates, number, misfits, solution.calls)}


def pictured(
    one: TrainingSlice, prior: Prior, gradient: Callable[[TrainingSlice], NDArray[np.float32]]
) -> Callable[[Vector], NDArray[np.float32]]:
    """Coefficients to the raw gradient of a slice that has that picture and the true target."""
    return lambda z: gradient(with_pixels(one, prior.picture(z)))
