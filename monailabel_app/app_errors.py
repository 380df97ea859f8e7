"""The app's own errors, about requests and about who makes them. They continue the tree of `sam_adapters.errors`.

FedscaError
├── RequestError       (ValueError)       a request that cannot be used: answered 400
├── NotFoundError      (LookupError)      a model, image, session, result, job or strategy that does not exist here: answered 404
├── BusyError          (RuntimeError)     too much is being worked on already: answered 429 with Retry-After
├── RemoteStudiesError (ConnectionError)  the DICOMweb server is down, too slow, or answers what it should not: answered 503
│   └── RefusedByArchiveError             it understood, and said no: asking again will not help
├── UserFileError      (RuntimeError)     a user file that cannot be used, or a change to it that is refused
└── LoginError         (PermissionError)
    ├── CredentialsError                  name and password, or a token, that are not right: answered 401
    ├── LockedOutError                    too many failures: answered 429, `seconds` says how long
    └── AuthorityError                    who knows the users (user file, realm) does not answer: answered 503
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
