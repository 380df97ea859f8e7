"""The app's own errors, about requests. They continue the tree of `sam_adapters.errors`.

FedscaError
├── RequestError       (ValueError)       a request that cannot be used: answered 400
├── NotFoundError      (LookupError)      a model, image, session, result, job or strategy that does not exist here: answered 404
├── BusyError          (RuntimeError)     too much is being worked on already: answered 429 with Retry-After
└── RemoteStudiesError (ConnectionError)  the DICOMweb server is down, too slow, or answers what it should not: answered 503
    └── RefusedByArchiveError             it understood, and said no: asking again will not help
"""

from sam_adapters.errors import FedscaError


class RequestError(FedscaError, ValueError):
    """A request that cannot be used: a malformed id or parameter, or something that would leave the studies folder."""


class NotFoundError(FedscaError, LookupError):
    """A request for something that does not exist here."""


class BusyError(FedscaError, RuntimeError):
    """A request for work of which there is too much already.

    Attributes:
        retry_after: seconds after which it is worth asking again.
    """

    def __init__(self, sentence: str, retry_after: int) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class RemoteStudiesError(FedscaError, ConnectionError):
    """The DICOMweb server cannot be reached, is too slow, or answers what it should not."""


class RefusedByArchiveError(RemoteStudiesError):
    """The DICOMweb server understood a request and refused it: the same request would be refused again."""
