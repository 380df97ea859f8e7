"""Published aggregation rules, from their formulas. Pure numpy; comparisons only, the product uses none of them.

Vectors are rows: (n, d), one a site. Prior p (n,): shares of labelled cases, sum 1. Weights (n, n): row i is what site i receives.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def fedavg_weights(cases: Sequence[float]) -> Float:
    """p_j = n_j / Σ n (McMahan et al., AISTATS 2017): every row is p."""
    p = shares(cases)
    return np.tile(p, (len(p), 1))


def shares(cases: Sequence[float]) -> Float:
    """Case counts as shares; equal ones if there are no cases at all."""
    n = np.asarray(cases, np.float64)
    return n / n.sum() if n.sum() > 0 else np.full(len(n), 1 / len(n))


def cosines(vectors: Float) -> Float:
    """Cosine of every pair (n, n); 0 with a vector of zeros, 1 on the diagonal."""
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(norms > 0, norms, 1.0)[:, None]
    found = np.clip(unit @ unit.T, -1, 1)
    np.fill_diagonal(found, 1.0)
    return np.asarray(found)


def heurfedamp_weights(vectors: Float, *, self_weight: float, sharpness: float = 10.0) -> Float:
    """ξ_ij = (1 - ξ_ii) exp(σ cos(w_i, w_j)) / Σ_{h≠i} exp(σ cos(w_i, w_h)), ξ_ii given (Huang et al., HeurFedAMP, AAAI 2021)."""
    score = sharpness * cosines(vectors)
    np.fill_diagonal(score, -np.inf)
    raised = np.exp(score - score.max(axis=1, keepdims=True))
    weights = (1 - self_weight) * raised / raised.sum(axis=1, keepdims=True)
    np.fill_diagonal(weights, self_weight)
    return np.asarray(weights)


def project_to_simplex(point: Float) -> Float:
    """The nearest point w >= 0 with Σ w = 1: [point - θ]₊, θ by sorting (Duchi et al., ICML 2008)."""
    ordered = np.sort(point)[::-1]
    excess = np.cumsum(ordered) - 1
    count = int(np.flatnonzero(ordered - excess / np.arange(1, len(point) + 1) > 0)[-1]) + 1
    return np.maximum(point - excess[count - 1] / count, 0.0)


def pfedgraph_weights(vectors: Float, cases: Sequence[float], *, strength: float = 0.8) -> Float:
    """Row i minimises α ‖w - p‖² + Σ_j w_j d_ij over the simplex, d_ij = -cos (Ye et al., pFedGraph, ICML 2023).

    The quadratic programme is the projection of p - d_i / (2 α) onto the simplex. α = 0.8 is the authors' default.
    """
    p, distance = shares(cases), -cosines(vectors)
    return np.stack([project_to_simplex(p - row / (2 * strength)) for row in distance])


def chi_square_weights(vectors: Float, cases: Sequence[float], *, strength: float = 1.0) -> Float:
    """Row i minimises Σ_j w_j (1 - cos_ij) + λ χ²(w ‖ p) over the simplex, χ² = Σ_j (w_j - p_j)² / p_j.

    Closed form w_j = p_j [1 + (ν - c_j) / (2 λ)]₊ with ν such that Σ w = 1. Sites without cases get nothing.
    """
    p, cost = shares(cases), 1 - cosines(vectors)
    return np.stack([_chi_square_row(row, p, strength) for row in cost])


def _chi_square_row(cost: Float, p: Float, strength: float) -> Float:
    order = np.argsort(cost, kind="stable")
    for count in range(1, len(p) + 1):  # the cheapest `count` sites carry weight
        kept = order[:count]
        mass = p[kept].sum()
        if mass == 0:
            continue
        nu = (2 * strength * (1 - mass) + (p[kept] * cost[kept]).sum()) / mass
        nothing_left = count == len(p) or 1 + (nu - cost[order[count]]) / (2 * strength) <= 0
        if nothing_left:
            weights = np.maximum(p * (1 + (nu - cost) / (2 * strength)), 0.0)
            return np.asarray(weights / weights.sum())
    raise ValueError("No site has cases.")


def product_average(ups: Sequence[Float], downs: Sequence[Float], weights: Sequence[float]) -> tuple[Float, Float]:
    """Σ_j p_j B_j A_j, cut back to rank r by SVD and split evenly: B = U √S, A = √S Vᵀ (after FLAP-SAM, which averages products).

    Args:
        ups: B_j (out, r) of each site.
        downs: A_j (r, in) of each site.
        weights: p_j.

    Returns:
        B (out, r) and A (r, in), with r of the first site.
    """
    # The sum has rank n r at most: QR of the stacked factors makes the SVD small.
    stacked_up = np.concatenate([weight * up for weight, up in zip(weights, ups, strict=True)], axis=1)
    stacked_down = np.concatenate(list(downs), axis=0)
    q_up, r_up = np.linalg.qr(stacked_up)
    q_down, r_down = np.linalg.qr(stacked_down.T)
    u, s, vt = np.linalg.svd(r_up @ r_down.T)
    rank = min(ups[0].shape[1], len(s))
    root = np.sqrt(s[:rank])
    up, down = (q_up @ u[:, :rank]) * root, root[:, None] * (vt[:rank] @ q_down.T)
    missing = ups[0].shape[1] - rank
    return np.pad(up, ((0, 0), (0, missing))), np.pad(down, ((0, missing), (0, 0)))
