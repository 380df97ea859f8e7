"""What can go wrong, as sentences that a user can act on."""

from __future__ import annotations


class FedSCAError(Exception):
    """Base of all errors of the front ends. `message` is a sentence for the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class AddressError(FedSCAError):
    """What was typed is not the address of a server."""


class ConnectionProblem(FedSCAError):
    """The server cannot be reached, or broke off."""


class TimedOut(ConnectionProblem):
    """The server did not answer in time."""


class CertificateProblem(ConnectionProblem):
    """The server's certificate is not trusted here."""


class ServerRefused(FedSCAError):
    """The server answered with an error."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class LoginNeeded(ServerRefused):
    """The server wants a login, or no longer takes this one (401)."""


class NotAllowed(ServerRefused):
    """The user's roles do not allow this (403)."""


class ServerBusy(ServerRefused):
    """Too many requests or jobs at once (429); `retry_after` in seconds."""

    def __init__(self, status: int, detail: str, retry_after: float) -> None:
        super().__init__(status, detail)
        self.retry_after = retry_after


class CaseGone(ServerRefused):
    """The case is no longer on the server."""


class SessionExpired(ServerRefused):
    """What was uploaded, or an earlier result, is no longer kept on the server (404)."""


class BadReply(FedSCAError):
    """The server's answer is not what this version understands."""


class GeometryMismatch(FedSCAError):
    """A label does not lie on its image's grid."""


class CanvasError(FedSCAError):
    """An image or a label cannot be shown or written here."""


class DraftError(FedSCAError):
    """Unsubmitted work could not be saved on, or read from, this computer."""


class Cancelled(FedSCAError):
    """The user ended it."""

    def __init__(self, message: str = "Cancelled.") -> None:
        super().__init__(message)
