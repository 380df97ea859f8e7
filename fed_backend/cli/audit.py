"""`fedsca audit …`: is a log what was written, and what to tell the other side so that it can say so too."""

from pathlib import Path

import typer

from fed_backend.errors import FederationError

audit_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="Audit logs: verify them, print their head."
)

_SITE = typer.Option(None, "--site", help="A site directory: its audit.jsonl is meant.")
_STATE = typer.Option(None, "--state", help="Folder of the server's state: its audit.jsonl is meant.")


@audit_app.command("verify")
def verify(
    site: Path | None = _SITE,
    state: Path | None = _STATE,
    anchor: list[str] = typer.Option([], help="A chain value that this log had once (may be given again): it must still be in the chain."),
    told: Path | None = typer.Option(
        None, exists=True, dir_okay=False, help="Audit log of the other side: the chain values that this log told it must be in the chain."
    ),
) -> None:
    """Check every line of an audit log against its hash chain. Exit code 1 if one was changed, taken out, put in, or torn at the end.

    Whoever can write the file can also cut its end off, or write it anew from some line on, with a chain that fits. That is noticed by
    comparing with what the other side was told: a site tells the server its last chain value in every round and the other way round, and
    both keep them in their own log. Give that log as --told, or the values as --anchor.
    """
    from fed_backend.audit_anchors import anchors_told_by
    from sam_adapters.audit_chain import is_chain_value, verify

    path = _log(site, state)
    wrong = [value for value in anchor if not is_chain_value(value)]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is no chain value, expected 64 hexadecimal digits.")
    anchors = [*anchor, *(anchors_told_by(told, _name(site)) if told is not None else [])]
    try:
        verdict = verify(path, anchors)
    except OSError as error:
        raise FederationError(f"{path} cannot be read ({error.strerror}): check the folder, and this user's rights.") from error
    if verdict.chained_from is None:
        typer.echo(f"{verdict.lines} lines, none with a chain: older software wrote them, nothing can be said of them.")
    elif verdict.chained_from > 1:
        typer.echo(f"The chain begins at line {verdict.chained_from}; the lines above are older and are held by it only from there on.")
    for number in verdict.torn:
        typer.echo(f"Line {number} was torn by a crash; the line below it holds what is left.")
    if verdict.bad is not None:
        typer.echo(f"{path}: {verdict.bad} Lines above it are what was written.")
    elif verdict.missing:
        typer.echo(
            f"{path}: {len(verdict.missing)} of {len(set(anchors))} chain values that were told are no longer in it, "
            f"{verdict.missing[0][:16]}… among them: its end was cut off, or it was written anew."
        )
    else:
        held = f", {len(set(anchors))} told chain values found" if anchors else ""
        typer.echo(f"{path}: {verdict.lines} lines, all as written{held}. Head: {verdict.head}")
    if not verdict.good:
        raise typer.Exit(1)


@audit_app.command("head")
def head(site: Path | None = _SITE, state: Path | None = _STATE) -> None:
    """Print the chain value of a log's last line. Keep it elsewhere: `fedsca audit verify --anchor` then shows that nothing was cut off."""
    from sam_adapters.audit import AuditLog

    typer.echo(AuditLog(_log(site, state)).head())


def _log(site: Path | None, state: Path | None) -> Path:
    from fed_backend.audit_anchors import server_log
    from sam_adapters.site_directory import SiteDirectory

    if site is not None and state is None:
        return SiteDirectory(site).audit_file
    if state is not None and site is None:
        return server_log(state).path
    raise typer.BadParameter("Name one log: --site DIR or --state DIR.")


def _name(site: Path | None) -> str | None:
    """The site's name, under which the server keeps what it was told; None for the server's own log."""
    if site is None:
        return None
    from sam_adapters.settings import SiteSettings
    from sam_adapters.site_directory import SiteDirectory

    return SiteSettings.load(SiteDirectory(site).settings_file).name
