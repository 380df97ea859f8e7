"""Login through a hospital's Keycloak-style realm: MONAI Label's own authentication, with what is broken there put right.

MONAI Label 0.8.5 calls `jwt.decode` without algorithms (which PyJWT refuses, so nobody is let in), fetches the key once for all time, and
answers 500 when the realm does not answer or refuses a password. Here RS256 is pinned, `exp` is demanded, the issuer is compared where the
realm names one, and an unknown key has the keys fetched again.
"""

from dataclasses import dataclass
from typing import Any

import anyio
import jwt
import requests

from monailabel_app.realm_keys import RealmFacts, RealmKeys
from sam_adapters.errors import AuthorityError, CredentialsError
from sam_adapters.login.authority import SignedIn

ALGORITHM = "RS256"
LEEWAY_SECONDS = 10


@dataclass(frozen=True)
class TokenFields:
    """Where a token says what (MONAI_LABEL_AUTH_TOKEN_*); `roles` is a path of keys joined by `#`."""

    username: str = "preferred_username"
    email: str = "email"
    name: str = "name"
    roles: str = "realm_access#roles"


class RealmLogin:
    """An `Authority` on a realm."""

    def __init__(self, keys: RealmKeys, client_id: str, fields: TokenFields, *, deadline: float = 10.0) -> None:
        """`deadline`: seconds that the realm has to answer a login."""
        self._keys = keys
        self._client_id = client_id
        self._fields = fields
        self._deadline = deadline
        self._one_fetch = anyio.CapacityLimiter(1)  # requests that wait for a fetch wait on the event loop and hold no worker thread

    def description(self) -> dict[str, object]:
        return {"enabled": True, "client_id": self._client_id, "realm": self._keys.realm}

    def token(self, username: str, password: str) -> dict[str, object]:
        facts = self._keys.fresh() or self._keys.fetch()
        if facts.token_endpoint is None:
            raise AuthorityError("The login server does not say where passwords are exchanged for tokens.")
        form = {"client_id": self._client_id, "username": username, "password": password, "grant_type": "password"}
        try:
            reply = requests.post(facts.token_endpoint, data=form, timeout=self._deadline, allow_redirects=False)
            found: Any = reply.json()
        except (requests.RequestException, ValueError) as error:
            raise AuthorityError("The login server does not answer as expected.") from error
        if 400 <= reply.status_code < 500:
            raise CredentialsError("User name or password is not right.")
        if reply.status_code != 200 or not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
            raise AuthorityError("The login server does not answer as expected.")
        return {"access_token": found["access_token"], "token_type": "bearer", "expires_in": found.get("expires_in")}

    def known_name(self, username: str) -> str:
        """The realm keeps its own record of who tried; a name that it did not confirm may be anything."""
        return "(asked of the realm)"

    async def signed_in(self, token: str) -> SignedIn:
        facts = self._keys.fresh() or await self._fetched()
        try:
            claims = _claims(token, facts)
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
            if not self._keys.may_fetch():
                raise CredentialsError("The token is not valid: log in again.") from None
            claims = self._claims_or_refusal(token, await self._fetched())
        except jwt.InvalidTokenError as error:
            raise CredentialsError(f"The token is not valid ({_kind(error)}): log in again.") from error
        return self._user(claims)

    async def _fetched(self) -> RealmFacts:
        found: RealmFacts = await anyio.to_thread.run_sync(self._keys.fetch, limiter=self._one_fetch)
        return found

    @staticmethod
    def _claims_or_refusal(token: str, facts: RealmFacts) -> dict[str, Any]:
        try:
            return _claims(token, facts)
        except jwt.PyJWTError as error:
            raise CredentialsError("The token is not valid: log in again.") from error

    def _user(self, claims: dict[str, Any]) -> SignedIn:
        username = claims.get(self._fields.username)
        if not isinstance(username, str) or not username.isprintable() or not 0 < len(username) <= 200:
            raise CredentialsError(f"The token does not say who it is for ({self._fields.username}).")
        if claims.get("typ", "Bearer") not in ("Bearer", "JWT", "at+jwt"):
            raise CredentialsError("The token is no access token.")
        email, name = claims.get(self._fields.email), claims.get(self._fields.name)
        texts = [text if isinstance(text, str) else None for text in (email, name)]
        return SignedIn(username, _roles(claims, self._fields.roles), *texts)


def _claims(token: str, facts: RealmFacts) -> dict[str, Any]:
    """What a token says, its signature, algorithm, expiry and issuer checked."""
    header = jwt.get_unverified_header(token)
    if header.get("alg") != ALGORITHM:
        raise jwt.InvalidAlgorithmError("another algorithm")
    kid = header.get("kid")
    named = facts.keys.get(kid) if isinstance(kid, str) else None
    key = named if named is not None else facts.keys.get("") or (next(iter(facts.keys.values())) if kid is None else None)
    if key is None:
        raise jwt.InvalidKeyError("unknown key")
    options = {"require": ["exp"], "verify_aud": False, "verify_iss": facts.issuer is not None}
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[ALGORITHM],
        issuer=facts.issuer,
        leeway=LEEWAY_SECONDS,
        options=options,  # type: ignore[arg-type]
    )
    return claims


def _roles(claims: dict[str, Any], path: str) -> tuple[str, ...]:
    found: Any = claims
    for key in path.split("#"):
        found = found.get(key) if isinstance(found, dict) else None
    return tuple(role for role in found if isinstance(role, str)) if isinstance(found, list) else ()


def _kind(error: jwt.InvalidTokenError) -> str:
    return "expired" if isinstance(error, jwt.ExpiredSignatureError) else type(error).__name__.removesuffix("Error")
