"""`fedsca adapters …`: look at a site's adapter versions, and decide by hand which one serves."""

import getpass
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from fed_backend.cli.output import console, minute, print_json
from sam_adapters.errors import RegistryError
from sam_adapters.registry import BASE, Decision, Registry, Version, id_or_base
from sam_adapters.site_directory import SiteDirectory

adapters_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="A site's adapter versions. A version may be named by the first four or more digits of its id, or as `active`.",
)

_SITE = typer.Option(..., "--site", help="The site directory, as given to the MONAI Label server.", show_default=False)
_JSON = typer.Option(False, "--json", help="Print JSON instead.")
_BY = typer.Option(None, "--by", help="Who decides; default: the user of this machine.", show_default=False)
_VERSION = typer.Argument(..., help="Version id, its first digits, or `active`.", show_default=False)
_VERSION_OR_BASE = typer.Argument(..., help="Version id, its first digits, or `base`.", show_default=False)


@adapters_app.command("list")
def list_versions(site: Path = _SITE, as_json: bool = _JSON) -> None:
    """List all versions, oldest first.

    Dice is the mean over the site's validation cases, as the gate compared it: of the version that was active then, and of this one.
    """
    with open_registry(site) as registry:
        versions, decisions, generation = registry.versions(), registry.decisions(), registry.generation()
        learnt_from = id_or_base(registry.learnt_from())
    active = next((version.id for version in versions if version.state == "active"), BASE)
    if as_json:
        rows = [{**version.to_dict(), "dice": dice(version.id, decisions)} for version in versions]
        print_json({"active": active, "learnt_from": learnt_from, "generation": generation, "versions": rows})
        return
    out = console()
    if not versions:
        out.print("No versions yet: the untuned base serves. The first one is made by local tuning or a federated round.")
        return
    out.print(_versions_table(versions, decisions))
    out.print(f"Active: {active}{_since(active, decisions)}")
    if learnt_from != active:
        out.print(
            f"Tunings and rounds go on from {learnt_from}, which is not served. "
            f"To go on from {active}: `fedsca adapters activate {active}`."
        )


@adapters_app.command("show")
def show(version: str = _VERSION, site: Path = _SITE, as_json: bool = _JSON) -> None:
    """Show where a version comes from, whether it is intact, and what was decided about it."""
    with open_registry(site) as registry:
        found = find_version(registry, version)
        problem, decisions = registry.verify(found.id), registry.decisions()
    about = [decision for decision in decisions if found.id in (decision.version, decision.previous)]
    folder = SiteDirectory(site.resolve()).adapters / found.id
    if as_json:
        decided = [decision.to_dict() for decision in about]
        print_json({**found.to_dict(), "folder": str(folder), "problem": problem, "dice": dice(found.id, decisions), "decisions": decided})
        return
    out = console()
    out.print(_facts_table(found, folder, problem))
    out.print(_decisions_table(about) if about else "Nothing was decided about it yet.")


@adapters_app.command("activate")
def activate(
    version: str = _VERSION_OR_BASE,
    site: Path = _SITE,
    reason: str = typer.Option("Activated by hand.", help="Why, for the history."),
    by: str | None = _BY,
    as_json: bool = _JSON,
) -> None:
    """Make a version (or the untuned base) the one that serves, at once and without a restart.

    Tunings and rounds go on from it too. Of the version that serves already, only that changes.
    """
    with open_registry(site) as registry:
        wanted = BASE if version == BASE else find_version(registry, version).id
        before = id_or_base(registry.active())
        registry.activate(wanted, reason=reason, by=by or _user())
        _report_switch(registry, before, as_json)


@adapters_app.command("rollback")
def rollback(
    site: Path = _SITE,
    reason: str = typer.Option("Rolled back by hand.", help="Why, for the history."),
    by: str | None = _BY,
    as_json: bool = _JSON,
) -> None:
    """Return to what served before; repeated, it goes further back, in the end to the untuned base. Tunings and rounds go on from there."""
    with open_registry(site) as registry:
        before = id_or_base(registry.active())
        registry.rollback(reason=reason, by=by or _user())
        _report_switch(registry, before, as_json)


@adapters_app.command("export")
def export(
    version: str = _VERSION,
    destination: Path = typer.Argument(..., help="Folder to make; it must not exist yet.", show_default=False),
    site: Path = _SITE,
    as_json: bool = _JSON,
) -> None:
    """Copy a version's PEFT folder, which anything that reads PEFT adapters can load."""
    if version == BASE:
        raise RegistryError("The untuned base has no adapter to export: name a version (see `fedsca adapters list`).")
    with open_registry(site) as registry:
        found = find_version(registry, version)
        registry.export(found.id, destination)
    if as_json:
        print_json({"version": found.id, "folder": str(destination.resolve())})
    else:
        console().print(f"Version {found.id} was copied to {destination.resolve()}.")


def open_registry(root: Path) -> Registry:
    """The registry of an existing site.

    Raises:
        RegistryError: the folder is no site directory, or its registry cannot be used.
    """
    site = SiteDirectory(root.resolve())
    if not site.registry_file.is_file():
        raise RegistryError(
            f"{root} is not a site directory: it holds no {site.registry_file.name}. Name the one of the MONAI Label server."
        )
    return Registry(site)


def find_version(registry: Registry, text: str) -> Version:
    """The version that `text` names: an id, its first four or more digits, or `active`.

    Raises:
        RegistryError: it names none, or more than one.
    """
    if text == "active":
        active = registry.active()
        if active is None:
            raise RegistryError("The untuned base is active, not a version (see `fedsca adapters list`).")
        return active
    if not re.fullmatch(r"[0-9a-f]{4,15}", text):
        return registry.get(text)
    found = [version for version in registry.versions() if version.id.startswith(text)]
    if not found:
        raise RegistryError(f"No version of this site begins with {text}: see `fedsca adapters list`.")
    if len(found) > 1:
        raise RegistryError(f"{text} begins {len(found)} versions: {', '.join(version.id for version in found)}. Give more digits.")
    return found[0]


def dice(version_id: str, decisions: Sequence[Decision]) -> dict[str, float] | None:
    """Mean Dice `before` (of what was active) and `after` (of this version) in the last comparison of it; None if there was none."""
    for decision in reversed(decisions):
        overall = decision.figures.get("overall")
        if decision.version == version_id and isinstance(overall, Mapping) and {"active", "candidate"} <= set(overall):
            return {"before": float(overall["active"]), "after": float(overall["candidate"])}
    return None


def _versions_table(versions: Sequence[Version], decisions: Sequence[Decision]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("version", "state", "kind", "created", "round", "parents", "cases", "Dice"):
        numbers = name in ("round", "cases")
        table.add_column(name, justify="right" if numbers else "left", no_wrap=name != "created")
    for version in versions:
        figures = dice(version.id, decisions)
        table.add_row(
            version.id,
            version.state,
            version.kind,
            minute(version.created),
            "" if version.round is None else str(version.round),
            ", ".join(parent[:8] for parent in version.parents) or BASE,
            str(version.cases),
            "" if figures is None else f"{figures['before']:.3f}→{figures['after']:.3f}",
            style="bold" if version.state == "active" else None,
        )
    return table


def _since(active: str, decisions: Sequence[Decision]) -> str:
    """When and why the active version became active, as the rest of a line."""
    last = next((decision for decision in reversed(decisions) if decision.previous is not None), None)
    if last is None or last.version != active:
        return ", nothing was ever activated"
    return f", {last.action} {minute(last.at)} by {last.by}: {last.reason}"


def _facts_table(version: Version, folder: Path, problem: str | None) -> Table:
    provenance = version.provenance
    facts: dict[str, object] = {
        "version": version.id,
        "state": version.state,
        "contents": problem or "intact",
        "kind": {"local": "local (tuned here)", "mixture": "mixture (from the federation)", "imported": "imported"}[version.kind],
        "created": minute(version.created),
        "site": provenance.site,
        "federation": provenance.federation,
        "round": provenance.round,
        "parents": ", ".join(version.parents) or BASE,
        "cases": version.cases,
        "labels": ", ".join(sorted(provenance.labels)),
        "weights": _pairs(provenance.weights),
        "metrics": _pairs(version.metrics),
        "settings": _pairs(provenance.settings),
        "base": version.base,
        "schema": version.schema_id,
        "folder": folder,
    }
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None and value != "":
            table.add_row(name, str(value))
    return table


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())


def _decisions_table(decisions: Sequence[Decision]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="Decisions", title_justify="left", title_style="bold")
    for name in ("when", "what", "by", "why"):
        table.add_column(name)
    for decision in decisions:
        what = str(decision.action)
        if decision.previous is not None:
            what = f"{decision.action}: {decision.previous[:8]} → {decision.version[:8]}"
        table.add_row(minute(decision.at), what, decision.by, decision.reason)
    return table


def _report_switch(registry: Registry, before: str, as_json: bool) -> None:
    now = id_or_base(registry.active())
    if as_json:
        values = {"active": now, "learnt_from": id_or_base(registry.learnt_from()), "previous": before, "generation": registry.generation()}
        print_json(values)
    elif now == before:
        console().print(f"Active: {now}, as before. Tunings and rounds go on from it.")
    else:
        console().print(f"Active: {now} (before: {before}). The MONAI Label server serves it from the next request on.")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "person"
