"""The federation's certificate authority: `<state>/authority/{ca.key,ca.pem,server.pem}`, mode 0600.

`ca.key` (ECDSA, P-384) signs the server's certificate and every bundle. It is made once and stays: renewing `ca.pem` keeps the key, so that
sites that hold the older certificate go on until that one ends. `server.pem` holds the server's certificate and its key in one file, so
that renewing is one atomic replacement. Times are UTC, and a parameter where they matter.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fed_backend.enrolment.fingerprint import fingerprint
from fed_backend.errors import EnrolmentError
from sam_adapters import atomic

AUTHORITY_FOLDER = "authority"
CA_KEY, CA_FILE, SERVER_FILE = "ca.key", "ca.pem", "server.pem"
CA_DAYS, SERVER_DAYS = 3650, 397
_CLOCK_SKEW = datetime.timedelta(hours=1)  # a site whose clock is late must not find the certificate "not yet valid"
_MAX_NAME = 64  # X.509's upper bound of a common name
_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Authority:
    """A federation's authority, with its private key: only at the server."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def ca_file(self) -> Path:
        """Its certificate, which everybody may see."""
        return self.folder / CA_FILE

    @property
    def server_file(self) -> Path:
        """The server's certificate and key."""
        return self.folder / SERVER_FILE

    @property
    def fingerprint(self) -> str:
        """Of its public key: the same after a renewal."""
        return key_fingerprint(self.key.public_key())

    @classmethod
    def create(cls, state: Path, federation: str, now: datetime.datetime) -> "Authority":
        """Make a new authority in the state folder, in place of leftovers of a crash."""
        folder = state / AUTHORITY_FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP384R1())
        atomic.write_bytes(folder / CA_KEY, private_pem(key))
        authority = cls(folder, key, ca_certificate(key, f"FedSCA {federation}"[:_MAX_NAME], now))
        atomic.write_bytes(authority.ca_file, authority.certificate.public_bytes(_PEM))
        return authority

    @classmethod
    def load(cls, state: Path) -> "Authority":
        """Read it.

        Raises:
            EnrolmentError: it is missing or cannot be read.
        """
        folder = state / AUTHORITY_FOLDER
        try:
            key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((folder / CA_FILE).read_bytes())
        except FileNotFoundError as error:
            raise EnrolmentError(f"{error.filename} does not exist: make the authority first, `fedsca server init`.") from error
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise EnrolmentError(f"The authority in {folder} cannot be read ({error}): bring the folder back from a backup.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise EnrolmentError(f"{folder / CA_KEY} is no elliptic-curve key: bring the folder back from a backup.")
        if certificate.public_key() != key.public_key():
            raise EnrolmentError(f"{CA_FILE} and {CA_KEY} in {folder} do not belong together: bring the folder back from a backup.")
        return cls(folder, key, certificate)

    def renew(self, now: datetime.datetime) -> "Authority":
        """A new certificate of the same key and name, written."""
        (name,) = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        renewed = Authority(self.folder, self.key, ca_certificate(self.key, str(name.value), now))
        atomic.write_bytes(self.ca_file, renewed.certificate.public_bytes(_PEM))
        return renewed

    def issue_server_certificate(self, hosts: Sequence[str], now: datetime.datetime) -> x509.Certificate:
        """Make a new key and certificate of the server for these names and addresses, and write both in one file.

        Raises:
            EnrolmentError: a name that no certificate can hold.
        """
        key = ec.generate_private_key(ec.SECP384R1())
        certificate = server_certificate(self.key, self.certificate, key.public_key(), hosts, now)
        atomic.write_bytes(self.server_file, certificate.public_bytes(_PEM) + private_pem(key))
        return certificate


def key_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Fingerprint of a public key (of its DER SubjectPublicKeyInfo)."""
    return fingerprint(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """An unencrypted PKCS #8 PEM block: servers start without anybody at the keyboard."""
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def ca_certificate(key: ec.EllipticCurvePrivateKey, name: str, now: datetime.datetime) -> x509.Certificate:
    """A self-signed authority that may sign servers but no further authorities; valid CA_DAYS from `now`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, subject, key.public_key(), now, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA384())


def server_certificate(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    key: ec.EllipticCurvePublicKey,
    hosts: Sequence[str],
    now: datetime.datetime,
) -> x509.Certificate:
    """A server's certificate for `hosts`; valid SERVER_DAYS from `now`, but never longer than its authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:_MAX_NAME])])
    days = min(SERVER_DAYS, (ca.not_valid_after_utc - now).days)
    if days < 1:
        raise EnrolmentError("The authority's own certificate has ended: renew it too, `fedsca server renew --authority`.")
    builder = _builder(subject, ca.subject, key, now, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return builder.add_extension(issuer, critical=False).sign(ca_key, hashes.SHA384())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _CLOCK_SKEW).not_valid_after(now + datetime.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise EnrolmentError(
            f"Host {host!r} cannot stand in a certificate ({error}): give it in ASCII, e.g. fed.hospital.example."
        ) from error
