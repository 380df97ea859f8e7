"""The public keys of a Keycloak-style realm, and where it gives out tokens. Fetched with a deadline, refreshed, kept for a while when the
realm does not answer.

Threads: `fetch` is called from worker threads, one at a time by its lock; what it found is replaced as a whole.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
import requests

from sam_adapters.errors import AuthorityError

FRESH_SECONDS = 600.0
"""Keys of this age are fetched again."""
KEPT_SECONDS = 3600.0
"""Keys of this age are no longer believed when the realm does not answer."""
PAUSE_SECONDS = 10.0
"""Shortest time between two fetches: tokens that are made up must not become requests to the realm."""


@dataclass(frozen=True)
class RealmFacts:
    """What a realm says about itself.

    Attributes:
        keys: RSA public keys, by key id; "" where the realm names none.
        issuer: `iss` of its tokens; None when it does not say.
        token_endpoint: where a password is exchanged for a token; None when it does not say.
    """

    keys: dict[str, Any]
    issuer: str | None = None
    token_endpoint: str | None = None


class RealmKeys:
    """Facts about one realm."""

    def __init__(self, realm: str, *, deadline: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Args:
            realm: URL, e.g. https://login.hospital.example/realms/monailabel.
            deadline: seconds for each of at most three requests.
            clock: seconds, monotonic.
        """
        self.realm = realm.rstrip("/")
        self._deadline = deadline
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, RealmFacts] | None = None
        self._tried: float | None = None

    def fresh(self) -> RealmFacts | None:
        """What is known, if it is recent enough to need no fetch."""
        found = self._found
        return found[1] if found is not None and self._clock() - found[0] < FRESH_SECONDS else None

    def may_fetch(self) -> bool:
        """Whether the last try is long enough ago."""
        return self._tried is None or self._clock() - self._tried >= PAUSE_SECONDS

    def fetch(self) -> RealmFacts:
        """Ask the realm, unless it was asked just now; else what is known of it.

        Raises:
            AuthorityError: it does not answer, and what is known is too old.
        """
        with self._lock:
            if self.may_fetch():
                self._tried = self._clock()
                try:
                    self._found = (self._clock(), self._ask())
                except (requests.RequestException, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
                    if self._found is None:
                        raise AuthorityError(f"The login server does not answer as expected ({type(error).__name__}).") from error
            if self._found is None or self._clock() - self._found[0] > KEPT_SECONDS:
                raise AuthorityError("The login server does not answer.")
            return self._found[1]

    def _ask(self) -> RealmFacts:
        try:
            described = self._get(self.realm + "/.well-known/openid-configuration")
        except (requests.HTTPError, ValueError):
            described = {}  # a realm that only shows its key
        issuer, endpoint = described.get("issuer"), described.get("token_endpoint")
        if described.get("jwks_uri"):
            keys = jwt.PyJWKSet.from_dict(self._get(self._safe(described["jwks_uri"]))).keys
            found = {key.key_id or "": key.key for key in keys if key.key_type == "RSA" and key.public_key_use in (None, "sig")}
        else:
            body = self._get(self.realm)["public_key"]
            algorithm = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
            found = {"": algorithm.prepare_key(f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----")}
        if not found:
            raise ValueError("no RSA key")
        return RealmFacts(found, issuer, self._safe(endpoint) if endpoint else None)

    def _get(self, url: str) -> dict[str, Any]:
        reply = requests.get(url, timeout=self._deadline, allow_redirects=False)
        reply.raise_for_status()
        value = reply.json()
        if not isinstance(value, dict):
            raise TypeError(f"{url} answers with a {type(value).__name__}")
        return value

    def _safe(self, url: str) -> str:
        """`url`, unless it leaves TLS where the realm has it."""
        if self.realm.startswith("https://") and not url.startswith("https://"):
            raise ValueError(f"{url} is not https")
        return url
