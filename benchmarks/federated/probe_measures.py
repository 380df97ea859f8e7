"""Whether gradients of one hospital's cases are more alike than those of several: halves drawn again and again. numpy alone."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_backend.projection import project
from fed_backend.sgca import collaboration_weights, probe_statistics

SIZES = (1, 2, 4, 8, 16)
DRAWS = 200
HALVINGS = 50
PROJECTION_SEED = 1
Gradients = Mapping[str, tuple[NDArray[np.float32], list[str]]]
"""Site -> gradients (n, d) of its cases, and their patients."""


def halves(cases: NDArray[np.int64], patients: Sequence[str], size: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Two halves of `size` of the cases, drawn evenly, each case of another patient.

    Args:
        cases: numbers of the cases to draw from, of at least 2 `size` patients.
        patients: of each case, by its number.
    """
    first_of: dict[str, int] = {}
    for case in rng.permutation(cases):
        first_of.setdefault(patients[case], int(case))
    chosen = list(first_of.values())
    return chosen[:size], chosen[size : 2 * size]


def lines_of(found: Gradients, seed: int) -> list[dict[str, Any]]:
    """The measures, for every way of scaling, whole and projected, and every number of cases."""
    sites = list(found)
    owner = np.repeat(np.arange(len(sites)), [len(found[site][1]) for site in sites])
    patients = [f"{site} {patient}" for site in sites for patient in found[site][1]]
    raw = np.concatenate([found[site][0] for site in sites]).astype(np.float64)
    norms = np.linalg.norm(raw, axis=1)
    lines = []
    for scaling, rows in (("unit", raw / norms[:, None]), ("raw", raw)):
        for projected in (False, True):
            used = project(rows, seed=PROJECTION_SEED).astype(np.float64) if projected else rows
            for size in SIZES:
                measured = measures(used @ used.T, owner, patients, size, np.random.default_rng([seed, size]))
                if measured is not None:
                    lines.append({"scaling": scaling, "projected": projected, "cases_a_half": size, **measured})
    spread = {site: float(np.max(norms[owner == number]) / np.min(norms[owner == number])) for number, site in enumerate(sites)}
    return [{**line, "norms_differ_by": spread} for line in lines]


def measures(
    gram: NDArray[np.float64], owner: NDArray[np.int64], patients: Sequence[str], size: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Cosines of half means and how often a half is recognised, from inner products of cases alone.

    Args:
        gram: (n, n) inner products of the cases' gradients.
        owner: (n,) number of each case's site.
        patients: of each case, so that the two halves share none.
        size: cases of a half.

    Returns:
        same, other: mean cosines; recognised: share of halves whose nearest of all sites' other halves is their own site's; sites: how many
        took part. None if fewer than two sites have patients enough.
    """
    ready = [site for site in range(owner.max() + 1) if len({patients[case] for case in np.flatnonzero(owner == site)}) >= 2 * size]
    if len(ready) < 2:
        return None
    same, other, right = [], [], []
    for _ in range(DRAWS):
        weights = np.zeros((2, len(ready), len(owner)))
        for row, site in enumerate(ready):
            for half, cases in enumerate(halves(np.flatnonzero(owner == site), patients, size, rng)):
                weights[half, row, cases] = 1 / size
        first, second = weights
        lengths = [np.sqrt(np.einsum("in,nm,im->i", half, gram, half)) for half in (first, second)]
        cosines = first @ gram @ second.T / np.outer(*lengths)
        same += list(np.diag(cosines))
        other += list(cosines[~np.eye(len(ready), dtype=bool)])
        right += list(cosines.argmax(axis=1) == np.arange(len(ready)))
    return {"same": float(np.mean(same)), "other": float(np.mean(other)), "recognised": float(np.mean(right)), "sites": len(ready)}


def distances_of(found: Gradients, seed: int) -> dict[str, Any]:
    """SGCA's distances and noise from halves of unit-norm gradients, the mean over the draws, and the weights at κ = 1."""
    sites = list(found)
    rows = [found[site][0] / np.linalg.norm(found[site][0], axis=1, keepdims=True) for site in sites]
    patients = [found[site][1] for site in sites]
    size = min(len(set(one)) for one in patients) // 2
    rng = np.random.default_rng([seed, size])
    distance, noise = np.zeros((len(sites), len(sites))), np.zeros(len(sites))
    for _ in range(HALVINGS):
        drawn = [halves(np.arange(len(one)), names, size, rng) for one, names in zip(rows, patients, strict=True)]
        first, second = (np.stack([one[cases[half]].mean(axis=0) for one, cases in zip(rows, drawn, strict=True)]) for half in (0, 1))
        one_distance, one_noise = probe_statistics(first, second, keep_negative=True)
        distance += one_distance / HALVINGS
        noise += one_noise / HALVINGS
    weights = collaboration_weights(np.maximum(distance, 0.0), noise)
    rounded = {"distance": distance, "noise": noise, "weights": weights}
    return {"sites": sites, "cases_a_half": size} | {name: np.round(value, 4).tolist() for name, value in rounded.items()}
