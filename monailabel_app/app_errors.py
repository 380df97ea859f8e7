"""The app's own errors, about requests. They continue the tree of `sam_adapters.errors`.

FedscaError
├── RequestError  (ValueError)   a request that cannot be used: answered 400
└── NotFoundError (LookupError)  a model, image, session or strategy that does not exist here: answered 404
"""

from sam_adapters.errors import FedscaError


class RequestError(FedscaError, ValueError):
    """A request that cannot be used: a malformed id or parameter, or something that would leave the studies folder."""


class NotFoundError(FedscaError, LookupError):
    """A request for something that does not exist here."""
