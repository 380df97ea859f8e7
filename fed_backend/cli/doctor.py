"""`fedsca doctor`: a table of what is here and what is not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fed_backend.cli.output import console, print_json
from fed_backend.doctor import examine, something_missing
from fed_backend.doctor_check import Check
from sam_adapters.errors import FedscaError
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

_STYLES = {"ok": "green", "warning": "yellow", "missing": "bold red"}


def doctor(
    site: Path | None = typer.Option(None, "--site", help="Look at this site directory as well."),
    studies: Path | None = typer.Option(None, "--studies", help="Its MONAI Label datastore, where it is not <site>/studies."),
    base: str | None = typer.Option(None, "--base", help="Base network to look for; default: the site's, else litemedsam."),
    speed: bool = typer.Option(False, "--speed", help="Measure how long a click takes here, with the site's settings: half a minute."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead."),
) -> None:
    """Say what is installed, which device and base are used, what is missing and how to get it.

    The exit code is 1 when something needed is missing, 0 otherwise; warnings do not count.
    """
    settings = _settings_of(site)
    wanted = base or settings.base
    with Console(stderr=True).status("Importing the packages and looking around …"):
        chosen = dataclasses.replace(settings, base=wanted) if speed else None
        checks = examine(base=wanted, site=site, studies=studies, speed=chosen)
    missing = something_missing(checks)
    if as_json:
        print_json({"ok": not missing, "checks": [check.to_dict() for check in checks]})
    else:
        out = console()
        out.print(_table(checks))
        out.print(_verdict(checks))
    raise typer.Exit(1 if missing else 0)


def _settings_of(site: Path | None) -> SiteSettings:
    """The site's settings; the defaults where they cannot be read (which the site's own check reports)."""
    try:
        return SiteSettings() if site is None else SiteSettings.load(SiteDirectory(site).settings_file)
    except FedscaError:
        return SiteSettings()


def _table(checks: Sequence[Check]) -> Table:
    with_remedy = any(check.remedy for check in checks)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("check", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("status", no_wrap=True)
    if with_remedy:
        table.add_column("what to do", overflow="fold")
    for check in checks:
        remedy = [check.remedy] if with_remedy else []
        table.add_row(check.name, check.found, Text(check.status, style=_STYLES[check.status]), *remedy)
    return table


def _verdict(checks: Sequence[Check]) -> Text:
    missing = sum(check.status == "missing" for check in checks)
    warnings = sum(check.status == "warning" for check in checks)
    if missing:
        return Text(f"{missing} missing, {warnings} warnings.", style=_STYLES["missing"])
    if warnings:
        return Text(f"Nothing is missing; {warnings} {'warning' if warnings == 1 else 'warnings'}.", style=_STYLES["warning"])
    return Text("Everything is here.", style=_STYLES["ok"])
