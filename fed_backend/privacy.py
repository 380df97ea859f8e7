"""Local differential privacy at a site: whose rule holds, clipping, and Gaussian noise. Pure numpy, no files.

What is protected is a site's whole data: a vector that leaves is scaled down to norm C at most and gets independent noise of standard
deviation σ = 2 C z in every value, z being the noise multiplier. Two vectors of norm C differ by 2 C at most, so whatever the two data sets
of a site were, a release is the Gaussian mechanism with multiplier z (Dwork & Roth, "The Algorithmic Foundations of Differential Privacy",
2014, appendix A; local model: Kasiviswanathan et al., SIAM J. Comput. 2011). ε over many releases: `privacy_accounting`.

The price is not hidden: in n values the noise has a norm of about 2 C z √n, that is 838 z times the bound in the default layout
(n = 175,616). `PrivacyRule.price` says it in a sentence, which a site and the operator are shown.
"""

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fed_backend.errors import PrivacyError

PRIVACY_FILE = "privacy.json"
HALF_NORM = math.sqrt(2.0)
"""The probe's bound: each of its two halves is a mean of gradients of norm 1, so both together have norm √2 at most before projection."""

Entropy = Callable[[int], bytes]


@dataclass(frozen=True)
class PrivacyRule:
    """What a site, or the server for everybody, demands.

    Attributes:
        clip: C, the largest norm of an update that leaves; above 0.
        noise: z, the noise multiplier: σ is 2 C z; above 0.
        epsilon: budget; when a further release would take more, the site only receives. Above 0.
        delta: δ at which ε is counted; above 0, below 1.
        probe: whether noised probe halves may leave too, each at the cost of a release of its own. Off: the site is not compared with
            others and is sent the mean over all.
    """

    clip: float
    noise: float
    epsilon: float
    delta: float = 1e-5
    probe: bool = False

    def __post_init__(self) -> None:
        for key in ("clip", "noise", "epsilon"):
            _check(_number(getattr(self, key)) and 0 < getattr(self, key) <= 1e6, key, getattr(self, key), "a number above 0, at most 1e6")
        _check(_number(self.delta) and 0 < self.delta < 1, "delta", self.delta, "a number above 0, below 1")
        _check(isinstance(self.probe, bool), "probe", self.probe, "true or false")

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in every value of an update."""
        return 2 * self.clip * self.noise

    def noise_norm(self, size: int) -> float:
        """The norm that the noise in `size` values is expected to have."""
        return self.sigma * math.sqrt(size)

    def drowns(self, size: int, norm: float | None = None) -> bool:
        """Whether the noise is larger than what it is added to; for the arguments see `price`."""
        return (self.clip if norm is None else min(norm, self.clip)) < self.noise_norm(size)

    def price(self, size: int, norm: float | None = None) -> str:
        """What the rule leaves of an update, as a sentence.

        Args:
            size: values in the update.
            norm: the update's; None where it is not known: then it is taken to reach the bound.
        """
        what = f"updates leave with norm {self.clip:g} at most"
        if norm is not None:
            what = f"an update of norm {norm:.3g} leaves " + (f"scaled down to {self.clip:g}" if self.clip < norm else "unscaled")
        told = f"{what}, and noise of norm {_short(self.noise_norm(size))} is added in {size:,} values"
        if not self.drowns(size, norm):
            return f"{told}."
        return (
            f"{told}: mostly noise leaves, and others may learn nothing from it. "
            "Sharing fewer values (shared_depth, shared_decoder, rank) needs less noise."
        )


def read_rule(path: Path) -> PrivacyRule | None:
    """The site's own rule; None when there is no such file.

    Raises:
        PrivacyError: the file cannot be read or understood. Nothing may leave then.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise PrivacyError(f"{path.name} cannot be read ({error}): nothing leaves until it is repaired.") from error
    return rule_from(value, path.name)


def rule_from(value: Any, where: str) -> PrivacyRule:
    """A rule out of a JSON object with the attributes of `PrivacyRule`; `delta` and `probe` may be missing.

    Raises:
        PrivacyError: a key is missing, unknown, or has a value that cannot be used.
    """
    if not isinstance(value, dict):
        raise PrivacyError(f"{where} holds a {type(value).__name__}, expected a JSON object: nothing leaves until it is repaired.")
    fields = {entry.name: entry for entry in dataclasses.fields(PrivacyRule)}
    unknown = sorted(set(value) - set(fields))
    missing = sorted(name for name, entry in fields.items() if entry.default is dataclasses.MISSING and name not in value)
    if unknown or missing:
        wrong = f"does not know {', '.join(unknown)}" if unknown else f"lacks {', '.join(missing)}"
        raise PrivacyError(f"{where} {wrong}, expected {', '.join(fields)}: nothing leaves until it is repaired.")
    return PrivacyRule(**value)


def stricter(own: PrivacyRule | None, asked: PrivacyRule | None) -> PrivacyRule | None:
    """The rule that satisfies both, so that neither side can loosen the other's: smaller bound, budget and δ, more noise, and the probe
    leaves only if both let it. None only if neither has a rule."""
    if own is None or asked is None:
        return own or asked
    return PrivacyRule(
        clip=min(own.clip, asked.clip),
        noise=max(own.noise, asked.noise),
        epsilon=min(own.epsilon, asked.epsilon),
        delta=min(own.delta, asked.delta),
        probe=own.probe and asked.probe,
    )


def clipped(vector: NDArray[np.floating], bound: float) -> NDArray[np.float64]:
    """The vector (n,), scaled down to norm `bound` if it is longer.

    Raises:
        PrivacyError: a value is not finite; no noise would hide that.
    """
    values = np.asarray(vector, np.float64)
    norm = float(np.linalg.norm(values))
    if not math.isfinite(norm):
        raise PrivacyError("A value that is to leave is not finite, and noise would not hide it: roll back to a good version.")
    # The factor is rounded towards zero, so that rounding never leaves the norm above the bound.
    return values if norm <= bound else values * (bound / norm * (1 - 1e-12))


def gaussian(size: int, sigma: float, entropy: Entropy = os.urandom) -> NDArray[np.float64]:
    """Independent normal numbers (size,) of standard deviation `sigma`, out of the operating system's randomness.

    Box & Muller, "A Note on the Generation of Random Normal Deviates", 1958, on 53 bits each. numpy's generators are not used: who sees
    tens of thousands of their numbers may work out the rest of the stream.

    Raises:
        PrivacyError: there is no randomness, or less than asked for.
    """
    pairs = (size + 1) // 2
    try:
        raw = entropy(16 * pairs)
    except (OSError, NotImplementedError) as error:
        raise PrivacyError(f"The operating system gives no randomness ({error}): nothing leaves without noise.") from error
    if len(raw) != 16 * pairs:
        raise PrivacyError(f"The operating system gave {len(raw)} of {16 * pairs} random bytes: nothing leaves without noise.")
    bits = np.frombuffer(raw, "<u8").reshape(2, pairs) >> np.uint64(11)
    radius = np.sqrt(-2 * np.log((bits[0] + np.uint64(1)) * 2.0**-53))  # from (0, 1]: the logarithm of zero is never taken
    angle = 2 * np.pi * (bits[1] * 2.0**-53)
    return sigma * np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]


def noised(vector: NDArray[np.floating], clip: float, noise: float, entropy: Entropy = os.urandom) -> NDArray[np.float32]:
    """What may leave in place of `vector` (n,): clipped to `clip`, with noise of standard deviation 2 · clip · noise, as (n,) float32.

    Raises:
        PrivacyError: values that are not finite, or no randomness.
    """
    return (clipped(vector, clip) + gaussian(vector.size, 2 * clip * noise, entropy)).astype(np.float32)


def _short(norm: float) -> str:
    return f"{norm:,.0f}" if norm >= 100 else f"{norm:.3g}"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(good: bool, key: str, value: object, expected: str) -> None:
    if not good:
        raise PrivacyError(f"Privacy rule: {key} is {value!r}, expected {expected}.")


__all__ = [
    "HALF_NORM",
    "PRIVACY_FILE",
    "Entropy",
    "PrivacyRule",
    "clipped",
    "gaussian",
    "noised",
    "read_rule",
    "rule_from",
    "stricter",
]
