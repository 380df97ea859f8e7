"""Why a demo stopped.

FedscaError
└── DemoError             (RuntimeError)  the demo cannot start or go on; the message says why and what to do
    ├── ProcessFailedError                a server or node ended, or did not become ready in time; carries the end of its log
    └── RestError                         a hospital's server answered with an error
"""

from sam_adapters.errors import FedscaError


class DemoError(FedscaError, RuntimeError):
    """The demo cannot start or go on."""


class ProcessFailedError(DemoError):
    """A process that the demo needs ended or did not become ready in time."""


class RestError(DemoError):
    """A hospital's server answered with an error, or not at all."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
