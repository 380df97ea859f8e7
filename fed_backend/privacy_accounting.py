"""ε of a list of Gaussian releases: Flower's Rényi accountant, which computes with Google's dp-accounting. No file is touched."""

from collections import Counter
from collections.abc import Sequence

from fed_backend.errors import PrivacyError


def epsilon_of(multipliers: Sequence[float], delta: float) -> float:
    """ε at δ of Gaussian releases of one site, composed (Mironov, "Rényi Differential Privacy", CSF 2017), without any amplification.

    Args:
        multipliers: noise multiplier of every release, each above 0.
        delta: above 0, below 1.

    Raises:
        PrivacyError: the accountant is not installed, or cannot work with these numbers.
    """
    if not multipliers:
        return 0.0
    try:
        from flwr.supercore.privacy_accounting import GaussianPrivacyEvent, NeighboringRelation, PrivacyConfig, SamplingMethod
        from flwr.supercore.privacy_accounting.rdp_accountant import RdpAccountant

        config = PrivacyConfig(delta, 1, NeighboringRelation.ADD_OR_REMOVE_ONE, SamplingMethod.NO_AMPLIFICATION)
        accountant = RdpAccountant(config)
        for multiplier, count in sorted(Counter(multipliers).items()):
            accountant.compose(GaussianPrivacyEvent(multiplier, 1, 1), count)
        return float(accountant.get_epsilon(delta))
    except ImportError as error:
        raise PrivacyError(f"The privacy accountant is not installed ({error}): run `make setup`. Nothing leaves without it.") from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise PrivacyError(f"The privacy accountant cannot work with this ledger ({error}): nothing leaves.") from error
