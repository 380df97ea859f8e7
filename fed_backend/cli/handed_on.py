"""`fedsca serve` and `fedsca users`: commands of the app, which the federation may not import. They are executed as Python modules, with
their options as they are; help included.
"""

import os
import sys

import typer

_AS_IT_IS = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False, "help_option_names": []}

serve_app = typer.Typer(add_completion=False, rich_markup_mode=None)
users_app = typer.Typer(add_completion=False, rich_markup_mode=None)


@serve_app.command("serve", context_settings=_AS_IT_IS)
def serve(context: typer.Context) -> None:
    """Start a hospital's server. Options: `fedsca serve --help`."""
    _become("monailabel_app.serve", context.args)


@users_app.command("users", context_settings=_AS_IT_IS)
def users(context: typer.Context) -> None:
    """Keep the users of the built-in login. Options: `fedsca users --help`."""
    _become("monailabel_app.users", context.args)


def _become(module: str, arguments: list[str]) -> None:
    """Replace this process, so that signals and exit code are the module's own."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *arguments])  # noqa: S606 - a fixed list, no shell; -P: no modules from the working folder
