"""Is this what honest tuning makes? Checks of updates and probes that are well-formed, before they enter a mixture. Pure numpy.

Every check returns a sentence that says what was found and what was expected, or None. They are one-sided on purpose: a hospital that is
merely different, small, late or badly tuned passes, because SGCA's weights, the clipping and every site's own gate are made for those.
`docs/robustness.md` says what was measured on real tunings, where each limit comes from, and what no check here can find.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fed_backend.projection import project
from sam_adapters.schema import AdapterState

FloatArray = NDArray[np.float64]

MIN_OTHERS = 3
"""With fewer other sites nobody can say who is the odd one."""
NORM_FACTOR = 6.0
"""Norms of honest adapters differ by the square root of the steps tuned: 6 times the median is 36 times the steps."""
HALF_NORM = 1.0
"""A half is the mean of gradients of norm 1."""
HALF_DIFFERENCE = 1e-3
"""Two halves with disjoint patients: ‖a - b‖² of ‖a‖² + ‖b‖². Real ones have 0.1 to 1."""
AGAINST_OWN_PROBE = 0.3
WITH_OWN_PROBE = 0.05
WITH_OTHERS = 0.04
USUAL = 0.12
"""Only where sites agree this much with their hearers is it telling that one does not: adapters of few steps agree with nobody's."""
HEARD = 0.2
"""Of an equal share of a mixture: who gets less of a site is not asked about it."""
WITH_OWN_HISTORY = 0.3
SKETCH_SIZE = 4096
MEMORY_SIZE = 32
"""Numbers by which an earlier adapter is recognised."""
SAME = 1e-3
"""Relative distance of two sketches of what is the same adapters, sent twice at 16 bits."""
_MEMORY_SEED = 0


@dataclass(frozen=True)
class Halves:
    """A probe's two projected gradient halves, (p,) each, and the common state at which they were taken, projected likewise."""

    a: NDArray[np.floating]
    b: NDArray[np.floating]
    common: NDArray[np.floating]


@dataclass(frozen=True)
class Evidence:
    """What speaks for an update; NaN where it could not be measured.

    Attributes:
        others: median cosine with the adapters of the sites that would hear it.
        usual: median of the other sites' `others`.
        gradient: cosine of its own mean gradient with its displacement from the base, or from the common state if that is smaller: an
            update that helps is negative here.
        against: the same with the displacement from the common state: an update that harms the very cases that it stands on is positive.
        history: cosine with the adapters that were accepted of it before.
    """

    others: float
    usual: float
    gradient: float
    against: float
    history: float


def memory_of(state: AdapterState) -> list[float]:
    """`MEMORY_SIZE` numbers by which the same adapters are recognised later."""
    return [float(f"{value:.6g}") for value in project(state.to_vector(), seed=_MEMORY_SEED, size=MEMORY_SIZE).tolist()]


def is_same(memory: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two memories are of the same adapters, up to 16-bit rounding."""
    a, b = np.asarray(memory, np.float64), np.asarray(other, np.float64)
    return a.shape == b.shape and float(np.linalg.norm(a - b)) <= SAME * float(np.linalg.norm(a))


def check_empty(cases: int, norm: float) -> str | None:
    """An adapter that is exactly the base cannot come from tuning on cases."""
    if cases > 0 and norm == 0:
        return f"It says that {cases} cases stand behind it, but every value is zero: a tuning changes values. Tune, or send 0 cases."
    return None


def check_norms(norms: Mapping[str, float]) -> dict[str, str]:
    """Sites whose adapter is far larger than the others'.

    Args:
        norms: ‖B‖ by site; zeros count for nothing.

    Returns:
        Site -> sentence.
    """
    found = {}
    for site, norm in norms.items():
        others = [value for name, value in norms.items() if name != site and value > 0]
        if len(others) < MIN_OTHERS - 1:
            continue
        median = float(np.median(others))
        if norm > NORM_FACTOR * median:
            found[site] = (
                f"Its adapters have norm {norm:.3g}, {norm / median:.3g} times the median of the others, expected at most {NORM_FACTOR:g} "
                "times: roll back to a good version, or tune with a lower learning rate."
            )
    return found


def check_copies(memories: Mapping[str, Sequence[float]], sent: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, str]:
    """Sites that send the same adapters as another: two tunings on different images never agree.

    Args:
        memories: `memory_of` every update with cases.
        sent: those of the mixtures that each site was sent. Sites that send back what they were sent are let be: two newcomers are
        sent the same, and their gates may keep them at it.

    Returns:
        Site -> sentence.
    """
    own = {
        site: memory for site, memory in memories.items() if any(memory) and not any(is_same(memory, known) for known in sent.get(site, ()))
    }
    groups: dict[float, list[str]] = {}
    for site, memory in own.items():
        groups.setdefault(round(float(np.linalg.norm(memory)), 12), []).append(site)
    found = {}
    for site, memory in own.items():
        size = float(np.linalg.norm(memory))
        near = [name for other, names in groups.items() if abs(other - size) <= 2 * SAME * size for name in names]
        twins = [name for name in near if name != site and is_same(memory, own[name])]
        if twins:
            found[site] = (
                f"Its adapters are those of {', '.join(sorted(twins)[:3])}: tunings of different hospitals never agree to the digit."
            )
    return found


def check_halves(halves: Halves, *, is_noised: bool = False) -> str | None:
    """Whether two halves can be means of unit gradients over disjoint patients.

    Args:
        is_noised: the site says that it adds noise for privacy, so that norms say nothing.
    """
    a, b = np.asarray(halves.a, np.float64), np.asarray(halves.b, np.float64)
    squares = (float(a @ a), float(b @ b))
    largest = (HALF_NORM + 5 * np.sqrt(2 / len(a))) ** 2  # a projection keeps squared norms to sqrt(2 / p)
    if not is_noised and max(squares) > largest:
        return f"A half of its probe has norm {np.sqrt(max(squares)):.3g}, a mean of gradients of norm 1 has at most {HALF_NORM:g}."
    if 0 in squares:
        return "A half of its probe is zero: no gradient was measured."
    if float((a - b) @ (a - b)) < HALF_DIFFERENCE * sum(squares):
        return "The halves of its probe are the same: those of different patients differ. It claims a certainty that nobody has."
    return None


def sketches(states: Mapping[str, AdapterState], seed: int) -> dict[str, FloatArray]:
    """Projections (SKETCH_SIZE,) that keep inner products to 1.6 % of the norms: comparing all with all is cheap on them."""
    return {site: project(state.to_vector(), seed=seed, size=SKETCH_SIZE).astype(np.float64) for site, state in states.items()}


def hearers(site: str, weights: Mapping[str, Mapping[str, float]], among: Collection[str]) -> list[bool]:
    """For each of `among`, whether the site enters its mixture with at least `HEARD` of an equal share; nobody hears itself.

    Args:
        weights: receiver -> giver -> weight.
    """
    return [name != site and weights.get(name, {}).get(site, 0.0) * len(among) >= HEARD for name in among]


def agreement_with_hearers(sketched: Mapping[str, FloatArray], weights: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Median cosine of each site's adapters with those of its hearers, the other sites whose mixtures it would enter with weight.

    A hospital that is unlike all others (another organ, another scanner) has no hearers: it harms nobody, and nobody's adapters say
    anything about its own. The median: a minority that agrees with itself does not help its members.

    Args:
        sketched: `sketches` of the sites; zeros count for nothing.
        weights: receiver -> giver -> weight, of the mixtures that would be made. A hearer gives at least `HEARD` of an equal share.

    Returns:
        Site -> median; NaN with fewer than `MIN_OTHERS` other sites, or without hearers.
    """
    names = [site for site, sketch in sketched.items() if sketch.any()]
    result = dict.fromkeys(sketched, float("nan"))
    if len(names) <= MIN_OTHERS:
        return result
    rows = np.stack([sketched[site] / np.linalg.norm(sketched[site]) for site in names])
    cosines = rows @ rows.T
    for column, site in enumerate(names):
        hears = hearers(site, weights, names)
        if any(hears):
            result[site] = float(np.median(cosines[hears, column]))
    return result


def usual_agreement(agreement: Mapping[str, float], site: str) -> float:
    """Median of the other sites' `agreement_with_hearers`; NaN with fewer than two that have one."""
    known = [value for name, value in agreement.items() if name != site and not np.isnan(value)]
    return float(np.median(known)) if len(known) >= MIN_OTHERS - 1 else float("nan")


def agreement_with_probe(update: NDArray[np.floating], halves: Halves) -> tuple[float, float]:
    """`Evidence.gradient` and `Evidence.against` of an update projected like the probe, (p,)."""
    gradient = (np.asarray(halves.a, np.float64) + np.asarray(halves.b, np.float64)) / 2
    against = cosine(gradient, update - halves.common)
    return float(np.fmin(cosine(gradient, update), against)), against


def check_evidence(evidence: Evidence, probe_size: int) -> str | None:
    """Whether an update works against its own probe, or nothing at all speaks for it.

    Refused is an update of which its own gradient says that it harms its own cases; and one that agrees with none of the other
    sites' adapters, its own gradient, and its own past, as far as there are any to compare with: at least one of the last two must be
    there, and the others must agree with each other (`USUAL`). In the first rounds of short tunings nobody's adapters agree with anybody's.
    """
    chance = 1 / np.sqrt(probe_size)
    if evidence.against > max(AGAINST_OWN_PROBE, 5 * chance):
        return (
            f"It works against its own probe: the cosine of its displacement with its own gradient is {evidence.against:+.2f}, honest "
            f"updates have at most {AGAINST_OWN_PROBE:+.2f}."
        )
    speaks = (
        evidence.others >= WITH_OTHERS,
        evidence.gradient <= -max(WITH_OWN_PROBE, 3 * chance),
        evidence.history >= WITH_OWN_HISTORY,
    )
    unknown = np.isnan(evidence.others) or (np.isnan(evidence.gradient) and np.isnan(evidence.history))
    if unknown or not evidence.usual >= USUAL or any(speaks):
        return None
    return (
        f"It agrees with nothing: neither with the other sites' adapters (median cosine {evidence.others:+.3f}, "
        f"theirs {evidence.usual:+.3f}), nor with its own gradient "
        f"({_number(evidence.gradient)}), nor with its own past ({_number(evidence.history)})."
    )


def cosine(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    """Cosine of two vectors; NaN where one is zero."""
    size = float(np.linalg.norm(x)) * float(np.linalg.norm(y))
    return float(x @ y) / size if size > 0 else float("nan")


def _number(value: float) -> str:
    return "not known" if np.isnan(value) else f"{value:+.3f}"
