"""The registry's single steps inside a transaction that its caller holds: rows in, records out. No torch."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import psutil
from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects.sqlite import insert

from sam_adapters import registry_schema as tables
from sam_adapters.errors import UnknownVersionError
from sam_adapters.provenance import BASE, Provenance, utc_now
from sam_adapters.registry_records import Action, RoundRecord, TuningStatus, Version, VersionState

# A start time is told from the clock at boot, which is corrected now and then; a process id comes back much later than this.
_SAME_START_SECONDS = 60.0

# --- versions -------------------------------------------------------------------------------------------------------------------------


def to_version(row: Row[Any]) -> Version:
    """A row of `versions` as a record."""
    return Version(row.id, row.state, Provenance.from_dict(row.provenance))


def find_version(connection: Connection, version_id: str) -> Version:
    """The version of that id.

    Raises:
        UnknownVersionError: there is none.
    """
    row = connection.execute(select(tables.versions).where(tables.versions.c.id == version_id)).one_or_none()
    if row is None:
        raise UnknownVersionError(f"This site has no adapter version {version_id}: see `fedsca adapters list`.")
    return to_version(row)


def insert_version(connection: Connection, version_id: str, provenance: Provenance) -> None:
    """Add a candidate; a version that is there already stays as it is."""
    values = {"id": version_id, "state": "candidate", "provenance": provenance.to_dict()}
    connection.execute(insert(tables.versions).values(values).on_conflict_do_nothing(index_elements=["id"]))


def set_state(connection: Connection, version_id: str, state: VersionState) -> None:
    """Change the state of a version."""
    connection.execute(tables.versions.update().where(tables.versions.c.id == version_id).values(state=state))


# --- what is active -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activation:
    """One time at which a version (or `base`) became active; `returns_to` is the activation before it, None at the very start."""

    number: int
    version: str
    returns_to: int | None


def generation(connection: Connection) -> int:
    """How often the active version changed."""
    return int(connection.execute(select(tables.present.c.generation)).scalar_one())


def present_activation(connection: Connection) -> Activation:
    """The activation that counts now."""
    return past_activation(connection, connection.execute(select(tables.present.c.activation)).scalar_one())


def past_activation(connection: Connection, number: int) -> Activation:
    """The activation of that number."""
    row = connection.execute(select(tables.activations).where(tables.activations.c.number == number)).one()
    return Activation(row.number, row.version or BASE, row.returns_to)


def switch(connection: Connection, now: Activation, version_id: str, *, returns_to: int | None) -> None:
    """Make `version_id` (or `base`) active after `now`; a later rollback goes to activation `returns_to`."""
    if now.version != BASE:
        set_state(connection, now.version, "retired")
    if version_id != BASE:
        set_state(connection, version_id, "active")
    values = {"version": None if version_id == BASE else version_id, "returns_to": returns_to, "at": utc_now()}
    number = connection.execute(tables.activations.insert().values(values).returning(tables.activations.c.number)).scalar_one()
    connection.execute(tables.present.update().values(activation=number, generation=tables.present.c.generation + 1))


def write_decision(
    connection: Connection, action: Action, version: str, previous: str | None, reason: str, by: str, figures: Mapping[str, Any] | None
) -> None:
    """Add an entry to the history of decisions."""
    values = {
        "at": utc_now(),
        "action": action,
        "version": version,
        "previous": previous,
        "reason": reason,
        "by": by,
        "figures": dict(figures or {}),
    }
    connection.execute(tables.decisions.insert().values(values))


# --- what is learnt from --------------------------------------------------------------------------------------------------------------


LEARNT_FROM = "learnt_from"
"""In the figures of a decision that set a version aside: the version (or `base`) that is learnt from since then, if that has changed."""


def learnt_from(connection: Connection) -> str:
    """The version (or `base`) that the next tuning starts from, as the last decision about that says."""
    columns = tables.decisions.c
    told = columns.figures[LEARNT_FROM].as_string()
    telling = columns.action.in_(("activated", "rolled back")) | told.is_not(None)
    last = connection.execute(select(columns.version, told).where(telling).order_by(columns.number.desc()).limit(1)).one_or_none()
    return BASE if last is None else str(last[1] or last[0])


def learnt_from_after(version: Version, before: str, active: str, *, learn: bool) -> str:
    """What is learnt from after `version` was set aside; `before` and `active` are ids, or `base`.

    A version takes the place of what it was made of, and of nothing else. One that must not be learnt from leaves what is there, unless it
    is that itself, or this site's own tuning has made it from that: then what served leads further, and learning goes back to it.
    """
    made_of_it = before in (version.parents or (BASE,))
    if learn:
        return version.id if made_of_it else before
    return active if before == version.id or (made_of_it and version.kind == "local") else before


# --- scores ---------------------------------------------------------------------------------------------------------------------------


def save_scores(connection: Connection, version: str, validation_key: str, scores: list[dict[str, Any]]) -> None:
    """Keep scores under a version (or `base`) and key, in place of what was there."""
    statement = insert(tables.scores).values(version=version, validation_key=validation_key, scores=scores)
    connection.execute(statement.on_conflict_do_update(index_elements=["version", "validation_key"], set_={"scores": scores}))


def load_scores(connection: Connection, version: str, validation_key: str) -> list[dict[str, Any]] | None:
    """What was kept; None when nothing was."""
    query = select(tables.scores.c.scores).where(tables.scores.c.version == version, tables.scores.c.validation_key == validation_key)
    found: list[dict[str, Any]] | None = connection.execute(query).scalar_one_or_none()
    return found


# --- local tunings --------------------------------------------------------------------------------------------------------------------


def end_tuning(connection: Connection, tuning_id: int, status: TuningStatus, version_id: str | None) -> bool:
    """Write down how a tuning ended; False when there is no such tuning."""
    values = {"status": status, "finished": utc_now(), "version": version_id}
    return connection.execute(tables.tunings.update().where(tables.tunings.c.id == tuning_id).values(values)).rowcount == 1


def process_name() -> str:
    """This process, told from every other one on this or another machine: host, process id and start time."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def may_be_alive(process: str) -> bool:
    """Whether the process of that name may still run; of another host's (another container's) one cannot know, so it may."""
    host, number, started = process.rsplit(" ", 2)
    if host != socket.gethostname():
        return True
    try:
        candidate = psutil.Process(int(number))
        if candidate.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(candidate.create_time() - float(started)) < _SAME_START_SECONDS)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


# --- federated rounds -----------------------------------------------------------------------------------------------------------------


def find_round(connection: Connection, federation: str, number: int) -> RoundRecord | None:
    """What is known of one round."""
    query = select(tables.rounds).where(tables.rounds.c.federation == federation, tables.rounds.c.round == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else RoundRecord(**row._mapping)


def merge_round(before: RoundRecord | None, news: RoundRecord) -> RoundRecord:
    """What is known of a round after `news`: fields that are not None replace, mappings are merged by key."""
    merged: dict[str, Any] = {}
    for name in (field.name for field in fields(RoundRecord)):
        old, new = getattr(before, name, None), getattr(news, name)
        if isinstance(new, Mapping):
            merged[name] = {**(old or {}), **new}
        else:
            merged[name] = old if new is None else new
    return replace(RoundRecord(**merged), at=utc_now())


def save_round(connection: Connection, record: RoundRecord) -> None:
    """Insert the round, or replace what was known of it."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    statement = insert(tables.rounds).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["federation", "round"], set_=values))
