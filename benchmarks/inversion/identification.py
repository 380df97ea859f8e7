"""Was this patient among them? Ranks candidates by how well their own gradient fits what was seen. Pure numpy.

The attacker holds N candidate pictures and computes what each would have sent; the cosine with what he saw is its score. Which is far
cheaper than inverting, and succeeds far longer (compare the membership attacks of Nasr et al., IEEE S&P 2019).
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Identified:
    """How a ranking of N candidates came out; chance is members / N for the first two, ½ for the third.

    Attributes:
        first: whether the best candidate is a member.
        found: share of the members among the best candidates, as many as there are members.
        auc: chance that a member scores above a candidate who is none; ties count half.
    """

    first: float
    found: float
    auc: float


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Vectors (n,) or (m, n) at norm 1; zero stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float64)


def one_by_one(gram: NDArray[np.floating], products: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosine of each candidate's vector with what was seen, up to a common factor, (N,).

    Args:
        gram: inner products of the candidates' vectors, (N, N), none of them zero.
        products: inner products of each with what was seen, (N,).
    """
    return np.asarray(products / np.sqrt(np.diag(gram)), np.float64)


def together(gram: NDArray[np.floating], products: NDArray[np.floating], ridge: float) -> NDArray[np.float64]:
    """How much of each candidate it takes to make what was seen, all together (ridge regression), (N,); arguments as `one_by_one`.

    Where many cases were averaged this finds them, and the cosine does not: others' gradients no longer count as noise.
    """
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), products))


def identified(scores: NDArray[np.floating], members: Collection[int]) -> Identified:
    """Judge scores (N,) against the members' positions; at least one candidate is no member."""
    inside = np.zeros(len(scores), bool)
    inside[list(members)] = True
    best = np.argsort(-scores, kind="stable")
    gaps = scores[inside][:, None] - scores[~inside][None]
    auc = float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())
    return Identified(float(inside[best[0]]), float(inside[best[: inside.sum()]].mean()), auc)


def mean_of(results: Iterable[Identified]) -> dict[str, float]:
    """Means over trials, JSON-ready, with their number."""
    rows = np.array([(one.first, one.found, one.auc) for one in results])
    first, found, auc = rows.mean(axis=0)
    return {"first": round(float(first), 3), "found": round(float(found), 3), "auc": round(float(auc), 3), "trials": len(rows)}
