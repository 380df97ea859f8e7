"""The built-in login: passwords against the user file, short-lived signed tokens (JWT, HS256).

A token says who and which credential, nothing else: roles are looked up at every request, and a token ends at once when its user is
removed or the password changed.
"""

import time
from collections.abc import Callable, Mapping

import jwt

from sam_adapters.errors import AuthorityError, CredentialsError, UserFileError
from sam_adapters.login import passwords
from sam_adapters.login.authority import SignedIn
from sam_adapters.login.user_file import UserFile, UserTable, implied_roles

ISSUER = "fedsca-label"
ALGORITHM = "HS256"


class UserFileLogin:
    """An `Authority` on a user file."""

    def __init__(
        self, file: UserFile, role_names: Mapping[str, str], *, minutes: float = 60, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            file: the users.
            role_names: MONAI Label's name of each role of `user_file.ROLES`.
            minutes: how long a token is valid.
            clock: seconds since 1970.
        """
        self._file = file
        self._role_names = dict(role_names)
        self._seconds = round(minutes * 60)
        self._clock = clock

    def description(self) -> dict[str, object]:
        return {"enabled": True, "client_id": ISSUER, "realm": "user file"}

    def token(self, username: str, password: str) -> dict[str, object]:
        table = self._table()
        name = username.strip().lower()
        user = table.users.get(name)
        if not passwords.matches(user.password if user is not None else None, password) or user is None:
            raise CredentialsError("User name or password is not right.")
        now = int(self._clock())
        claims = {"iss": ISSUER, "sub": name, "credential": user.credential, "iat": now, "exp": now + self._seconds}
        token = jwt.encode(claims, table.secret, algorithm=ALGORITHM)
        return {"access_token": token, "token_type": "bearer", "expires_in": self._seconds}

    def known_name(self, username: str) -> str:
        name = username.strip().lower()
        return name if name in self._table().users else "(unknown)"

    async def signed_in(self, token: str) -> SignedIn:
        table = self._table()
        options = {"require": ["iss", "sub", "exp", "iat"], "verify_exp": False, "verify_iat": False}
        try:
            claims = jwt.decode(token, table.secret, algorithms=[ALGORITHM], issuer=ISSUER, options=options)  # type: ignore[arg-type]
        except jwt.InvalidTokenError as error:
            raise CredentialsError("The token is not valid: log in again.") from error
        user = table.users.get(str(claims["sub"]))
        if not isinstance(claims["exp"], int) or claims["exp"] <= self._clock():
            raise CredentialsError("The token has expired: log in again.")
        if user is None or claims.get("credential") != user.credential:
            raise CredentialsError("The token is no longer valid: log in again.")
        return SignedIn(str(claims["sub"]), tuple(self._role_names[role] for role in implied_roles(user.roles)))

    def _table(self) -> UserTable:
        try:
            return self._file.table()
        except UserFileError as error:
            raise AuthorityError("The login is out of order: the server's user file cannot be read.") from error
