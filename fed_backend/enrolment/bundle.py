"""What an approved site gets back: a document signed by the authority and sealed to that one site, as a text block.

Signed first, then sealed by HPKE (RFC 9180: X25519, HKDF-SHA256, AES-256-GCM) to the site's sealing key. The signed part names the
recipient's fingerprint, so that no site can hand its bundle on as another's, and grows a number with each bundle of a site, so that an old
one is not taken for news. Nothing in it is a key to anything: it is sealed because addresses and settings are nobody else's business.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fed_backend.enrolment import armour, signed_document
from fed_backend.enrolment.authority import Authority, key_fingerprint
from fed_backend.enrolment.fingerprint import same_fingerprint
from fed_backend.enrolment.node_keys import NodeKeys, PublicKeys
from fed_backend.errors import EnrolmentError, UntrustedError
from sam_adapters.site_directory import checked_site_name

KIND = "SITE BUNDLE"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_INFO = b"fedsca site bundle v1"


@dataclass(frozen=True)
class Bundle:
    """What a site must know to take part.

    Attributes:
        site: the name under which it was approved.
        recipient: fingerprint of its keys.
        number: 1, 2, … counted by the server for each site.
        issued: UTC, ISO 8601.
        federation: the federation's name, for people.
        address: HOST:PORT of the server.
        authority: PEM certificate of the authority, which signs bundles.
        roots: PEM certificates that the server's certificate is checked with: the authority's or the hospital's own.
        settings: base, rank, shared_depth and shared_decoder that all sites share.
        policy: a site policy that the operator proposes; the site decides. None: no proposal.
    """

    site: str
    recipient: str
    number: int
    issued: str
    federation: str
    address: str
    authority: str
    roots: str
    settings: Mapping[str, Any]
    policy: Mapping[str, Any] | None = None

    def authority_key(self) -> ec.EllipticCurvePublicKey:
        """The authority's public key."""
        return _certified_key(self.authority)

    @property
    def authority_fingerprint(self) -> str:
        """Fingerprint of the authority's key."""
        return key_fingerprint(self.authority_key())


def seal(bundle: Bundle, keys: PublicKeys, authority: Authority) -> str:
    """The text block that only the owner of `keys` can open."""
    document = signed_document.signed(KIND, asdict(bundle), authority.key)
    return armour.wrap(KIND, _SUITE.encrypt(document, keys.sealing_key(), _INFO))


def unseal(text: str, keys: NodeKeys, authority_fingerprint: str | None = None) -> Bundle:
    """Open and verify a text block.

    Args:
        text: the block.
        keys: of the site.
        authority_fingerprint: of the authority that must have signed; None verifies only that the bundle is signed by the authority it
            names, for showing that one's fingerprint to a person.

    Raises:
        EnrolmentError: it is damaged, or of another kind or format.
        UntrustedError: it was not sealed to these keys, or not signed by that authority.
    """
    try:
        document = _SUITE.decrypt(armour.unwrap(KIND, text), keys.sealing, _INFO)
    except (InvalidTag, ValueError) as error:
        raise UntrustedError(
            "The bundle does not open with this site's key: it was made for another site or another request, or it is damaged."
        ) from error
    bundle = _bundle(signed_document.unverified(KIND, document))
    signed_document.verified(KIND, document, bundle.authority_key(), "the authority that it names")
    if not same_fingerprint(bundle.recipient, keys.public.fingerprint):
        raise UntrustedError("The bundle was made for another site's keys: ask the operator for yours.")
    if authority_fingerprint is not None and not same_fingerprint(authority_fingerprint, bundle.authority_fingerprint):
        raise UntrustedError(
            f"The bundle is signed by the authority {bundle.authority_fingerprint}, expected {authority_fingerprint}: "
            "read the fingerprint again with the federation's operator, on the phone; do not accept a bundle that differs."
        )
    return bundle


def _bundle(value: Mapping[str, Any]) -> Bundle:
    texts = ("site", "recipient", "issued", "federation", "address", "authority", "roots")
    if not all(isinstance(value.get(key), str) for key in texts) or not isinstance(value.get("settings"), dict):
        raise EnrolmentError("The bundle lacks a field: the server runs another version of this software; ask its operator.")
    number, policy = value.get("number"), value.get("policy")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1 or not isinstance(policy, dict | None):
        raise EnrolmentError("The bundle's number or policy cannot be used: the server runs another version of this software.")
    checked_site_name(value["site"])
    return Bundle(**{key: value[key] for key in texts}, number=number, settings=value["settings"], policy=policy)


def _certified_key(pem: str) -> ec.EllipticCurvePublicKey:
    try:
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    except ValueError as error:
        raise EnrolmentError(f"The authority's certificate cannot be read ({error}): ask for a new bundle.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EnrolmentError("The authority's key is of another kind, expected an elliptic curve: ask for a new bundle.")
    return key
