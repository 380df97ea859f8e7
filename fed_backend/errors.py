"""Every error the federation raises on purpose, on top of the tree in `sam_adapters.errors`.

    FedscaError
    └── FederationError
        ├── AggregationError            (ValueError)    numbers that SGCA cannot work with
        ├── WireError                   (ValueError)    a message that is refused, or cannot be encoded
        │   ├── MalformedMessageError                   not this format: damaged, truncated, too long, fields missing or of another type
        │   ├── UnsupportedVersionError                 a version of the wire format that this software does not speak
        │   ├── WrongKindError                          a whole message, but of another kind than was asked for
        │   ├── BaseMismatchError                       adapters of another base network
        │   ├── SchemaMismatchError                     the same base, but another layout of the shared adapters
        │   ├── NotFiniteError                          a value is NaN or infinite
        │   ├── HalfOverflowError                       a value is too large for 16-bit floats (only when encoding)
        │   ├── UnexpectedMessageError                  whole and well-formed, but from another site or of another round or probe
        │   └── UnknownReferenceError                   a difference to a state that the receiver does not have
        ├── ServerStateError            (RuntimeError)  the server's state file cannot be used
        │   └── ServerStateVersionError                 it was written by a newer version of this software
        ├── LaunchError                 (ValueError)    a Flower process that cannot be started as asked
        ├── EnrolmentError              (ValueError)    a request, bundle, key, certificate or roster that cannot be used
        │   └── UntrustedError                          a signature or fingerprint that does not fit, or a key that is not this one
        ├── ConfigurationError          (ValueError)    a federation.toml that cannot be used
        ├── ScheduleError               (RuntimeError)  the schedule's file or orders that cannot be used
        ├── PolicyError                 (RuntimeError)  the site's own policy does not let this leave
        ├── PrivacyError                (RuntimeError)  the privacy step failed, so nothing may leave
        │   └── BudgetSpentError                        the site's privacy budget is spent: it only receives
        └── RoundError                  (RuntimeError)  a round that cannot be run at all

`WireError.reason` is a short word for logs and reports, one per class; `str(error)` is the sentence for people.
"""

from typing import ClassVar

from sam_adapters.errors import FedscaError


class FederationError(FedscaError):
    """Root of every error raised on purpose by the federation."""


class AggregationError(FederationError, ValueError):
    """Distances, noise, weights, vectors or states that SGCA cannot work with."""


class WireError(FederationError, ValueError):
    """A message that is refused, or that cannot be encoded."""

    reason: ClassVar[str] = "refused"


class MalformedMessageError(WireError):
    """Bytes that are not a message of this format, or not a whole one."""

    reason = "malformed"


class UnsupportedVersionError(WireError):
    """A version of the wire format that this software does not speak."""

    reason = "version"


class WrongKindError(WireError):
    """A message of another kind than was asked for."""

    reason = "kind"


class BaseMismatchError(WireError):
    """Adapters that were trained on another base network."""

    reason = "base"


class SchemaMismatchError(WireError):
    """Adapters of the same base, but of another layout (rank, depth, names, order or shapes)."""

    reason = "schema"


class NotFiniteError(WireError):
    """A payload with NaN or infinite values."""

    reason = "not-finite"


class HalfOverflowError(WireError):
    """A finite value that 16-bit floats cannot hold."""

    reason = "overflow"


class UnexpectedMessageError(WireError):
    """A good message that answers something else: another site, round or probe."""

    reason = "unexpected"


class UnknownReferenceError(WireError):
    """A difference to a state that this side does not have."""

    reason = "reference"


class ServerStateError(FederationError, RuntimeError):
    """The server's state file is damaged, or belongs to another federation."""


class ServerStateVersionError(ServerStateError):
    """The server's state file was written by a newer version of this software."""


class LaunchError(FederationError, ValueError):
    """A Flower process that cannot, or must not, be started as asked."""


class EnrolmentError(FederationError, ValueError):
    """A request, bundle, key, certificate or roster that cannot be used."""


class UntrustedError(EnrolmentError):
    """Something well-formed from somebody who is not who he should be: a wrong signature, fingerprint or recipient."""


class RoundError(FederationError, RuntimeError):
    """A round that cannot be run, because of its settings or of the server's state."""


class ConfigurationError(FederationError, ValueError):
    """A federation.toml with keys or values that cannot be used; the message names each with its line."""


class ScheduleError(FederationError, RuntimeError):
    """The schedule's file cannot be read, or an order comes at the wrong time."""


class PolicyError(FederationError, RuntimeError):
    """The site's own policy does not let something leave, or cannot be read, so that nothing may."""


class PrivacyError(FederationError, RuntimeError):
    """The privacy step failed or its rule cannot be used: nothing may leave."""


class BudgetSpentError(PrivacyError):
    """Another release would take more than the site's privacy budget: from now on it only receives."""
