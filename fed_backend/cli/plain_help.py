"""Help pages as they are meant. flwr holds typer below 0.21, huggingface_hub holds click at 8.4 or newer, and together these two

- lose the help of arguments: click's Argument got a `help` of its own, which overwrites the one that typer has just set; once it is set
  again, both would print a section of arguments;
- print a backslash before every "[default: …]" and "[required]", meant for rich, where rich does not format the help.
"""

import inspect
from collections.abc import Iterable

import click
import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo


class PlainFormatter(click.HelpFormatter):
    """Writes brackets without a backslash before them."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, text.replace(r"\[", "[")) for name, text in rows], col_max, col_spacing)


class PlainContext(typer.Context):
    formatter_class = PlainFormatter


def repair_help(command: click.Command) -> click.Command:
    """Put the help of a command and of all below it right, in place; returns it."""
    command.context_class = PlainContext
    if isinstance(command, TyperCommand):
        command.format_arguments = _leave_arguments_to_typer  # type: ignore[method-assign,assignment]
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and not getattr(parameter, "help", None):
            parameter.help = _written_help(command, parameter.name)  # type: ignore[attr-defined,unused-ignore]
    if isinstance(command, click.Group):
        for below in command.commands.values():
            repair_help(below)
    return command


def _leave_arguments_to_typer(_context: click.Context, _formatter: click.HelpFormatter) -> None:
    """In place of click's section of arguments."""


def _written_help(command: click.Command, name: str | None) -> str | None:
    """The help that the command's function gives an argument: as default, or in Annotated."""
    if command.callback is None or name is None:
        return None
    declared = inspect.signature(command.callback).parameters.get(name)
    if declared is None:
        return None
    candidates = (declared.default, *getattr(declared.annotation, "__metadata__", ()))
    return next((found.help for found in candidates if isinstance(found, ArgumentInfo)), None)
