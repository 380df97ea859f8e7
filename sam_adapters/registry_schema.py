"""Tables of <site>/registry.sqlite and how it is opened. SQLite, WAL, synchronous FULL: what is committed survives a power cut.

`PRAGMA user_version` holds the version of this schema; a file of a newer one is refused. WAL needs shared memory: the site directory must
lie on a local disk, not on a network share.
"""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from sam_adapters import file_lock
from sam_adapters.errors import RegistryError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x46534341  # "FSCA": tells a registry from any other SQLite file
IMMEDIATE = "fedsca_immediate"
"""Execution option of a connection whose transactions take the write lock at their start, so that two writers queue instead of failing."""


class UtcTime(TypeDecorator[datetime]):
    """A time with time zone, kept in UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


metadata = MetaData()

versions = Table(
    "versions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(16), nullable=False, unique=True),
    Column("state", String, CheckConstraint("state IN ('candidate', 'active', 'rejected', 'retired')"), nullable=False),
    Column("provenance", JSON, nullable=False),
    sqlite_autoincrement=True,
)
Index("one_active_version", versions.c.state, unique=True, sqlite_where=text("state = 'active'"))

# What was active, when: each row points to the one that a rollback returns to. Rows are never changed.
activations = Table(
    "activations",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("version", ForeignKey("versions.id")),  # NULL: the untuned base
    Column("returns_to", ForeignKey("activations.number")),
    Column("at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

# One row: the activation that counts now, and how often that changed.
present = Table(
    "present",
    metadata,
    Column("only", Integer, CheckConstraint("only = 1"), primary_key=True),
    Column("activation", ForeignKey("activations.number"), nullable=False),
    Column("generation", Integer, nullable=False),
)

decisions = Table(
    "decisions",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcTime, nullable=False),
    Column("action", String, nullable=False),
    Column("version", String, nullable=False),
    Column("previous", String),
    Column("reason", String, nullable=False),
    Column("by", String, nullable=False),
    Column("figures", JSON, nullable=False),
    sqlite_autoincrement=True,
)

scores = Table(
    "scores",
    metadata,
    Column("version", String, primary_key=True),
    Column("validation_key", String, primary_key=True),
    Column("scores", JSON, nullable=False),
)

tunings = Table(
    "tunings",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("started", UtcTime, nullable=False),
    Column("finished", UtcTime),
    Column("status", String, nullable=False),
    Column("labels", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("version", String),
    Column("process", String, nullable=False),
    sqlite_autoincrement=True,
)

rounds = Table(
    "rounds",
    metadata,
    Column("federation", String, primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("run_id", String),
    Column("sent_version", String),
    Column("received_version", String),
    Column("weights", JSON, nullable=False),
    Column("bytes_up", JSON, nullable=False),
    Column("bytes_down", JSON, nullable=False),
    Column("decision", String),
    Column("reason", String),
    Column("at", UtcTime, nullable=False),
)


def open_database(path: Path, *, timeout: float) -> Engine:
    """Open the registry file, making it when missing. Safe with several processes at once.

    Args:
        path: the SQLite file.
        timeout: seconds that a transaction waits for other writers.

    Raises:
        RegistryError: the file is no registry, or of a newer version of this software.
    """
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": timeout})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    try:
        if not _ready(engine, path):
            # Switching a new file to WAL does not wait for others by itself, so one process at a time sets it up.
            with file_lock.locked(path.with_suffix(".lock"), timeout=timeout):
                _create(engine, path)
    except DatabaseError as error:
        engine.dispose()
        raise RegistryError(f"{path} cannot be opened as an adapter registry ({error.orig}): {remedy(error)}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def remedy(error: DatabaseError) -> str:
    """What a person can do about an error of SQLite. A full disk leaves the file as it was: a backup would only lose versions."""
    name = getattr(error.orig, "sqlite_errorname", "")
    if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return "restore it from a backup."
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return "the disk is full or failing; make room or see to it, the registry itself is as it was."
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM")):
        return "see to the rights of the file and its folder."
    return "try again, and restore it from a backup if this stays."


def _configure(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin says so, not where the driver guesses
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(IMMEDIATE) else "BEGIN")


def _ready(engine: Engine, path: Path) -> bool:
    """Whether the file holds this schema already; refuses what it must not touch."""
    with engine.connect() as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        application = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
        tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
    if tables and application != APPLICATION_ID:
        raise RegistryError(f"{path} is a database of another program: move it away, or name another site directory.")
    if version > SCHEMA_VERSION:
        raise RegistryError(
            f"{path} has registry version {version}, this software knows {SCHEMA_VERSION}: update FedSCA Label. Nothing was changed."
        )
    return bool(version == SCHEMA_VERSION)


def _create(engine: Engine, path: Path) -> None:
    raw = engine.raw_connection()
    try:
        raw.cursor().execute("PRAGMA journal_mode = WAL")
    finally:
        raw.close()
    if _ready(engine, path):
        return
    with engine.connect().execution_options(**{IMMEDIATE: True}) as connection, connection.begin():
        metadata.create_all(connection)
        first = connection.execute(activations.insert().values(version=None, returns_to=None, at=datetime.now(UTC)))
        number = first.inserted_primary_key
        assert number is not None  # noqa: S101 - an INSERT always has one; for the type checker
        connection.execute(present.insert().values(only=1, activation=number[0], generation=0))
        connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
