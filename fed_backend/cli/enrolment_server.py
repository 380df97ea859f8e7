"""`fedsca server init|approve|bundle|revoke|renew|roster|sync`: who is let in. What they need is imported when they are called."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fed_backend import launch

if TYPE_CHECKING:
    from fed_backend.enrolment.approval import Approval
    from fed_backend.run_config import FederationSettings

_STATE = typer.Option(..., "--state", help="Folder of the server's state.")
_POLICY = typer.Option(None, exists=True, help="JSON file: a site policy to propose. The site decides whether it takes it.")


def init(
    state: Path = _STATE,
    host: list[str] = typer.Option(
        ..., "--host", help="Name or address under which sites reach this server; may be given again. They are told the first."
    ),
    name: str | None = typer.Option(None, "--name", help="Name of the federation, for people."),
    port: int = typer.Option(launch.DEFAULT_SUPERLINK_PORT, min=1, max=65535, help="Port that sites are told."),
    ssl_ca: Path | None = typer.Option(
        None, exists=True, help="The hospital's own: PEM file of the authority that signed the certificate."
    ),
    ssl_cert: Path | None = typer.Option(None, exists=True, help="The hospital's own: PEM file of the server's certificate."),
    ssl_key: Path | None = typer.Option(None, exists=True, help="The hospital's own: PEM file of the certificate's private key."),
) -> None:
    """Make the federation's authority, the server's certificate and a commented configuration file, once.

    From then on `fedsca server start` uses TLS and lets only approved sites in. The authority's key stays in <state>/authority: keep a
    backup where nobody else reads it. With the three --ssl files sites check the server by the hospital's own certificate; bundles are
    still signed by the federation's authority. The hospital's certificate needs 127.0.0.1 among its names too, for the operator's own
    commands.
    """
    from fed_backend.cli.federation import save_settings, server_tls
    from fed_backend.enrolment.server_identity import init_server
    from sam_adapters.provenance import utc_now

    own = server_tls(ssl_ca, ssl_cert, ssl_key)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = save_settings(state, {"federation": name})
    identity, authority = init_server(state, settings.federation, host, port, utc_now(), own)
    typer.echo(f"Federation {settings.federation}: sites reach it at {identity.address}.")
    typer.echo(f"Fingerprint of its authority: {authority.fingerprint}")
    file = _write_configuration(state, settings, port)
    typer.echo(f"Configuration, with comments: {file}. Look through it, above all at [schedule].")
    typer.echo(f"Then start it with: fedsca server start --state {state}")


def _write_configuration(state: Path, settings: "FederationSettings", port: int) -> Path:
    """<state>/federation.toml; one that is there already is left alone."""
    import dataclasses

    from fed_backend.schedule.agreed_keys import place_of
    from fed_backend.schedule.configuration import CONFIGURATION_FILE
    from fed_backend.schedule.example import example
    from sam_adapters import atomic

    file = state / CONFIGURATION_FILE
    if not file.exists():
        values: dict[tuple[str, str], object] = {place_of(key): value for key, value in dataclasses.asdict(settings).items()}
        values |= {("server", "host"): "0.0.0.0", ("server", "port"): port}  # noqa: S104 - sites connect from elsewhere; TLS is on
        atomic.write_bytes(file, example(values).encode())
    return file


def approve(
    request: Path = typer.Argument(..., exists=True, dir_okay=False, help="File with the site's request, as it was sent."),
    state: Path = _STATE,
    name: str | None = typer.Option(None, "--name", help="The site's name in the federation; default: the one that it asks for."),
    fingerprint: str | None = typer.Option(
        None, "--fingerprint", help="Fingerprint that the hospital read to you; without it you are asked to compare."
    ),
    out: Path | None = typer.Option(None, "--out", help="Where the bundle is written; default: <state>/bundles/NAME.txt."),
    replace: bool = typer.Option(False, "--replace", help="The hospital made new keys: let these in and the old ones in no longer."),
    policy: Path | None = _POLICY,
) -> None:
    """Let a site in: compare the fingerprint, register the key, write the bundle for the site.

    Call the hospital at a number that you know, and let it read the fingerprint that `fedsca site enrol` printed. Then send it the bundle,
    by any way: only this site can open it. Read it the authority's fingerprint, which is printed too. Approving works with the server down
    (it is told when it starts) and in the middle of a round. Approving the same request again writes a new bundle and changes nothing else.
    """
    from fed_backend.enrolment import approval
    from fed_backend.enrolment.request import read_request

    asked = read_request(request.read_text(encoding="utf-8", errors="replace"))
    chosen = name or asked.name
    typer.echo(f"Site {asked.name} asks to be let in{'' if chosen == asked.name else f', as {chosen}'}.")
    compare("site", asked.fingerprint, fingerprint)
    proposal = approval.read_policy(policy)
    _hand_out(state, approval.approve(state, asked, chosen, replace=replace, policy=proposal), out)


def bundle(
    state: Path = _STATE,
    name: str = typer.Option(..., "--name", help="The member."),
    out: Path | None = typer.Option(None, "--out", help="Where the bundle is written; default: <state>/bundles/NAME.txt."),
    policy: Path | None = _POLICY,
) -> None:
    """Write a member's next bundle: after the address, the authority or the agreed settings changed."""
    from fed_backend.enrolment import approval

    _hand_out(state, approval.new_bundle(state, name, policy=approval.read_policy(policy)), out)


def revoke(
    state: Path = _STATE,
    name: str = typer.Option(..., "--name", help="The member."),
    reason: str = typer.Option("Revoked by the operator.", "--reason", help="Why, for the roster and the audit log."),
) -> None:
    """Let a site in no longer, at once. Others are not touched, nor is a running round; its keys are never let in again."""
    from fed_backend.enrolment import approval

    sentences = approval.revoke(state, name, reason)
    typer.echo(f"Site {name} is no member any more.")
    for sentence in sentences:
        typer.echo(sentence)


def renew(
    state: Path = _STATE,
    authority: bool = typer.Option(
        False, "--authority", help="Renew the authority's certificate too. Its key stays, so sites go on until the old one ends."
    ),
    host: list[str] | None = typer.Option(None, "--host", help="New names or addresses of the server, in place of the old ones."),
) -> None:
    """Renew the server's certificate. No site is touched: what they trust is the authority.

    A supervised server takes the new certificate between two rounds; a SuperLink alone has to be started again. After a new --host or
    --authority write every site a new bundle (`fedsca server bundle`); until they have it they use what they know.
    """
    import dataclasses

    from fed_backend.enrolment.authority import Authority
    from fed_backend.enrolment.certificate_days import server_certificates
    from fed_backend.enrolment.server_identity import ServerIdentity, certified_hosts
    from fed_backend.errors import EnrolmentError
    from sam_adapters.provenance import utc_now

    now, identity, signer = utc_now(), ServerIdentity.require(state), Authority.load(state)
    if identity.own_ca and not authority and not host:
        raise EnrolmentError(
            f"The server uses the hospital's own certificate, {identity.own_certificate}: renew it there, then start again."
        )
    if authority:
        signer = signer.renew(now)
    if host:
        identity = dataclasses.replace(identity, hosts=tuple(host))
    if identity.own_ca is None:
        signer.issue_server_certificate(certified_hosts(identity.hosts), now)
    identity.save(state)
    for life in server_certificates(state, now):
        typer.echo(life.sentence)
    typer.echo("A supervised server takes it between rounds, by itself; another one at its next start.")


def roster(state: Path = _STATE) -> None:
    """Who is let in, who was revoked and why, and how many days the certificates have left."""
    from fed_backend.cli.federation import print_table
    from fed_backend.enrolment import roster as rosters
    from fed_backend.enrolment.certificate_days import server_certificates
    from sam_adapters.provenance import utc_now

    rows = [
        [entry.name, entry.keys.fingerprint, entry.approved[:10], entry.revoked[:10], entry.reason] for entry in rosters.load(state).entries
    ]
    print_table(["site", "fingerprint", "approved", "revoked", "reason"], rows)
    for life in server_certificates(state, utc_now()):
        typer.echo(life.sentence)


def sync(
    state: Path = _STATE,
    wait: float = typer.Option(0.0, "--wait", min=0, max=3600, help="Seconds to wait for the server to come up."),
) -> None:
    """Bring the running server in line with the roster. `start`, `approve`, `revoke` and every round do so by themselves."""
    from fed_backend.enrolment.superlink_nodes import SuperLinkNodes

    for sentence in SuperLinkNodes(state).when_up(wait).sentences or ["Nothing was to be done."]:
        typer.echo(sentence)


def add_to(app: typer.Typer) -> None:
    """Put these commands into `fedsca server`."""
    for command in (init, approve, bundle, revoke, renew, roster, sync):
        app.command(command.__name__)(command)


def compare(whose: str, shown: str, given: str | None) -> None:
    """Compare by what was given, or let a person compare; everything else refuses."""
    import sys

    from fed_backend.enrolment.fingerprint import same_fingerprint
    from fed_backend.errors import UntrustedError

    typer.echo(f"Fingerprint of the {whose}: {shown}")
    if given is not None:
        if not same_fingerprint(given, shown):
            raise UntrustedError(
                f"The {whose}'s fingerprint is {shown}, but {given} was given: do not go on, and find out why they differ."
            )
        return
    if not sys.stdin.isatty():
        raise UntrustedError(f"Nobody has compared the {whose}'s fingerprint: give --fingerprint as it was read to you over the phone.")
    if not typer.confirm("Is it the same, character by character, as the one that was read to you over the phone?"):
        raise UntrustedError(f"The {whose}'s fingerprint was not confirmed: nothing was changed.")


def _hand_out(state: Path, done: "Approval", out: Path | None) -> None:
    from fed_backend.enrolment.authority import Authority
    from sam_adapters import atomic

    target = out or state / "bundles" / f"{done.entry.name}.txt"
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    atomic.write_bytes(target, done.bundle.encode())
    for sentence in done.sentences:
        typer.echo(sentence)
    typer.echo(f"Bundle {done.entry.bundles} for {done.entry.name}: {target}")
    typer.echo(f"Read this to the hospital, the authority's fingerprint: {Authority.load(state).fingerprint}")
