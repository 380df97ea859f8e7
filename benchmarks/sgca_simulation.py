"""The SGCA rule alone, on sites whose truth is known: who gains from whom, without a network or an image.

    python benchmarks/sgca_simulation.py [--seeds 100] [--caution 1] [--dimension 1024] [--apart] [--json FILE]

Eight sites of 5 to 160 cases belong to two groups of four, or (`--apart`) each is a group of its own. Site i's true adapter θ_i (d values)
is its group's; two groups lie Δ apart, ‖θ_1 - θ_2‖² = Δ². Every case is an independent draw θ_i + noise of total variance σ² = 4, the loss
is quadratic, so the trained adapter B_i is the mean of the site's cases and a case's gradient at the common state θ̄ is θ̄ minus the case.
Probe halves are the means over half of the cases, as in a real probe (there, and in the row "unit norm", every case's gradient is first
scaled to norm 1).
Reported is the squared error ‖mixture_i - θ_i‖², averaged over sites and seeds. The dimension d over which the noise spreads sets how well
distances can be measured: with few directions a distance between two small sites is mostly chance.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fed_backend import sgca

CASES = (5, 8, 13, 22, 36, 59, 97, 160)
GROUPS = (0, 1, 0, 1, 1, 0, 1, 0)
APART = tuple(range(len(CASES)))
DIMENSION = 1024
CASE_VARIANCE = 4.0
SETTINGS = {"none": 0.0, "weak": 0.1, "moderate": 2.0, "strong": 7.5}  # Δ²
STRATEGIES = ("local", "FedAvg", "SGCA", "SGCA, unit norm", "tighter bound", "own group known")

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Federation:
    """One draw: true and trained adapters (n, d), and the mean gradients of two disjoint halves (n, d), plain and of unit-norm cases."""

    groups: tuple[int, ...]
    truth: FloatArray
    trained: FloatArray
    halves: tuple[FloatArray, FloatArray]
    unit_halves: tuple[FloatArray, FloatArray]


def true_adapters(rng: np.random.Generator, squared_gap: float, dimension: int, groups: Sequence[int]) -> FloatArray:
    """θ (n, d): two groups on opposite sides of the base; more than two in directions that random choice makes nearly orthogonal."""
    if set(groups) == {0, 1}:
        direction = rng.normal(size=dimension)
        direction *= np.sqrt(squared_gap) / 2 / np.linalg.norm(direction)
        return np.stack([direction if group else -direction for group in groups])
    directions = rng.normal(size=(max(groups) + 1, dimension))
    return np.sqrt(squared_gap / 2) * (directions / np.linalg.norm(directions, axis=1, keepdims=True))[list(groups)]


def draw(rng: np.random.Generator, squared_gap: float, dimension: int = DIMENSION, groups: tuple[int, ...] = GROUPS) -> Federation:
    """Draw the sites' cases and do what sites do: train, and compute gradients at the case-weighted mean."""
    truth = true_adapters(rng, squared_gap, dimension, groups)
    spread = np.sqrt(CASE_VARIANCE / dimension)
    data = [centre + rng.normal(0, spread, (count, dimension)) for centre, count in zip(truth, CASES, strict=True)]
    trained = np.stack([site.mean(axis=0) for site in data])
    common = np.average(trained, axis=0, weights=CASES)
    gradients = [common - site for site in data]
    unit = [site / np.linalg.norm(site, axis=1, keepdims=True) for site in gradients]
    return Federation(groups, truth, trained, _halves(gradients), _halves(unit))


def _halves(gradients: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    return np.stack([site[::2].mean(axis=0) for site in gradients]), np.stack([site[1::2].mean(axis=0) for site in gradients])


def probed(halves: tuple[FloatArray, FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Distances (n, n) and noise (n,) after one probe, exactly as the server has them."""
    distance, noise = sgca.probe_statistics(*halves)
    return distance, sgca.floor_and_age_noise(noise, CASES, np.zeros(len(CASES)))


def sgca_weights(halves: tuple[FloatArray, FloatArray], caution: float = 1.0) -> FloatArray:
    """The weights of one round after one probe, exactly as the server computes them."""
    return sgca.collaboration_weights(*probed(halves), caution=caution)


def inverse_error_weights(halves: tuple[FloatArray, FloatArray], caution: float = 1.0) -> FloatArray:
    """A rule that the product does not have, because images did not bear it out (ADR 23): site and others by the inverse of their errors.

    The others' best mixture u is expected to be off by F = Σ_j u_j D_ij + κ Σ_j u_j² v_j, the site alone by κ v_i: w_i = F / (F + κ v_i).
    It minimises (1 - w_i) Σ_j w_j D_ij + κ Σ_j w_j² v_j, a tighter bound than SGCA's: the bias of a mixture of which the site itself is the
    larger part grows with the square of the others' part.
    """
    distance, noise = probed(halves)
    weights = np.eye(len(noise))
    for site, row in enumerate(distance):
        of_others = np.where(np.arange(len(noise)) == site, np.inf, noise)  # who is worth nothing to himself takes the others' mixture
        mixture = sgca.collaboration_weights(distance, of_others, caution=caution)[site]
        error = mixture @ row + caution * mixture**2 @ noise
        share = caution * noise[site] / (error + caution * noise[site])
        weights[site] = (1 - share) * weights[site] + share * mixture
    return weights


def squared_errors(federation: Federation, caution: float = 1.0) -> dict[str, FloatArray]:
    """‖mixture_i - θ_i‖² (n,) by strategy."""
    n, share = len(CASES), np.asarray(CASES, np.float64)
    same_group = np.equal.outer(federation.groups, federation.groups) | (federation.truth == federation.truth[0]).all()
    weights = {
        "local": np.eye(n),
        "FedAvg": np.tile(share / share.sum(), (n, 1)),
        "SGCA": sgca_weights(federation.halves, caution),
        "SGCA, unit norm": sgca_weights(federation.unit_halves, caution),
        "tighter bound": inverse_error_weights(federation.halves, caution),
        "own group known": same_group * share / (same_group * share).sum(axis=1, keepdims=True),
    }
    return {name: ((W @ federation.trained - federation.truth) ** 2).sum(axis=1) for name, W in weights.items()}


def simulate(
    squared_gap: float, seeds: int, *, caution: float = 1.0, dimension: int = DIMENSION, groups: tuple[int, ...] = GROUPS
) -> dict[str, FloatArray]:
    """Squared errors (seeds, n) by strategy. Draw number s is the same whatever the caution and the gap."""
    draws = [squared_errors(draw(np.random.default_rng(seed), squared_gap, dimension, groups), caution) for seed in range(seeds)]
    return {name: np.stack([errors[name] for errors in draws]) for name in STRATEGIES}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The SGCA rule alone, on sites whose truth is known.")
    parser.add_argument("--seeds", type=int, default=100, help="draws per setting (default 100)")
    parser.add_argument("--caution", type=float, default=1.0, help="κ (default 1)")
    parser.add_argument("--dimension", type=int, default=DIMENSION, help=f"values of an adapter (default {DIMENSION})")
    parser.add_argument("--apart", action="store_true", help="every site is unlike every other, instead of two groups")
    parser.add_argument("--json", type=Path, help="also write the figures, per site, to this file")
    options = parser.parse_args()
    groups = APART if options.apart else GROUPS
    print(f"mean squared error; {options.seeds} seeds, κ = {options.caution:g}, d = {options.dimension}")
    print("in brackets: the same against training alone, for the site that fares worst")
    print(f"{'between sites' if options.apart else 'between groups':<16}" + "".join(f"{name:>20}" for name in STRATEGIES))
    table = {}
    for setting, gap in SETTINGS.items():
        draws = simulate(gap, options.seeds, caution=options.caution, dimension=options.dimension, groups=groups)
        table[setting] = errors = {name: values.mean(axis=0) for name, values in draws.items()}
        cells = [f"{errors[name].mean():.4f} ({(errors[name] / errors['local']).max():.2f})" for name in STRATEGIES]
        print(f"{setting:<16}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    if options.json:
        figures = {setting: {name: values.tolist() for name, values in errors.items()} for setting, errors in table.items()}
        setup = {"cases": CASES, "groups": groups, "seeds": options.seeds, "caution": options.caution, "dimension": options.dimension}
        options.json.write_text(json.dumps({**setup, "squared_errors": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
