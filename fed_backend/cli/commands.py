"""The tree of sub-commands: names and help here, everything else imported when it is called."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import click
import typer
from typer.core import TyperGroup
from typer.main import get_command

from fed_backend.cli.plain_help import repair_help


@dataclass(frozen=True)
class LazyCommand:
    """A sub-command that is not imported yet.

    Attributes:
        name: what it is called on the command line.
        help: its line in `fedsca --help`.
        module: module that holds it.
        attribute: in that module a `typer.Typer` (a group) or a function (one command).
    """

    name: str
    help: str
    module: str
    attribute: str

    def placeholder(self) -> click.Command:
        """Enough of a command to be listed."""
        return click.Command(self.name, short_help=self.help)

    def load(self) -> click.Command:
        """Import the real one."""
        found: typer.Typer | Callable[..., object] = getattr(import_module(self.module), self.attribute)
        if isinstance(found, typer.Typer):
            command = get_command(found)
        else:
            single = typer.Typer(add_completion=False, rich_markup_mode=None)
            single.command(self.name)(found)
            command = get_command(single)
        command.name = self.name
        return repair_help(command)


COMMANDS = (
    LazyCommand("demo", "Run the whole loop here: hospitals, server, tuning, rounds, report.", "fed_backend.demo.command", "demo"),
    LazyCommand("serve", "A hospital's server: MONAI Label, hardened.", "fed_backend.cli.handed_on", "serve_app"),
    LazyCommand("users", "Users of a hospital's server: add, list, remove, password, roles.", "fed_backend.cli.handed_on", "users_app"),
    LazyCommand("doctor", "Say what is installed, what is missing and how to get it.", "fed_backend.cli.doctor", "doctor"),
    LazyCommand("adapters", "A site's versions: list, show, activate, roll back, export.", "fed_backend.cli.adapters", "adapters_app"),
    LazyCommand("bench", "Measure: clicks, a soak, and whether the federation helps.", "fed_backend.cli.bench", "bench_app"),
    LazyCommand("audit", "Audit logs of site and server: verify their hash chain.", "fed_backend.cli.audit", "audit_app"),
    LazyCommand("server", "The federation's server: SuperLink, SGCA and rounds.", "fed_backend.cli.federation", "server_app"),
    LazyCommand("site", "A hospital's side of the federation: join, status.", "fed_backend.cli.federation", "site_app"),
)


class LazyGroup(TyperGroup):
    """A group that lists its commands without importing them and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [command.name for command in COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return next((command.placeholder() for command in COMMANDS if command.name == cmd_name), None)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name, found, rest = super().resolve_command(ctx, args)
        lazy = next((command for command in COMMANDS if found is not None and command.name == name), None)
        return name, found if lazy is None else lazy.load(), rest


def root_command() -> click.Command:
    """`fedsca` itself."""
    app = typer.Typer(cls=LazyGroup, add_completion=False, no_args_is_help=True, rich_markup_mode=None)

    @app.callback()
    def fedsca(
        version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ) -> None:
        """Segmentation models that learn from radiologists, across hospitals, without moving an image."""

    return repair_help(get_command(app))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fedsca-label {version('fedsca-label')}")
        raise typer.Exit
