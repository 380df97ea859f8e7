"""The built-in login's users, for a hospital without a login server: one JSON file, mode 0600. No torch, no MONAI Label.

{"format": 1, "secret": "<64 hex digits, signs the tokens>",
 "users": {"anna": {"password": "$argon2id$...", "roles": ["annotator"], "credential": "<16 hex digits>"}}}

A user's `credential` is drawn anew with every password: tokens name it, so they end with it.
Processes: any number may read and change at once. A change holds the `flock` of `<file>.lock`, and replaces the file atomically; readers
see the old file or the new one. Every reading reads the file, so a change holds at once in a running server.
"""

import json
import re
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam_adapters import atomic, file_lock
from sam_adapters.errors import RegistryError, UserFileError

FORMAT = 1
ROLES = ("user", "annotator", "reviewer", "admin")
"""MONAI Label's roles, the smallest first. Each may do what those before it may."""

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
MAX_USERS = 10_000
MAX_BYTES = 8 << 20


@dataclass(frozen=True)
class UserEntry:
    """One user.

    Attributes:
        password: argon2id hash.
        roles: some of `ROLES`, as they were given.
        credential: drawn anew with every password.
    """

    password: str
    roles: tuple[str, ...]
    credential: str


@dataclass(frozen=True)
class UserTable:
    """What the file holds: the key that signs tokens (32 bytes) and the users by name."""

    secret: bytes
    users: Mapping[str, UserEntry]

    @classmethod
    def empty(cls) -> "UserTable":
        """No users, and a fresh key."""
        return cls(secrets.token_bytes(32), {})

    def to_json(self) -> bytes:
        """The file's bytes."""
        users = {
            name: {"password": user.password, "roles": list(user.roles), "credential": user.credential} for name, user in self.users.items()
        }
        return (json.dumps({"format": FORMAT, "secret": self.secret.hex(), "users": users}, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> "UserTable":
        """Inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError: the bytes are no user file.
        """
        value: Any = json.loads(data)
        if not isinstance(value, dict) or value["format"] != FORMAT:
            raise ValueError(f"expected a JSON object of format {FORMAT}")
        secret = bytes.fromhex(value["secret"])
        if len(secret) != 32:
            raise ValueError(f"the key has {len(secret)} bytes, expected 32")
        users = {
            checked_name(name): UserEntry(str(user["password"]), checked_roles(user["roles"]), str(user["credential"]))
            for name, user in value["users"].items()
        }
        return cls(secret, users)


def checked_name(text: str) -> str:
    """A user's name, lower case, else UserFileError."""
    name = text.strip().lower()
    if not NAME_PATTERN.fullmatch(name):
        raise UserFileError(f"User name {text[:80]!a} cannot be used: expected 1 to 64 letters, digits, '.', '_', '-' or '@'.")
    return name


def checked_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """The roles in the order of `ROLES`, each once, else UserFileError."""
    unknown = [role for role in roles if role not in ROLES]
    if unknown or not roles or isinstance(roles, str):
        raise UserFileError(f"Roles {', '.join(map(ascii, roles)) or 'none'} cannot be used: expected some of {', '.join(ROLES)}.")
    return tuple(role for role in ROLES if role in roles)


def implied_roles(roles: Sequence[str]) -> tuple[str, ...]:
    """The roles that somebody with `roles` has: the highest of them and all below it."""
    return ROLES[: max((ROLES.index(role) for role in roles), default=-1) + 1]


class UserFile:
    """A user file by its path; see the module for processes."""

    def __init__(self, path: Path, *, timeout: float = 10.0, command: str = "fedsca users") -> None:
        """`timeout`: seconds that a change waits for other processes. `command`: what changes this file, for the errors' sentences."""
        self.path = path
        self.command = command
        self._timeout = timeout
        self._parsed: tuple[bytes, UserTable] | None = None

    def table(self) -> UserTable:
        """What the file holds now.

        Raises:
            UserFileError: there is none, others may read it, or it is damaged.
        """
        try:
            if stat.S_IMODE(self.path.stat().st_mode) & 0o077:
                raise UserFileError(f"User file {self.path} can be read by others on this machine: chmod 600 it.")
            with self.path.open("rb") as stream:
                data = stream.read(MAX_BYTES)
        except OSError as error:
            raise UserFileError(f"User file {self.path} cannot be read ({error.strerror}): `{self.command} add` makes one.") from error
        parsed = self._parsed
        if parsed is None or parsed[0] != data:
            try:
                parsed = self._parsed = (data, UserTable.from_json(data))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserFileError(f"User file {self.path} is damaged ({error}): restore it from a backup.") from error
        return parsed[1]

    def add(self, name: str, password_hash: str, roles: Sequence[str]) -> None:
        """Add a user; makes the file when missing.

        Raises:
            UserFileError: there is such a user already, or name or roles cannot be used.
        """
        entry = UserEntry(password_hash, checked_roles(roles), secrets.token_hex(8))

        def change(users: dict[str, UserEntry]) -> None:
            if checked_name(name) in users:
                raise UserFileError(f"There is a user {name} already: `{self.command} --help` says how to change one.")
            if len(users) >= MAX_USERS:
                raise UserFileError(f"The file holds {MAX_USERS} users, more are not taken: use a realm.")
            users[checked_name(name)] = entry

        self._change(change, make=True)

    def remove(self, name: str) -> None:
        """Remove a user, or raise UserFileError if there is none of that name."""
        self._change(lambda users: self._pop(users, name))

    def set_password(self, name: str, password_hash: str) -> None:
        """Give a user another password and end all of their tokens. UserFileError if there is none of that name."""
        self._replace(name, lambda user: replace(user, password=password_hash, credential=secrets.token_hex(8)))

    def set_roles(self, name: str, roles: Sequence[str]) -> None:
        """Give a user other roles, at once. UserFileError if there is none of that name, or for other roles than `ROLES`."""
        chosen = checked_roles(roles)
        self._replace(name, lambda user: replace(user, roles=chosen))

    def _replace(self, name: str, change: Callable[[UserEntry], UserEntry]) -> None:
        def apply(users: dict[str, UserEntry]) -> None:
            users[checked_name(name)] = change(self._pop(users, name))

        self._change(apply)

    def _change(self, change: Callable[[dict[str, UserEntry]], object], *, make: bool = False) -> None:
        """Change the users under the lock and write the file."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with file_lock.locked(self.path.with_name(self.path.name + ".lock"), timeout=self._timeout):
                table = UserTable.empty() if make and not self.path.exists() else self.table()
                users = dict(table.users)
                change(users)
                atomic.write_bytes(self.path, replace(table, users=users).to_json())
        except (OSError, RegistryError) as error:
            raise UserFileError(f"User file {self.path} cannot be changed: {error}") from error

    def _pop(self, users: dict[str, UserEntry], name: str) -> UserEntry:
        found = users.pop(checked_name(name), None)
        if found is None:
            raise UserFileError(f"There is no user {name} in this file: `{self.command} list` shows who there is.")
        return found
