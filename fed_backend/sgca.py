"""Similarity-guided collaborative aggregation (SGCA): who learns how much from whom. Pure numpy, no state, no threads.

This is the project's own instance of what FedSCA (arXiv 2503.15390) describes; its formulas were not available. `docs/sgca.md` derives
everything here. Letters as there: n sites, D (n, n) squared distances between the sites' mean gradients, v (n,) the variance of each
site's own estimate, κ the caution, w_i the weights of site i's mixture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fed_backend.array_checks import FloatArray, noise_array, real_array
from fed_backend.errors import AggregationError
from sam_adapters.schema import AdapterSchema, AdapterState

CLIP_FACTOR = 1.5
AGE_FACTOR = 0.9
_TINY = 1e-290  # noise below this counts as none: sums of its reciprocal would leave the range of numbers
_LARGEST_CAUTION = 1e100  # beyond, the weights are the limit to the last digit
_LARGEST_AGE = 5000.0  # 0.9^-5000 is 1e228: older changes nothing more
_ROW_SUM_TOLERANCE = 1e-6
_SLAB_VALUES = 2_000_000  # values of all sites that are held in float64 at a time: 16 MB
_CLIP_TOLERANCE = 1e-6  # a norm at the limit is not clipped for its last digit


def probe_statistics(half_a: ArrayLike, half_b: ArrayLike, *, keep_negative: bool = False) -> tuple[FloatArray, FloatArray]:
    """Distances between sites and each site's own noise, from two independent halves of every site's gradient.

    With g_i = (a_i + b_i) / 2: D_ij = <a_i, b_i> + <a_j, b_j> - 2 <g_i, g_j> estimates ‖∇f_i - ∇f_j‖² without bias, because no product of
    two vectors with the same noise enters it, and v_i = ‖a_i - b_i‖² / 4 estimates E‖g_i - ∇f_i‖² without bias.

    Args:
        half_a: (n, p) mean gradient of each site's first half of patients.
        half_b: (n, p) the same over its other, disjoint half.
        keep_negative: an unbiased estimate of a small distance is negative about half of the time. By default such a value becomes 0;
            keep it where estimates will be averaged first (`distance_table.update_distance`): cutting first would bias the average upwards.

    Returns:
        D (n, n), symmetric with a zero diagonal, and v (n,), both float64.

    Raises:
        AggregationError: shapes that differ or are not (n, p) with n, p >= 1, or a value that is not finite.
    """
    a, b = real_array(half_a, "half_a", 2), real_array(half_b, "half_b", 2)
    if a.shape != b.shape or 0 in a.shape:
        raise AggregationError(f"Gradient halves have shapes {list(a.shape)} and {list(b.shape)}, expected twice the same (n, p).")
    for name, half in (("half_a", a), ("half_b", b)):
        bad = ~np.isfinite(half).all(axis=1)
        if bad.any():
            raise AggregationError(f"{name} is not finite in rows {np.flatnonzero(bad).tolist()}: leave those sites out of the probe.")
    g = (a + b) / 2
    squared_norm = np.einsum("ip,ip->i", a, b)
    product = g @ g.T
    distance = squared_norm[:, None] + squared_norm[None, :] - (product + product.T)
    if not keep_negative:
        distance = np.maximum(distance, 0.0)
    np.fill_diagonal(distance, 0.0)
    difference = a - b
    return distance, np.einsum("ip,ip->i", difference, difference) / 4


def collaboration_weights(distance: ArrayLike, noise: ArrayLike, *, caution: float = 1.0) -> FloatArray:
    """The weights of every site's mixture: row i minimises Σ_j w_j D_ij + κ Σ_j w_j² v_j over the simplex.

    Closed form w_ij = [ν_i - D_ij]₊ / (2 κ v_j), with ν_i found exactly by sorting row i. Limits that the formula leaves open are taken
    exactly: v_j = 0 caps ν_i at D_ij and takes what weight is left; κ = 0 leaves only the nearest; κ = ∞ is inverse-variance weighting.

    Args:
        distance: D (n, n). Values below 0 count as 0 and so does the diagonal; ∞ means "never compared" and gives weight 0. Need not be
            symmetric.
        noise: v (n,), >= 0. ∞ means "contributes nothing"; if every site in reach is so, they share equally.
        caution: κ >= 0, how much the variance of the mixture counts against its bias.

    Returns:
        W (n, n) float64, >= 0, rows sum to 1. Row i belongs to the receiving site.

    Raises:
        AggregationError: NaN, negative noise or caution, or shapes that do not fit.
    """
    D = real_array(distance, "distance", 2)
    v = noise_array(noise)
    n = len(v)
    if D.shape != (n, n) or n == 0:
        raise AggregationError(f"distance has shape {list(D.shape)} and noise [{n}], expected (n, n) and (n,) with n >= 1.")
    if np.isnan(D).any():
        raise AggregationError(f"distance is NaN at {np.argwhere(np.isnan(D))[:3].tolist()}: use infinity for sites never compared.")
    if math.isnan(caution) or caution < 0:
        raise AggregationError(f"caution is {caution}, expected a number from 0 on.")
    D = np.maximum(D, 0.0)
    np.fill_diagonal(D, 0.0)
    return np.stack([_row_weights(row, v, caution) for row in D])


def inverse_variance_weights(noise: ArrayLike) -> FloatArray:
    """Weights (n,) proportional to 1 / v_j that sum to 1: the limit of `collaboration_weights` for growing caution.

    Sites with v_j = 0, if any, share equally and leave nothing to the others; if all v_j are ∞, all share equally.

    Raises:
        AggregationError: NaN, negative or no values.
    """
    v = noise_array(noise)
    if len(v) == 0:
        raise AggregationError("No noise values, expected at least one site.")
    finite = np.isfinite(v)
    if not finite.any():
        return np.full(len(v), 1 / len(v))
    without_noise = v == 0
    if without_noise.any():
        return np.asarray(without_noise / without_noise.sum(), np.float64)
    inverse = v.min() / v  # 1 / ∞ is 0
    return np.asarray(inverse / inverse.sum(), np.float64)


def mix(states: Sequence[AdapterState], weights: ArrayLike) -> list[AdapterState]:
    """The mixtures Σ_j w_ij B_j, one per row of `weights`. Exact for the models too, because they are linear in B.

    Args:
        states: n states of one schema.
        weights: (m, n), >= 0, rows sum to 1.

    Returns:
        m states, float32 (sums in float64).

    Raises:
        AggregationError: no states, several schemas, a value that is not finite, or weights that are not m rows on the simplex.
    """
    schema = _common_schema(states)
    W = real_array(weights, "weights", 2)
    if W.shape[1] != len(states):
        raise AggregationError(f"weights have shape {list(W.shape)}, expected {len(states)} columns, one per state.")
    if not np.isfinite(W).all() or (W < 0).any() or (abs(W.sum(axis=1) - 1) > _ROW_SUM_TOLERANCE).any():
        raise AggregationError(f"weights are not on the simplex (rows sum to {W.sum(axis=1).tolist()}), expected >= 0 with sum 1.")
    if not len(W):
        return []
    used = np.flatnonzero(W.any(axis=0))  # an adapter that nobody gets is not even read
    sums = _weighted_sums([states[int(index)] for index in used], W[:, used] / W.sum(axis=1, keepdims=True))
    return [AdapterState.from_vector(schema, row) for row in sums]


def common_state(states: Sequence[AdapterState], precision: ArrayLike) -> AdapterState:
    """Σ_j p_j B_j / Σ_j p_j: the state at which sites are compared, and what a newcomer is offered.

    Args:
        states: n states of one schema.
        precision: (n,), >= 0, any scale: 1 / v_j, or case counts before the first probe. All zeros give the plain mean.

    Raises:
        AggregationError: as `mix`, or precision that is negative, infinite or NaN.
    """
    p = real_array(precision, "precision", 1)
    if p.shape != (len(states),) or not np.isfinite(p).all() or (p < 0).any():
        raise AggregationError(f"precision is {p.tolist()}, expected {len(states)} finite numbers from 0 on.")
    largest = p.max(initial=0.0)
    share = p / largest if largest > 0 else np.ones(len(states))
    return mix(states, (share / max(share.sum(), 1.0))[None, :])[0]


def floor_and_age_noise(noise: ArrayLike, cases: ArrayLike, ages: ArrayLike) -> FloatArray:
    """Noise as it enters the weights: floored by what a typical site of that size has, and grown with age.

    v_j <- max(v_j, median_k(v_k n_k) / n_j) / 0.9^age_j. The floor keeps a site from gaining weight by looking (or claiming to be) certain:
    with the typical noise per case it cannot be more certain than its number of cases allows.

    Args:
        noise: (n,) v from `probe_statistics`; ∞ for a site never probed (it stays ∞ and does not enter the median).
        cases: (n,) labelled training cases, >= 0; a site without cases gets ∞.
        ages: (n,) rounds since the site's adapter was received, >= 0.

    Raises:
        AggregationError: NaN or negative values, or shapes that differ.
    """
    v, n_cases, age = noise_array(noise), real_array(cases, "cases", 1), real_array(ages, "ages", 1)
    if not v.shape == n_cases.shape == age.shape:
        raise AggregationError(f"noise, cases and ages have shapes {list(v.shape)}, {list(n_cases.shape)}, {list(age.shape)}.")
    for name, values in (("cases", n_cases), ("ages", age)):
        if not np.isfinite(values).all() or (values < 0).any():
            raise AggregationError(f"{name} are {values.tolist()}, expected finite numbers from 0 on.")
    known = np.isfinite(v) & (n_cases > 0)
    per_case = float(np.median(v[known] * n_cases[known])) if known.any() else 0.0
    floored = np.full(len(v), np.inf)
    floored[known] = np.maximum(v[known], per_case / n_cases[known])
    with np.errstate(over="ignore"):
        return np.asarray(floored / AGE_FACTOR ** np.minimum(age, _LARGEST_AGE), np.float64)


class Clipped(NamedTuple):
    """What `clip_to_median` did. `scales` (n,): 1 where a state was left alone, else the factor < 1 that brought it down to `limit`."""

    states: list[AdapterState]
    scales: FloatArray
    norms: FloatArray
    limit: float


def clip_to_median(states: Sequence[AdapterState], factor: float = CLIP_FACTOR) -> Clipped:
    """Scale every state whose norm exceeds `factor` × the median norm down to that limit.

    B is the displacement from the base, so this bounds how far one site can drag the others. States that are exactly zero (sites that have
    not tuned yet) do not enter the median. Two sites have no majority: their limit is 1.5 × the mean of both norms, so
    only a norm more than 3 × the other is cut.

    Raises:
        AggregationError: no states, several schemas, a value that is not finite, or a factor that is not above 0.
    """
    if not factor > 0:
        raise AggregationError(f"Clipping factor is {factor}, expected a number above 0.")
    schema = _common_schema(states)
    norms = np.array([norm(state) for state in states])
    limit = factor * float(np.median(norms[norms > 0])) if norms.any() else 0.0
    scales = np.where(norms > limit * (1 + _CLIP_TOLERANCE), limit / np.where(norms > 0, norms, 1.0), 1.0)
    clipped = [
        state if scale == 1 else AdapterState.from_vector(schema, state.to_vector().astype(np.float64) * scale)
        for state, scale in zip(states, scales, strict=True)
    ]
    return Clipped(clipped, scales, norms, limit)


def check_state(state: AdapterState, schema: AdapterSchema) -> str | None:
    """Why `state` cannot take part in a federation with `schema`, as a sentence; None if it can."""
    if state.schema.base != schema.base:
        return f"It was trained on base {state.schema.base[:16]}, this federation's base is {schema.base[:16]}: set the site to that base."
    if state.schema != schema:
        return (
            f"Its adapters have layout {state.schema.id} ({state.schema.layout}), this "
            f"federation's is {schema.id} ({schema.layout}): use the same settings at all sites."
        )
    for spec in schema.tensors:
        bad = int(np.count_nonzero(~np.isfinite(state.tensors[spec.name])))
        if bad:
            return f"{bad} of {spec.size} values of {spec.name} are not finite: roll the site back to a good version."
    return None


def _row_weights(row: FloatArray, v: FloatArray, caution: float) -> FloatArray:
    """argmin over the simplex of Σ w_j D_j + κ Σ w_j² v_j for one receiving site; D (n,) >= 0 with at least one finite value."""
    weights = np.zeros(len(v))
    reach = np.isfinite(row)
    useful = reach & np.isfinite(v)
    if not useful.any():  # all noise infinite: the limit of equal, growing noise
        weights[reach] = 1 / reach.sum()
        return weights
    with np.errstate(over="ignore"):
        cost = 2 * min(caution, _LARGEST_CAUTION) * v[useful]
    if caution > _LARGEST_CAUTION or np.isinf(cost).all():
        weights[useful] = inverse_variance_weights(v[useful])
    else:
        weights[useful] = _water_filling(row[useful], cost)
    return weights


def _water_filling(D: FloatArray, cost: FloatArray) -> FloatArray:
    """w_j = [ν - D_j]₊ / cost_j with Σ_j w_j = 1, for finite D (n,) and cost (n,) >= 0, not all ∞.

    A site without cost is a tank without bottom: the level ν cannot rise above the nearest of them, which takes what is left.
    """
    # Site j alone would be filled at D_j + cost_j, so ν lies between the nearest D_j and the lowest such sum. Measured on that scale,
    # where ν is at most 1, numbers of any size do no harm: what overflows is dry.
    D = D - D.min()
    with np.errstate(over="ignore"):
        unit = max(float((D + cost).min()), _TINY)
        D, cost = D / unit, cost / unit
    free = cost < _TINY
    ceiling = float(D[free].min()) if free.any() else math.inf
    nearer = np.flatnonzero(~free & np.isfinite(cost) & (ceiling > D) & (D <= 1))
    with np.errstate(over="ignore"):
        up_to_ceiling = (ceiling - D[nearer]) / cost[nearer]
    weights = np.zeros(len(D))
    if up_to_ceiling.sum() >= 1:
        weights[nearer] = _fill(D[nearer], cost[nearer])
    else:
        bottomless = free & (ceiling == D)
        weights[nearer] = up_to_ceiling
        weights[bottomless] = (1 - up_to_ceiling.sum()) / bottomless.sum()
    return np.asarray(weights / weights.sum(), np.float64)


def _fill(D: FloatArray, cost: FloatArray) -> FloatArray:
    """w_j = [ν - D_j]₊ / cost_j with Σ_j w_j = 1, for cost > 0.

    If the m nearest sites are under water, ν_m = (1 + Σ_{j<=m} D_j / cost_j) / Σ_{j<=m} 1 / cost_j. The next nearest gets wet
    if it lies below ν_m, and then ν_m+1 still lies above it: so m is found by going from near to far until a site stays dry.
    """
    order = np.argsort(D, kind="stable")
    inverse = 1 / cost[order]
    levels = (1 + np.cumsum(D[order] * inverse)) / np.cumsum(inverse)
    dry = np.flatnonzero(D[order][1:] > levels[:-1])
    wet = order[: dry[0] + 1] if len(dry) else order
    # The level once more, now above the wet site of least cost: ν - D_j of that site would lose all its digits where cost is small.
    above = D[wet] - D[wet[cost[wet].argmin()]]
    height = (1 + (above / cost[wet]).sum()) / (1 / cost[wet]).sum()
    weights = np.zeros(len(D))
    weights[wet] = np.maximum(height - above, 0.0) / cost[wet]
    return weights


def _weighted_sums(states: Sequence[AdapterState], weights: FloatArray) -> NDArray[np.float32]:
    """All Σ_j w_ij x_j, (m, size), in float64 and rounded once.

    Memory is linear in the number of states: their values are gone through in slabs. One matrix product a slab instead of a loop
    over pairs.
    """
    result = np.empty((len(weights), states[0].schema.size), np.float32)
    width = max(_SLAB_VALUES // max(len(states), len(weights)), 1)
    vectors = [state.to_vector() for state in states]
    for start in range(0, result.shape[1], width):
        slab = np.array([vector[start : start + width] for vector in vectors], np.float64)
        with np.errstate(over="ignore"):
            result[:, start : start + width] = weights @ slab
    return result


def norm(state: AdapterState) -> float:
    """‖B‖, summed in float64 by one thread: for so few values handing out work to several costs more than the sum."""
    values = state.to_vector().astype(np.float64)
    return math.sqrt(float(np.einsum("i,i->", values, values)))


def _common_schema(states: Sequence[AdapterState]) -> AdapterSchema:
    """The states' one schema, after `check_state` of each."""
    if not states:
        raise AggregationError("No adapter states, expected at least one.")
    schema = states[0].schema
    for index, state in enumerate(states):
        reason = check_state(state, schema)
        if reason:
            raise AggregationError(f"State {index} of {len(states)} cannot be used. {reason}")
    return schema
