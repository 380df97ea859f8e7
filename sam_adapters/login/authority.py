"""Who knows the users: the built-in user file (`user_file_login`) or a hospital's realm (`realm_login`). What both offer."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SignedIn:
    """A user whose token is valid. `roles` are MONAI Label's names of roles, e.g. monailabel-annotator."""

    username: str
    roles: tuple[str, ...]
    email: str | None = None
    name: str | None = None


class Authority(Protocol):
    """Checks passwords and tokens."""

    def description(self) -> dict[str, object]:
        """What `GET /auth/` says: enabled, client_id, realm."""

    def token(self, username: str, password: str) -> dict[str, object]:
        """A reply of OAuth 2 for a name and a password, with access_token and token_type. Blocks; called from worker threads.

        Raises:
            CredentialsError: they are not right; takes the same time for a user who does not exist.
            AuthorityError: nobody answers.
        """

    def known_name(self, username: str) -> str:
        """The name for the audit log, which shall hold nothing that is no user's name (people type passwords into the wrong field)."""

    async def signed_in(self, token: str) -> SignedIn:
        """The user of a token.

        Raises:
            CredentialsError: the token is not valid, or no longer.
            AuthorityError: nobody answers.
        """
