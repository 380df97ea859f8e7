"""Password hashes (argon2id, RFC 9106) and which passwords are taken. A check takes as long for a user who does not exist."""

import unicodedata

from argon2 import PasswordHasher, Type
from argon2.exceptions import Argon2Error, InvalidHashError

from sam_adapters.errors import UserFileError

SHORTEST, LONGEST = 12, 256
"""Length of a password in characters."""

_HASHER = PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4, type=Type.ID)  # RFC 9106, second recommended option
_NOBODY = _HASHER.hash("nobody has this password")


def checked_password(password: str, name: str) -> str:
    """The password as it is hashed (Unicode NFKC: the same on every keyboard).

    Raises:
        UserFileError: too short, too long, with control characters, or too near to the user's name. Never shows the password.
    """
    normal = unicodedata.normalize("NFKC", password)
    if not SHORTEST <= len(normal) <= LONGEST or not normal.isprintable():
        raise UserFileError(f"The password cannot be used: expected {SHORTEST} to {LONGEST} characters on one line.")
    if name.lower() in normal.lower() and len(normal) < len(name) + SHORTEST:
        raise UserFileError("The password cannot be used: it is little more than the user's name.")
    return normal


def hashed(password: str) -> str:
    """The hash of a password, with its salt and parameters; about 0.1 s and 64 MiB."""
    return _HASHER.hash(password)


def matches(kept: str | None, password: str) -> bool:
    """Whether a password is the one of the kept hash. None (no such user) takes the same time and is never right."""
    try:
        right = _HASHER.verify(kept if kept is not None else _NOBODY, unicodedata.normalize("NFKC", password[: LONGEST * 4]))
    except (Argon2Error, InvalidHashError):
        return False
    return right and kept is not None
