"""`fedsca server quarantine list|release`: who is not believed at present, and letting somebody out. Imports when called."""

from pathlib import Path

import typer

from fed_backend.errors import LaunchError

quarantine_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Sites whose updates were not plausible: list, release."
)

_STATE = typer.Option(..., "--state", help="Folder of the server's state.")


@quarantine_app.command("list")
def list_sites(state: Path = _STATE) -> None:
    """Who is in quarantine, since which round and why, and who was refused once lately.

    A site in quarantine is heard and told why, but nothing of it enters a mixture. Three plausible updates in a row end it.
    """
    from fed_backend import quarantine
    from fed_backend.cli.federation import print_table

    book = quarantine.load(state)
    rows = []
    for site, trust in sorted(book.sites.items()):
        if trust.since is not None:
            rows.append([site, f"since round {trust.since}", f"{len(trust.good)} of {quarantine.GOOD_UPDATES}", trust.reason])
        elif trust.strikes:
            rows.append([site, f"refused in round {trust.strikes[-1]}", "", trust.reason])
    if not rows:
        typer.echo("Nobody is in quarantine, and nobody was refused lately.")
        return
    print_table(["site", "state", "plausible updates", "why"], rows)


@quarantine_app.command("release")
def release(site: str = typer.Argument(..., help="The site's name."), state: Path = _STATE) -> None:
    """Let a site out of quarantine, once you know what happened there. Its next update counts again if the checks take it.

    Ask the hospital to look at its last tuning and to roll back first: what it sent last is given to others as soon as it is released.
    Works while a round is running. It is written into the server's audit log.
    """
    from fed_backend import quarantine
    from fed_backend.audit_anchors import server_log

    known = quarantine.load(state).of(site)
    if known.since is None and not known.strikes:
        raise LaunchError(f"{site} is not in quarantine: see `fedsca server quarantine list --state {state}`.")
    quarantine.change(state, lambda book: quarantine.released(book, site))
    server_log(state).record("quarantine_released", site=site, since=known.since, reason=known.reason)
    typer.echo(f"{site} is released.")
