"""`fedsca server status`. What it needs is imported when it is called."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fed_backend.page.site_facts import SiteFacts
    from fed_backend.page.state_reader import FederationFacts
    from fed_backend.schedule.book import Book

_STATE = typer.Option(..., "--state", help="Folder of the server's state.")
_LAST_SENTENCES = 3


def server_status(
    state: Path = _STATE, as_json: bool = typer.Option(False, "--json", help="Print JSON instead, for other programs.")
) -> None:
    """How the federation stands: server, schedule, certificates; of each site when it was heard, its bytes, its last mixture and verdict;
    what was refused in the last round, and why. Works whether or not the server runs.
    """
    from fed_backend.cli.output import print_json
    from fed_backend.page.site_facts import site_facts
    from fed_backend.page.state_reader import StateReader
    from fed_backend.schedule import book as books
    from fed_backend.schedule.supervisor import is_supervised

    facts, book = StateReader(state.resolve()).read(), books.load(state)
    sites, running = site_facts(facts), is_supervised(state)
    if as_json:
        print_json(_as_json(facts, sites, book, running=running))
        return
    settings = facts.settings
    behind = facts.rounds[-1].number if facts.rounds else 0
    typer.echo(f"Federation {facts.name}, {_count(behind, 'round')}, base {settings.get('base', 'not known')}")
    for sentence in (*_schedule_sentences(book, state, running=running), *certificate_sentences(state), *facts.problems):
        typer.echo(sentence)
    if not facts.rounds:
        typer.echo(f"There was no round yet. Run one with `fedsca server {'now' if running else 'run-round'} --state {state}`.")
    if sites:
        _print_sites(facts, sites)
    if facts.rounds:
        for refusal in facts.rounds[-1].refusals:
            typer.echo(f"Round {refusal.round}, {refusal.site} ({refusal.phase}): {refusal.reason}")


def certificate_sentences(state: Path) -> list[str]:
    """How long every certificate of a server is good; what is wrong with it where it cannot be read."""
    from fed_backend.enrolment.certificate_days import server_certificates
    from fed_backend.errors import EnrolmentError
    from sam_adapters.provenance import utc_now

    try:
        return [life.sentence for life in server_certificates(state, utc_now())]
    except EnrolmentError as error:
        return [str(error)]


def when(moment: datetime | None) -> str:
    """A time for people, in this machine's time zone."""
    return "never" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"


def _schedule_sentences(book: "Book", state: Path, *, running: bool) -> list[str]:
    said = []
    if not running:
        said.append(f"No supervised server runs here: start it with `fedsca server start --state {state}`.")
    if book.paused:
        why = f" {book.paused.what}" if book.paused.what else ""
        said.append(f"The schedule was paused {when(book.paused.at)} by {book.paused.by}.{why} Go on with: fedsca server resume")
    elif running:
        said.append(
            f"Next round: {when(book.next_round)}." if book.next_round else "Nothing is scheduled: ask for a round, fedsca server now."
        )
    if book.running:
        again = f", attempt {book.running.attempt}" if book.running.attempt > 1 else ""
        said.append(f"Round {book.running.target} runs since {when(book.running.started)} ({book.running.cause}{again}).")
    if book.last:
        ended = f"{book.last.outcome} {when(book.last.finished)}. {book.last.reason}".rstrip()
        said.append(f"Last begun by the schedule: round {book.last.round}, {ended}")
    return said + [f"{when(note.at)}: {note.what}" for note in book.said[-_LAST_SENTENCES:]]


def _print_sites(facts: "FederationFacts", sites: Sequence["SiteFacts"]) -> None:
    from fed_backend.cli.federation import print_table, weights_text

    rows = []
    for site in sites:
        weights: Mapping[str, float] = next((one.weights[site.name] for one in reversed(facts.rounds) if site.name in one.weights), {})
        heard = f"{site.last_round} ({when(site.last_heard)})" if site.last_round else "never"
        verdict = site.verdict.verdict if site.verdict else ""
        rows.append([site.name, site.cases, heard, f"{site.up} / {site.down}", site.refusals, weights_text(weights), verdict])
    print_table(["site", "cases", "last heard in round", "bytes up / down", "refused", "weights of its last mixture", "verdict"], rows)


def _as_json(facts: "FederationFacts", sites: Sequence["SiteFacts"], book: "Book", *, running: bool) -> dict[str, Any]:
    last = facts.rounds[-1] if facts.rounds else None
    lines = []
    for site in sites:
        line: dict[str, Any] = {key: getattr(site, key) for key in ("name", "cases", "last_round", "missed", "up", "down", "refusals")}
        line["last_heard"] = site.last_heard.isoformat() if site.last_heard else None
        line["verdict"] = site.verdict.verdict if site.verdict else None
        lines.append(line)
    return {
        "federation": facts.name,
        "supervised": running,
        "schedule": book.to_dict(),
        "last_round": None if last is None else {"round": last.number, "status": last.status},
        "refused": [dataclasses.asdict(refusal) for refusal in last.refusals] if last else [],
        "certificates": [dataclasses.asdict(life) for life in facts.certificates],
        "sites": lines,
        "problems": list(facts.problems),
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
