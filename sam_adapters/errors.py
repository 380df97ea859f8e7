"""Every error this project raises on purpose.

    FedscaError
    ├── SettingError        (ValueError)    a setting, --conf value or site.json entry that cannot be used
    ├── ImageError          (ValueError)    an image that cannot be read or is not what the path promises
    ├── LabelError          (ValueError)    a label whose geometry or values do not fit its image
    ├── PromptError         (ValueError)    a point, box or slice that lies outside the image or is malformed
    ├── BaseModelError      (RuntimeError)  a base network that is missing, altered or does not fit its description
    ├── AdapterError        (ValueError)    adapter weights that do not belong to this base or layout, or are not finite
    ├── SegmentationCancelledError (RuntimeError)  the caller asked to stop
    │   └── EncodeInterruptedError  an encode that gave way to a click; it never leaves the segmenter
    ├── TuningError         (RuntimeError)  local tuning that cannot start or go on
    ├── AuditError          (RuntimeError)  the audit log took no line
    ├── UserFileError       (RuntimeError)  a user file that cannot be used, or a change to it that is refused
    ├── LoginError          (PermissionError) somebody who is not let in
    │   ├── CredentialsError    name and password, or a token, that are not right: answered 401
    │   ├── LockedOutError      too many failures: answered 429, `seconds` says how long
    │   └── AuthorityError      who knows the users (user file, realm) does not answer: answered 503
    └── RegistryError       (RuntimeError)  the adapter registry refuses or cannot do what was asked
        └── UnknownVersionError (KeyError)  no version of that id

Each class also subclasses the builtin it refines, so callers who know nothing of this tree still catch the right thing.
A message says what was wrong, what was expected and what to do about it. `fed_backend.errors` adds the federation's own.
"""


class FedscaError(Exception):
    """Root of every error raised on purpose by FedSCA Label."""


class SettingError(FedscaError, ValueError):
    """A setting that cannot be used."""


class ImageError(FedscaError, ValueError):
    """An image that cannot be read, or is not what it claims to be."""


class LabelError(FedscaError, ValueError):
    """A label that does not fit its image."""


class PromptError(FedscaError, ValueError):
    """A prompt that lies outside the image or is malformed."""


class BaseModelError(FedscaError, RuntimeError):
    """A base network that is missing, altered, or does not fit its description."""


class AdapterError(FedscaError, ValueError):
    """Adapter weights of another base or layout, or with values that are not finite."""


class SegmentationCancelledError(FedscaError, RuntimeError):
    """A segmentation that was stopped because its caller asked for it; there is no result."""


class EncodeInterruptedError(SegmentationCancelledError):
    """An encode that was ended because somebody clicked; it is done again."""


class TuningError(FedscaError, RuntimeError):
    """Local tuning that cannot start or go on."""


class AuditError(FedscaError, RuntimeError):
    """The audit log took no line, so what was asked is not done, or is not written down."""


class RegistryError(FedscaError, RuntimeError):
    """The adapter registry refuses, or cannot do, what was asked."""


class UnknownVersionError(RegistryError, KeyError):
    """No adapter version of that id in this site's registry."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class UserFileError(FedscaError, RuntimeError):
    """A user file that cannot be used, or a change to it that is refused."""


class LoginError(FedscaError, PermissionError):
    """Somebody who is not let in."""


class CredentialsError(LoginError):
    """A name and password, or a token, that are not right."""


class LockedOutError(LoginError):
    """Too many failed logins of this user or from this address.

    Attributes:
        seconds: how long until the next one is looked at.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many failed logins: try again in {seconds:.0f} s.")
        self.seconds = seconds


class AuthorityError(LoginError):
    """The user file or the realm does not answer, so nobody can be let in."""
