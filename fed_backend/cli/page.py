"""`fedsca server page` and `fedsca server users`. What they need is imported when they are called."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sam_adapters.login.user_file import UserFile

page_users_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Who may look at the operator's page: add, list, remove."
)

_STATE = typer.Option(..., "--state", help="Folder of the server's state, as for `fedsca server start`.")


def page(
    state: Path = _STATE,
    host: str = typer.Option("127.0.0.1", help="Address to listen on. Anything but loopback needs the two TLS files."),
    port: int = typer.Option(9190, min=1, max=65535, help="Port of the page."),
    ssl_cert: Path | None = typer.Option(None, exists=True, help="PEM file of the page's certificate."),
    ssl_key: Path | None = typer.Option(None, exists=True, help="PEM file of the certificate's private key."),
    minutes: float = typer.Option(60.0, help="How long a login lasts."),
    metrics_token: Path | None = typer.Option(
        None, exists=True, help="File (mode 0600) with a token that lets Prometheus read /metrics. Make one: openssl rand -hex 32"
    ),
) -> None:
    """Serve the operator's page: rounds, sites, who helps whom, bytes, refusals, privacy, next round. It changes nothing.

    Everybody who looks logs in: add a user with `fedsca server users add NAME --state DIR` first. Logins are written to
    <state>/audit.jsonl. From another machine, best reach it through SSH: ssh -L 9190:127.0.0.1:9190 server.
    """
    from fed_backend import launch
    from fed_backend.errors import LaunchError
    from fed_backend.page.page_options import USERS_FILE, PageOptions, read_token
    from fed_backend.page.serve import serve

    if not state.is_dir():
        raise LaunchError(f"There is no folder {state}: name the one of `fedsca server start`.")
    options = PageOptions(state.resolve(), host, port, ssl_cert, ssl_key, minutes, read_token(metrics_token))
    if launch.answers(launch.reached_at(host), port):
        raise LaunchError(f"Something listens on {host}:{port} already: stop it, or choose another --port.")
    if not (state / USERS_FILE).exists():
        typer.echo(f"Nobody can log in yet: add a user with `fedsca server users add NAME --state {state}`.", err=True)
    typer.echo(f"The page is at {options.url} Ctrl-C ends.")
    serve(options)


@page_users_app.command("add")
def add(name: str = typer.Argument(help="The user's name."), state: Path = _STATE) -> None:
    """Add a user. The password is asked for; without a terminal it is the first line of the standard input."""
    from sam_adapters.login import passwords
    from sam_adapters.login.password_prompt import read_password
    from sam_adapters.login.user_file import checked_name

    file, name = _file(state), checked_name(name)
    file.add(name, passwords.hashed(passwords.checked_password(read_password(name), name)), ["user"])
    _record(state, "page_user_added", name)


@page_users_app.command("list")
def list_users(state: Path = _STATE) -> None:
    """Show who may look at the page."""
    for name in sorted(_file(state).table().users):
        typer.echo(name)


@page_users_app.command("remove")
def remove(name: str = typer.Argument(help="The user's name."), state: Path = _STATE) -> None:
    """Remove a user; a login that is open ends at once."""
    from sam_adapters.login.user_file import checked_name

    _file(state).remove(name)
    _record(state, "page_user_removed", checked_name(name))


@page_users_app.command("password")
def password(name: str = typer.Argument(help="The user's name."), state: Path = _STATE) -> None:
    """Give a user another password; a login that is open ends at once."""
    from sam_adapters.login import passwords
    from sam_adapters.login.password_prompt import read_password
    from sam_adapters.login.user_file import checked_name

    file, name = _file(state), checked_name(name)
    file.set_password(name, passwords.hashed(passwords.checked_password(read_password(name), name)))
    _record(state, "page_password_changed", name)


def _file(state: Path) -> "UserFile":
    from fed_backend.errors import LaunchError
    from fed_backend.page.page_options import USERS_FILE
    from sam_adapters.login.user_file import UserFile

    if not state.is_dir():
        raise LaunchError(f"There is no folder {state}: name the one of `fedsca server start`.")
    return UserFile(state / USERS_FILE, command="fedsca server users")


def _record(state: Path, event: str, name: str) -> None:
    import getpass

    from fed_backend.audit_anchors import server_log

    server_log(state).record(event, who=getpass.getuser(), address="this machine", user=name)
