"""A password from a prompt or, where there is no terminal, from the first line of the standard input.

Never from the command line, which every process of the machine can read.
"""

import getpass
import sys

from sam_adapters.errors import UserFileError
from sam_adapters.login import passwords


def read_password(name: str) -> str:
    """Ask for the password of `name`, twice where somebody types it.

    Raises:
        UserFileError: the two differ.
    """
    if not sys.stdin.isatty():
        return sys.stdin.readline(4 * passwords.LONGEST).rstrip("\r\n")
    first = getpass.getpass(f"Password of {name} ({passwords.SHORTEST} characters or more): ")
    if first != getpass.getpass("The same again: "):
        raise UserFileError("The two passwords differ: nothing was changed.")
    return first
