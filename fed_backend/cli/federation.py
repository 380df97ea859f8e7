"""`fedsca server …` and `fedsca site …`. What they need is imported when they are called."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fed_backend import launch
from fed_backend.cli import enrolment_server, enrolment_site, schedule
from fed_backend.cli.page import page, page_users_app
from fed_backend.cli.privacy import print_asked, print_spent
from fed_backend.cli.quarantine import quarantine_app
from fed_backend.cli.server_status import server_status
from fed_backend.errors import LaunchError

if TYPE_CHECKING:
    from fed_backend.run_config import FederationSettings
    from sam_adapters.site_directory import SiteDirectory

server_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="The federation's server.")
site_app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="A hospital's side of the federation.")
enrolment_server.add_to(server_app)
enrolment_site.add_to(site_app)
schedule.add_to(server_app)

_STATE = typer.Option(..., "--state", help="Folder of the server's state: settings, what is known of the sites, a report of every round.")
_SITE = typer.Option(..., "--site", help="The site directory that the hospital's MONAI Label server uses too.")


@server_app.command("start")
def start(
    state: Path | None = typer.Option(None, "--state", help="Folder of the server's state; with --config the file says where it is."),
    config: Path | None = typer.Option(None, "--config", help="Configuration file; default: <state>/federation.toml, if there is one."),
    no_config: bool = typer.Option(False, "--no-config", help="Leave <state>/federation.toml alone and start the SuperLink only."),
    host: str | None = typer.Option(
        None, help="Address to listen on, 127.0.0.1 if not given. Anything but loopback needs the three TLS files."
    ),
    port: int | None = typer.Option(
        None, min=1, max=65535, help=f"Port for sites and operator, {launch.DEFAULT_SUPERLINK_PORT} if not given."
    ),
    name: str | None = typer.Option(None, help="Name of the federation, for people."),
    base: str | None = typer.Option(None, help="Base network that every site must use: litemedsam or sam:<folder or hub id>."),
    rank: int | None = typer.Option(None, help="LoRA rank that every site must use."),
    shared_depth: float | None = typer.Option(None, help="Fraction of encoder blocks, from the pixels, whose adapters travel."),
    shared_decoder: bool | None = typer.Option(None, help="Whether the adapters of the decoder's attention travel too."),
    min_sites: int | None = typer.Option(None, help="Quorum: with fewer sites a round is skipped, with the reason written down."),
    expected_sites: int | None = typer.Option(None, help="Sites to wait for before a round starts; 0 means just the quorum."),
    join_seconds: float | None = typer.Option(None, help="How long to wait for them."),
    update_seconds: float | None = typer.Option(None, help="How long to wait for the sites' updates."),
    probe_seconds: float | None = typer.Option(None, help="How long to wait for the sites' gradient probes."),
    mixture_seconds: float | None = typer.Option(None, help="How long to wait until the sites have judged their mixtures."),
    probe_every: int | None = typer.Option(None, help="Compare the sites every so many rounds."),
    caution: float | None = typer.Option(None, help="SGCA's caution: larger mixes more sites, 0 only the most similar."),
    encoding: str | None = typer.Option(
        None, help="Of what travels: int8 (at most 130 kB each way, site and round) or fp16 (at most 361 kB, finer)."
    ),
    privacy_noise: float | None = typer.Option(
        None, help="Noise multiplier asked of every site; 0: none. A site's privacy.json adds to it."
    ),
    privacy_clip: float | None = typer.Option(None, help="Largest norm of an update, to which the noise is in proportion."),
    privacy_epsilon: float | None = typer.Option(None, help="Privacy budget of a site; when it is spent the site only receives."),
    privacy_delta: float | None = typer.Option(None, help="The δ at which the budget is counted."),
    privacy_probe: bool | None = typer.Option(None, help="Whether noised gradient probes leave too, each at the cost of an update."),
    ssl_ca: Path | None = typer.Option(None, exists=True, help="PEM file of the authority that signed the certificate."),
    ssl_cert: Path | None = typer.Option(None, exists=True, help="PEM file of the server's certificate, with its host in the SAN."),
    ssl_key: Path | None = typer.Option(None, exists=True, help="PEM file of the certificate's private key."),
    node_authentication: bool = typer.Option(
        False, "--node-authentication", help="Let only registered SuperNodes in; their registered names are the sites' names. Needs TLS."
    ),
) -> None:
    """Start the federation's server and stay in the foreground until Ctrl-C.

    With a configuration file (`fedsca server init` writes <state>/federation.toml) the server is supervised: SuperLink, rounds by the
    schedule and the operator's page, each started again when it ends. Everything stands in the file then; no other option is needed.

    Without one it is Flower's SuperLink alone, and rounds run with `fedsca server run-round`. What is given about the federation is kept
    in <state>/federation.json; what is not given stays as it was, or takes its default. Base, rank and what is shared are fixed once
    the first round has run. Without TLS files the server listens on this machine only and believes every site's own name: good for trying
    things out, not for hospitals. After `fedsca server init` its certificate is used and only approved sites are let in.
    """
    agreement = {
        "federation": name,
        "base": base,
        "rank": rank,
        "shared_depth": shared_depth,
        "shared_decoder": shared_decoder,
        "min_sites": min_sites,
        "expected_sites": expected_sites,
        "join_seconds": join_seconds,
        "update_seconds": update_seconds,
        "probe_seconds": probe_seconds,
        "mixture_seconds": mixture_seconds,
        "probe_every": probe_every,
        "caution": caution,
        "encoding": encoding,
        "privacy_noise": privacy_noise,
        "privacy_clip": privacy_clip,
        "privacy_epsilon": privacy_epsilon,
        "privacy_delta": privacy_delta,
        "privacy_probe": privacy_probe,
    }
    others = {"host": host, "port": port, "ssl_ca": ssl_ca, "ssl_cert": ssl_cert, "ssl_key": ssl_key}
    others |= {"node_authentication": node_authentication or None}
    configuration = schedule.configuration_for(state, config, wanted=not no_config, given={**agreement, **others})
    if configuration is not None:
        _become(*schedule.supervised(configuration))
    elif state is not None:
        tls = server_tls(ssl_ca, ssl_cert, ssl_key)
        port = port or launch.DEFAULT_SUPERLINK_PORT
        _superlink_alone(state, host or "127.0.0.1", port, tls, agreement, node_authentication=node_authentication)


def _superlink_alone(
    state: Path, host: str, port: int, tls: launch.ServerTls | None, agreement: Mapping[str, Any], *, node_authentication: bool
) -> None:
    """Become Flower's SuperLink."""
    from fed_backend.enrolment.server_identity import ServerIdentity
    from fed_backend.schema_cache import SCHEMA_FILE, cached_schema

    identity = ServerIdentity.load(state)
    if identity is not None:
        tls, node_authentication = tls or identity.tls(state), True
    launch.require_tls_beyond_loopback(host, tls is not None)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = launch.superlink_argv(
        host=host, port=port, database=state / "superlink.sqlite", tls=tls, node_authentication=node_authentication
    )
    settings = save_settings(state, agreement)
    print_asked(settings, cached_schema(state / SCHEMA_FILE, settings))  # a wrong base is found here
    reached_at = launch.reached_at(host)
    if launch.answers(reached_at, port):
        raise LaunchError(f"Something listens on {reached_at}:{port} already: stop it, or choose another --port.")
    address = launch.format_address(reached_at, port)
    launch.ServerAddress(address, str(tls.ca) if tls else None).save(state)
    if identity is not None:
        _tell_when_up(state)
    typer.echo(f"SuperLink on {launch.format_address(host, port)}. A site joins with: fedsca site join --site DIR --superlink {address}")
    _become(argv, launch.flower_environment(state / launch.SERVER_FLWR_HOME))


@server_app.command("run-round")
def run_round(state: Path = _STATE, rounds: int = typer.Option(1, min=1, max=10_000, help="How many, one after the other.")) -> None:
    """Run rounds now, on the server that `fedsca server start` started, and print what came of them.

    Every wait has a deadline. A round that finds too few sites is skipped, and the exit code is 1.
    """
    from fed_backend.run_rounds import run_rounds

    reports = run_rounds(state, rounds)
    for report in reports:
        print_round(report)
    if any(report["status"] != "finished" for report in reports):
        raise typer.Exit(1)


@server_app.command("register")
def register(
    state: Path = _STATE,
    name: str = typer.Option(..., help="The site's name: the one in its site.json."),
    public_key: Path = typer.Option(..., exists=True, help="Public key of the site's node, for example node.pub."),
) -> None:
    """Let a site's node in, on a running server with --node-authentication.

    The hospital makes the key pair (`ssh-keygen -t ecdsa -b 384 -f node`), keeps the private key for `fedsca site join --node-key`, and
    hands over the public one. Nobody without the private key can then speak for this site.
    """
    from fed_backend.enrolment.roster import ROSTER_FILE
    from fed_backend.run_rounds import register_site

    if (state / ROSTER_FILE).exists():
        raise LaunchError("This federation has a roster, and nodes outside it are removed: use `fedsca server approve`.")
    register_site(state, name, public_key)


server_app.command("status")(server_status)
server_app.command("page")(page)
server_app.add_typer(page_users_app, name="users")
server_app.add_typer(quarantine_app, name="quarantine")


@site_app.command("join")
def join(
    site: Path = _SITE,
    superlink: str = typer.Option(..., help="HOST:PORT of the federation's server."),
    port: int | None = typer.Option(None, min=1, max=65535, help="Loopback port for the node's own processes; default: a free one."),
    name: str | None = typer.Option(None, help="The site's name in the federation; default: `name` in site.json."),
    studies: Path | None = typer.Option(None, exists=True, help="MONAI Label datastore, where it is not <site>/studies."),
    root_certificates: Path | None = typer.Option(
        None, exists=True, help="PEM file of the authority that signed the server's certificate."
    ),
    node_key: Path | None = typer.Option(
        None, exists=True, help="Private key of this site's registered node (ssh-keygen -t ecdsa -b 384)."
    ),
    trusted_entities: Path | None = typer.Option(
        None, exists=True, help="YAML file of public keys: run only bundles signed by one of them."
    ),
) -> None:
    """Join a federation: start Flower's SuperNode and stay in the foreground until Ctrl-C.

    The node only connects outwards. It answers rounds with this site's installed software: numbers leave (shared adapters, projected
    gradients, case counts, scores of the gate), images and labels never do. A server beyond this machine needs --root-certificates.
    """
    from fed_backend.member import Member, site_schema

    member = Member.open(site, studies, name)
    site_schema(member)  # a base that is missing is found here, and rounds are answered quickly
    argv = launch.supernode_argv(
        superlink=superlink,
        port=port or launch.free_port(),
        site_name=member.name,
        site_directory=site,
        studies=studies,
        root_certificates=root_certificates,
        node_key=node_key,
        trusted_entities=trusted_entities,
    )
    _compare_clocks(superlink, tls=root_certificates is not None)
    flwr_home = member.site.work / launch.SITE_FLWR_HOME
    flwr_home.mkdir(mode=0o700, exist_ok=True)
    typer.echo(f"Site {member.name} joins {superlink}.")
    _become(argv, launch.flower_environment(flwr_home))


def _compare_clocks(superlink: str, *, tls: bool) -> None:
    """Say it if this clock and the server's differ; refuse if Flower would end without saying why."""
    from fed_backend.clock_check import seconds_ahead, sentence

    ahead = seconds_ahead(superlink, tls=tls)
    said = None if ahead is None else sentence(ahead)
    if said:
        typer.echo(said)


@site_app.command("status")
def site_status(site: Path = _SITE) -> None:
    """What this site knows of its rounds: what it sent, what it received, what the gate decided, how many bytes."""
    from fed_backend.member import Member
    from sam_adapters.registry import Registry, id_or_base

    member = Member.open(site)
    with Registry(member.site) as registry:
        active, learnt, rounds = registry.active(), registry.learnt_from(), registry.rounds()
    served, given = id_or_base(active), id_or_base(learnt)
    typer.echo(f"Site {member.name}, active version {served}" + (f"; tunings and rounds go on from {given}" if given != served else ""))
    _print_news(member.site)
    print_spent(member)
    rows = [
        [
            str(record.round),
            record.sent_version or "",
            record.received_version or "",
            weights_text(record.weights),
            f"{sum(record.bytes_up.values())} / {sum(record.bytes_down.values())}",
            record.decision or "",
            record.reason or "",
        ]
        for record in rounds
    ]
    print_table(["round", "sent", "received", "weights", "bytes up / down", "decision", "reason"], rows)


def _print_news(site: "SiteDirectory") -> None:
    """When the server was last heard, when it means to begin the next round, and how long its certificates last."""
    from datetime import datetime

    from fed_backend.cli.server_status import when
    from fed_backend.enrolment.certificate_days import site_certificates
    from fed_backend.errors import EnrolmentError
    from sam_adapters.federation_news import load_news
    from sam_adapters.provenance import utc_now

    news = load_news(site)
    if news is None:
        typer.echo("Nothing was heard of a federation's server yet.")
    else:
        planned = news.upcoming(utc_now())
        following = f", next round {when(datetime.fromisoformat(planned))}" if planned else ""
        typer.echo(f"Federation {news.name}, last heard {when(datetime.fromisoformat(news.last_heard))} in round {news.round}{following}")
    try:
        for life in site_certificates(site, utc_now()):
            typer.echo(life.sentence)
    except EnrolmentError as error:
        typer.echo(str(error))


def server_tls(ca: Path | None, certificate: Path | None, key: Path | None) -> launch.ServerTls | None:
    if ca is None and certificate is None and key is None:
        return None
    if ca is None or certificate is None or key is None:
        raise LaunchError("TLS needs all three of --ssl-ca, --ssl-cert and --ssl-key.")
    return launch.ServerTls(ca.resolve(), certificate.resolve(), key.resolve())


def save_settings(state: Path, given: Mapping[str, Any]) -> "FederationSettings":
    """Keep what was given over what was kept before."""
    import dataclasses

    from fed_backend.run_config import FEDERATION_FILE, FederationSettings

    kept = FederationSettings.load(state) if (state / FEDERATION_FILE).exists() else FederationSettings()
    settings = dataclasses.replace(kept, **{key: value for key, value in given.items() if value is not None})
    settings.save(state)
    return settings


def _tell_when_up(state: Path) -> None:
    """Leave a process behind that brings the SuperLink in line with the roster once it is up, and then ends."""
    import subprocess
    import sys

    argv = [sys.executable, "-m", "fed_backend.cli", "server", "sync", "--state", str(state), "--wait", "300"]
    subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True)


def _become(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by another, so that signals and exit code are its own."""
    os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - a fixed list, no shell


def print_round(report: Mapping[str, Any]) -> None:
    typer.echo(f"Round {report['round']}: {report['status']} in {report['seconds'].get('total', 0):.1f} s. {report['reason']}".rstrip())
    rows = []
    for name, line in report["sites"].items():
        verdict = report["verdicts"].get(name, {})
        traffic = report["bytes"].get(name, {})
        up = traffic.get("update", 0) + traffic.get("probe_reply", 0)
        down = traffic.get("probe_request", 0) + traffic.get("mixture", 0)
        weights = weights_text(report["weights"].get(name))
        rows.append([name, line["cases"], weights, f"{up} / {down}", verdict.get("verdict", ""), verdict.get("reason", "")])
    print_table(["site", "cases", "weights", "bytes up / down", "verdict", "reason"], rows)
    print_refusals(report)


def print_refusals(report: Mapping[str, Any]) -> None:
    for refusal in report["refusals"]:
        typer.echo(f"Round {report['round']}, {refusal['site']} ({refusal['phase']}): {refusal['reason']}")


def weights_text(weights: Mapping[str, float] | None) -> str:
    return ", ".join(f"{name} {weight:.2f}" for name, weight in sorted((weights or {}).items(), key=lambda item: -item[1]))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)
