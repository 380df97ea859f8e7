"""How many days every certificate has left: for status pages, and for whoever is warned in time. Time is a parameter."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from fed_backend.enrolment import membership
from fed_backend.enrolment.authority import AUTHORITY_FOLDER, CA_FILE
from fed_backend.enrolment.server_identity import ServerIdentity
from fed_backend.errors import EnrolmentError
from sam_adapters.site_directory import SiteDirectory

WARN_DAYS = 30


@dataclass(frozen=True)
class CertificateLife:
    """One certificate's end.

    Attributes:
        what: `authority`, `server` or `server's authority`.
        file: where it lies.
        ends: ISO 8601, UTC.
        days: whole days left, rounded down; negative once it has ended.
    """

    what: str
    file: str
    ends: str
    days: int

    @property
    def sentence(self) -> str:
        """For people."""
        if self.days < 0:
            return f"The certificate of the {self.what} ended on {self.ends[:10]}: renew it."
        hint = " Renew it soon." if self.days < WARN_DAYS else ""
        return f"The certificate of the {self.what} is good for {self.days} more days, until {self.ends[:10]}.{hint}"


def certificate_lives(what: str, path: Path, now: datetime.datetime) -> list[CertificateLife]:
    """Of every certificate in a PEM file.

    Raises:
        EnrolmentError: it cannot be read.
    """
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EnrolmentError(f"The certificate {path} cannot be read ({error}).") from error
    return [CertificateLife(what, str(path), one.not_valid_after_utc.isoformat(), days_left(one, now)) for one in certificates]


def days_left(certificate: x509.Certificate, now: datetime.datetime) -> int:
    """Whole days from `now` (with time zone) to the certificate's end, rounded down."""
    return math.floor((certificate.not_valid_after_utc - now) / datetime.timedelta(days=1))


def server_certificates(state: Path, now: datetime.datetime) -> Sequence[CertificateLife]:
    """Of a server; none in a state folder without enrolment.

    Raises:
        EnrolmentError: a file cannot be read.
    """
    identity = ServerIdentity.load(state)
    if identity is None:
        return []
    tls = identity.tls(state)
    lives = [*certificate_lives("server", tls.certificate, now), *certificate_lives("authority", state / AUTHORITY_FOLDER / CA_FILE, now)]
    return lives + (certificate_lives("server's authority", tls.ca, now) if identity.own_ca else [])


def site_certificates(site: SiteDirectory, now: datetime.datetime) -> Sequence[CertificateLife]:
    """Of the certificates with which a site checks its server; none before it has accepted a bundle.

    Raises:
        EnrolmentError: a file cannot be read.
    """
    held = membership.load(site)
    return [] if held is None else certificate_lives("server's authority", held.roots_file, now)
