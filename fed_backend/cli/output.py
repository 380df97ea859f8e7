"""How the command prints: tables that fit the terminal, JSON that other programs read."""

import json
import os
import sys
from datetime import datetime
from typing import Any

import typer
from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 200
"""Columns where the output goes into a file or a pipe, so that nothing is broken into lines there."""


def console() -> Console:
    """A console on the standard output; text is printed as it is, never read as markup."""
    measured = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if measured else WIDTH_WITHOUT_TERMINAL, markup=False, emoji=False, highlight=False)


def print_json(value: Any) -> None:
    """Print a JSON value, indented."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def minute(time: datetime) -> str:
    """A time to the minute, in the time zone of this machine."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M")
