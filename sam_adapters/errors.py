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
