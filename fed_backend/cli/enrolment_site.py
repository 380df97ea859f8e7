"""`fedsca site enrol|accept|start|membership`: how a hospital becomes a member. What they need is imported when they are called."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from fed_backend.enrolment.membership import Membership

_SITE = typer.Option(..., "--site", help="The site directory that the hospital's MONAI Label server uses too; made when missing.")
_BUNDLE = typer.Argument(..., exists=True, dir_okay=False, help="File with the bundle, as it was sent.")


def enrol(
    site: Path = _SITE,
    name: str | None = typer.Option(None, "--name", help="Name to ask for; default: `name` in site.json."),
    out: Path | None = typer.Option(None, "--out", help="Write the request to this file as well."),
    new_keys: bool = typer.Option(False, "--new-keys", help="Make new keys: after a revocation, or in place of keys that may be known."),
) -> None:
    """Make this site's keys and print the request for the federation's operator.

    Private keys never leave <site>/federation. Send the text between the two lines, both included, by any way, and read the fingerprint to
    the operator over the phone. Calling this again prints a request for the same keys.
    """
    from fed_backend.enrolment import membership
    from sam_adapters import atomic
    from sam_adapters.settings import SiteSettings
    from sam_adapters.site_directory import SiteDirectory

    directory = SiteDirectory.open(site)
    text, fingerprint = membership.enrol(directory, name or SiteSettings.load(directory.settings_file).name, new_keys=new_keys)
    if out is not None:
        atomic.write_bytes(out, text.encode())
    typer.echo(text, nl=False)
    typer.echo(f"Fingerprint of the site: {fingerprint}")
    typer.echo("Send the text above to the federation's operator, and read the fingerprint over the phone when he calls.")


def accept(
    bundle: Path = _BUNDLE,
    site: Path = _SITE,
    fingerprint: str | None = typer.Option(
        None, "--fingerprint", help="The authority's fingerprint, as its operator read it to you; without it you are asked to compare."
    ),
    adopt_policy: bool = typer.Option(
        False, "--adopt-policy", help="Take the operator's proposal as <site>/policy.json, where there is none yet."
    ),
) -> None:
    """Open the bundle that the operator sent, verify it, and become a member.

    The first bundle needs the authority's fingerprint. Later ones must come from the same authority, and then need none. A member that runs
    goes on with what it knows until `fedsca site start` is called again.
    """
    from fed_backend.cli.enrolment_server import compare
    from fed_backend.enrolment import membership
    from sam_adapters.site_directory import SiteDirectory

    directory = SiteDirectory.open(site)
    text = bundle.read_text(encoding="utf-8", errors="replace")
    if fingerprint is None and membership.load(directory) is None:
        shown = membership.look_into(directory, text).authority_fingerprint
        compare("authority", shown, None)
        fingerprint = shown
    held = membership.accept(directory, text, fingerprint)
    typer.echo(f"Site {held.bundle.site} is a member of {held.bundle.federation} at {held.bundle.address}.")
    for sentence in _settle(directory.root, held, adopt_policy=adopt_policy):
        typer.echo(sentence)
    typer.echo(f"Start it with: fedsca site start --site {site}")


def start(
    site: Path = _SITE,
    port: int | None = typer.Option(None, min=1, max=65535, help="Loopback port for the node's own processes; default: a free one."),
    studies: Path | None = typer.Option(None, exists=True, help="MONAI Label datastore, where it is not <site>/studies."),
    trusted_entities: Path | None = typer.Option(
        None, exists=True, help="YAML file of public keys: run only bundles of Flower signed by one of them."
    ),
) -> None:
    """Take part in the federation that was accepted: stay in the foreground until Ctrl-C.

    Address, certificates and key are those of the accepted bundle; the node only connects outwards. See `fedsca site join --help` for what
    leaves the hospital and what never does.
    """
    from fed_backend.cli import federation
    from fed_backend.enrolment import membership
    from sam_adapters.site_directory import SiteDirectory

    held = membership.require(SiteDirectory.open(site))
    federation.join(
        site=site,
        superlink=held.bundle.address,
        port=port,
        name=held.bundle.site,
        studies=studies,
        root_certificates=held.roots_file.resolve(),
        node_key=held.node_key.resolve(),
        trusted_entities=trusted_entities,
    )


def show_membership(site: Path = _SITE) -> None:
    """Which federation this site is a member of, under which name and fingerprint, and how long its certificates last."""
    from fed_backend.enrolment import membership
    from fed_backend.enrolment.certificate_days import site_certificates
    from sam_adapters.provenance import utc_now
    from sam_adapters.site_directory import SiteDirectory

    directory = SiteDirectory.open(site)
    held = membership.require(directory)
    typer.echo(f"Site {held.bundle.site}, member of {held.bundle.federation} at {held.bundle.address} (bundle {held.bundle.number}).")
    typer.echo(f"Fingerprint of the site: {held.bundle.recipient}")
    typer.echo(f"Fingerprint of the authority: {held.bundle.authority_fingerprint}")
    for life in site_certificates(directory, utc_now()):
        typer.echo(life.sentence)


def add_to(app: typer.Typer) -> None:
    """Put these commands into `fedsca site`."""
    for name, command in (("enrol", enrol), ("accept", accept), ("start", start), ("membership", show_membership)):
        app.command(name)(command)


def _settle(root: Path, held: "Membership", *, adopt_policy: bool) -> list[str]:
    """Bring settings and policy in where the site has none of its own; say what differs where it has."""
    from fed_backend.enrolment.site_agreement import adopt_proposed_policy, adopt_settings

    return [*adopt_settings(root, held.bundle), *adopt_proposed_policy(root, held.bundle, wanted=adopt_policy)]
