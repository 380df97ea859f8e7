"""`python -m monailabel_app.users`, which `fedsca users` executes: the users of the built-in login. No torch, no MONAI Label.

Passwords come from a prompt or, where there is no terminal, from the first line of the standard input; never from the command line, which
every process of the machine can read.
"""

import argparse
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sam_adapters.audit import AuditLog
from sam_adapters.errors import FedscaError, UserFileError
from sam_adapters.login import passwords
from sam_adapters.login.password_prompt import read_password
from sam_adapters.login.user_file import ROLES, UserFile, checked_name, checked_roles, implied_roles

AUDIT_NAME = "audit.jsonl"

DESCRIPTION = """\
Keep the users of the built-in login, for a hospital without a login server.

  fedsca users add anna --users north/users.json --role annotator
  fedsca users list --users north/users.json

Roles: user (see images, segment), annotator (save labels), reviewer, admin (tune, activate versions, remove); each may do
what those before it may. Every change holds at once in a running server: a removed user is out, a new password ends the
user's logins. Keep the file in the site directory: changes are written to the audit.jsonl beside it.

The password is asked for; without a terminal it is the first line of the standard input."""


def main(arguments: Sequence[str]) -> int:
    """Do what is asked; 2 and a sentence on the error stream when that cannot be."""
    given = _parser().parse_args(list(arguments))
    try:
        file = UserFile(_path(given.users))
        if given.action == "list":
            _list(file)
        else:
            _change(given, file)
    except FedscaError as error:
        print(f"fedsca: {error}", file=sys.stderr)  # noqa: T201 - this is the command's error stream
        return 2
    except (KeyboardInterrupt, EOFError):
        print("fedsca: nothing was changed.", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _change(given: argparse.Namespace, file: UserFile) -> None:
    name = checked_name(given.name)
    if given.action == "add":
        roles = checked_roles(given.role or ["annotator"])
        file.add(name, passwords.hashed(passwords.checked_password(read_password(name), name)), roles)
        _record(file, "user_added", user=name, roles=" ".join(roles))
    elif given.action == "remove":
        file.remove(name)
        _record(file, "user_removed", user=name)
    elif given.action == "password":
        if name not in file.table().users:
            raise UserFileError(f"There is no user {name} in this file: `fedsca users list` shows who there is.")
        file.set_password(name, passwords.hashed(passwords.checked_password(read_password(name), name)))
        _record(file, "password_changed", user=name)
    else:
        file.set_roles(name, given.role)
        _record(file, "roles_changed", user=name, roles=" ".join(checked_roles(given.role)))


def _list(file: UserFile) -> None:
    for name, user in sorted(file.table().users.items()):
        print(f"{name:<24} {' '.join(implied_roles(user.roles))}")  # noqa: T201 - this is the command's output


def _record(file: UserFile, event: str, **what: str) -> None:
    AuditLog(file.path.parent / AUDIT_NAME).record(event, who=getpass.getuser(), address="this machine", **what)


def _path(named: Path | None) -> Path:
    text = str(named) if named is not None else os.environ.get("FEDSCA_USERS", "")
    if not text:
        raise UserFileError("Which user file? Give --users FILE, best in the site directory: <site>/users.json.")
    return Path(text).expanduser().resolve()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "fedsca users", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, text in (
        ("add", "add a user"),
        ("list", "show users and roles"),
        ("remove", "remove a user, ending all logins"),
        ("password", "give a user another password, ending all logins"),
        ("roles", "give a user other roles"),
    ):
        below = actions.add_parser(action, help=text, allow_abbrev=False)
        below.add_argument("--users", type=Path, metavar="FILE", help="the user file; default: the variable FEDSCA_USERS")
        if action != "list":
            below.add_argument("name", help="the user's name")
        if action in ("add", "roles"):
            below.add_argument(
                "--role", action="append", choices=ROLES, required=action == "roles", help="a role; may be repeated [annotator]"
            )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
