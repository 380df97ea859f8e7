"""The `fedsca` command. Each sub-command's module is imported only when that sub-command is called, so help is quick and `fedsca doctor`
works where a package is missing.
"""

import errno
import sys
from collections.abc import Sequence

from sam_adapters.errors import FedscaError

__all__ = ["main"]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `fedsca` with the given arguments (default: those of the process) and exit.

    Exit codes: 0 done, 1 done and something is not well (e.g. `doctor` found something missing), 2 wrong usage, a FedscaError or
    a full disk, told in one sentence on the error stream.
    """
    from fed_backend.cli.commands import root_command

    try:
        root_command().main(args=None if arguments is None else list(arguments), prog_name="fedsca")
    except FedscaError as error:
        print(f"fedsca: {error}", file=sys.stderr)  # noqa: T201 - this is the command's error stream
        sys.exit(2)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        sentence = f"{error.strerror}: make room on the disk of {error.filename or 'this folder'}, then give the command again."
        print(f"fedsca: {sentence}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
