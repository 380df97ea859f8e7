"""JSON documents with a signature: `{"format", "kind", …}` as canonical JSON, and ECDSA (P-384, SHA-384) over a label and these bytes.

The label names the kind of document, so that a signature under one kind is never one under another.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fed_backend.errors import EnrolmentError, UntrustedError

FORMAT = 1


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one way in which `value` is written for signing."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def signed(kind: str, value: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signed document that holds `value`."""
    body = canonical({**value, "format": FORMAT, "kind": kind})
    signature = key.sign(_label(kind) + body, ec.ECDSA(hashes.SHA384()))
    return canonical({"body": body.decode(), "signature": base64.b64encode(signature).decode()})


def unverified(kind: str, document: bytes) -> Mapping[str, Any]:
    """What the document says, before anybody has looked at its signature: only to find out whose key to verify with.

    Raises:
        EnrolmentError: it is not such a document, or of a newer format.
    """
    return _parts(kind, document)[0]


def verified(kind: str, document: bytes, key: ec.EllipticCurvePublicKey, signer: str) -> Mapping[str, Any]:
    """What the document says, signed by `key`.

    Raises:
        EnrolmentError: it is not such a document, or of a newer format.
        UntrustedError: `signer`, who holds `key`, has not signed it.
    """
    value, body, signature = _parts(kind, document)
    try:
        key.verify(signature, _label(kind) + body, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise UntrustedError(f"The {kind} is not signed by {signer}: it was changed on its way or comes from somebody else.") from error
    return value


def _parts(kind: str, document: bytes) -> tuple[Mapping[str, Any], bytes, bytes]:
    try:
        outer = json.loads(document)
        body, signature = outer["body"].encode(), base64.b64decode(outer["signature"], validate=True)
        value = json.loads(body)
        found, version = value["kind"], value["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise EnrolmentError(f"This is not a whole {kind} ({type(error).__name__}): ask for it again.") from error
    if found != kind:
        raise EnrolmentError(f"This is a document of kind {str(found)[:40]!r}, expected a {kind}.")
    if version != FORMAT:
        raise EnrolmentError(f"This {kind} has format {str(version)[:20]}, this software knows {FORMAT}: both sides need the same version.")
    return value, body, signature


def _label(kind: str) -> bytes:
    return f"fedsca {kind} v{FORMAT}\n".encode()
