"""The adapter registry of one site: which versions there are, which one serves, and why. No torch.

Processes: the MONAI Label server, its tuning process and the Flower client use one registry at the same time. Every change is one SQLite
transaction that takes the write lock at its start (`BEGIN IMMEDIATE`), so writers queue (up to `timeout` seconds) and readers are never
blocked. Threads: a Registry may be shared by threads. Fork: a forked child opens its own connections by itself.

Crashes: a version is first a whole folder, then a row (see `adapter_store`). A writer killed in between leaves either an incoming folder,
which the next opening removes once its writer is dead, or a whole version folder without a row, which the next opening adds as candidate.
"""

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DatabaseError

from sam_adapters import adapter_store
from sam_adapters import registry_rows as rows
from sam_adapters import registry_schema as tables
from sam_adapters.audit import AuditLog
from sam_adapters.errors import RegistryError
from sam_adapters.provenance import BASE, Kind, Provenance, checked_version_id, utc_now
from sam_adapters.registry_records import Action, Decision, RoundRecord, Tuning, TuningStatus, Version, VersionState, id_or_base
from sam_adapters.site_directory import SiteDirectory

__all__ = [
    "BASE",
    "Action",
    "Decision",
    "Kind",
    "Registry",
    "RoundRecord",
    "Tuning",
    "TuningStatus",
    "Version",
    "VersionState",
    "id_or_base",
]


class Registry:
    """The versions of one site. See the module for processes, threads and crashes."""

    def __init__(self, site: SiteDirectory, *, timeout: float = 30.0) -> None:
        """Open the registry, making it when missing, and clear up after writers that died.

        Args:
            site: the site directory; `SiteDirectory.open` makes it.
            timeout: seconds that a write waits for other writers.

        Raises:
            RegistryError: the site directory was never made, the file is no registry, or it is of a newer version of this software.
        """
        if not site.adapters.is_dir():
            raise RegistryError(f"{site.root} is not a site directory (it has no {site.adapters.name} folder): name one that is.")
        self._path = site.registry_file
        self._adapters = site.adapters
        self._engine = tables.open_database(self._path, timeout=timeout)
        self._audit = AuditLog(site.audit_file)
        self._owner = os.getpid()
        weakref.finalize(self, self._engine.dispose).atexit = False
        self.recover()

    def close(self) -> None:
        """Close the file; the registry opens it again by itself when it is used again."""
        self._engine.dispose()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- versions ---------------------------------------------------------------------------------------------------------------------

    def add(self, folder: Path, provenance: Provenance) -> Version:
        """Copy a PEFT adapter folder into the site as a candidate.

        The id follows from the contents alone. Contents that are here already give the version that is here, in whatever state and with the
        provenance it has; if its folder was damaged, it is whole again afterwards.

        Raises:
            AdapterError: the folder is not a PEFT adapter folder.
            RegistryError: the site's disk or registry refused it.
        """
        content = adapter_store.read_content(folder)
        version_id = content.id
        try:
            with adapter_store.incoming_folder(self._adapters) as incoming:
                adapter_store.fill(incoming, content, provenance)
                with self._writing() as connection:
                    adapter_store.publish(incoming, self._adapters / version_id)
                    rows.insert_version(connection, version_id, provenance)
        except OSError as error:
            raise RegistryError(f"Version {version_id} cannot be written to {self._adapters}: {error.strerror}.") from error
        return self.get(version_id)

    def get(self, version_id: str) -> Version:
        """The version of that id.

        Raises:
            RegistryError: the text is not an id.
            UnknownVersionError: this site has no such version.
        """
        checked_version_id(version_id)
        with self._reading() as connection:
            return rows.find_version(connection, version_id)

    def versions(self) -> list[Version]:
        """All versions, in the order in which they were added."""
        with self._reading() as connection:
            found = connection.execute(select(tables.versions).order_by(tables.versions.c.number)).all()
        return [rows.to_version(row) for row in found]

    def active(self) -> Version | None:
        """The version that serves; None for the untuned base."""
        with self._reading() as connection:
            row = connection.execute(select(tables.versions).where(tables.versions.c.state == "active")).one_or_none()
        return None if row is None else rows.to_version(row)

    def learnt_from(self) -> Version | None:
        """The version that tunings and mixtures build upon and that a federation gets; None for the untuned base.

        It is the active version, or a later one that was turned away for serving and is good enough to go on from (see `gate`). A person
        who activates or rolls back decides on both. One whose folder is damaged gives way to the active version.
        """
        with self._reading() as connection:
            version_id = self._intact_learnt_from(connection)
            return None if version_id == BASE else rows.find_version(connection, version_id)

    def _intact_learnt_from(self, connection: Connection) -> str:
        version_id = rows.learnt_from(connection)
        intact = version_id == BASE or adapter_store.problem_of(self._adapters / version_id, version_id) is None
        return version_id if intact else rows.present_activation(connection).version

    def generation(self) -> int:
        """A number that grows whenever another version (or the base) becomes active; one indexed read, cheap to poll."""
        with self._reading() as connection:
            return rows.generation(connection)

    def folder(self, version_id: str) -> Path:
        """The PEFT folder of a version, its contents checked against the id.

        Raises:
            RegistryError: the text is not an id, or the folder is missing or damaged.
            UnknownVersionError: this site has no such version.
        """
        self.get(version_id)
        self._refuse_damaged(version_id)
        return self._adapters / version_id

    def verify(self, version_id: str) -> str | None:
        """Read a version's folder and compare it with its id: None when it is intact, else a sentence saying what is wrong.

        Raises:
            UnknownVersionError: this site has no such version.
        """
        self.get(version_id)
        return adapter_store.problem_of(self._adapters / version_id, version_id)

    def export(self, version_id: str, destination: Path) -> None:
        """Copy a version's PEFT folder (and provenance) to a new folder.

        Raises:
            RegistryError: the destination exists or cannot be written, or the version is damaged.
            UnknownVersionError: this site has no such version.
        """
        adapter_store.export(self.folder(version_id), destination)

    # --- what is active ---------------------------------------------------------------------------------------------------------------

    def activate(
        self, version_id: str, *, reason: str, by: str, figures: Mapping[str, Any] | None = None, if_generation: int | None = None
    ) -> Version | None:
        """Make a version (or `base`) the one that serves and is learnt from, and write the decision down, in one transaction. Of a version
        that is both already, nothing changes.

        Args:
            version_id: a version id, or `base`.
            reason: why, as a sentence.
            by: who decided: `gate`, or a person.
            figures: the numbers it rests on, JSON values.
            if_generation: refuse when `generation()` is no longer this: what was active when the decision was prepared is not now.

        Returns:
            the active version, None for the base.

        Raises:
            UnknownVersionError: this site has no such version.
            RegistryError: the text is not an id, the folder is damaged, or the generation has changed.
            AuditError: done, but the audit log took no line about it.
        """
        if version_id != BASE:
            self.folder(version_id)
        with self._writing() as connection:
            now = rows.present_activation(connection)
            if if_generation is not None and rows.generation(connection) != if_generation:
                raise RegistryError(
                    f"{version_id} was not activated: {now.version} became active while this was being decided. Compare again."
                )
            serves_already = now.version == version_id
            changed = not serves_already or rows.learnt_from(connection) != version_id
            if not serves_already:
                rows.switch(connection, now, version_id, returns_to=now.number)
            if changed:
                rows.write_decision(connection, "activated", version_id, None if serves_already else now.version, reason, by, figures)
        if changed:
            self._audit.record("version_activated", who=by, version=version_id, before=now.version, reason=reason)
        return None if version_id == BASE else self.get(version_id)

    def rollback(self, *, reason: str, by: str) -> Version | None:
        """Return to what was active before, in one transaction; repeated, it goes further back, in the end to the untuned base.

        Versions whose folder is damaged are passed over, and the decision says so.

        Returns:
            the version that is active now, None for the base.

        Raises:
            RegistryError: there is nothing to go back to.
            AuditError: done, but the audit log took no line about it.
        """
        with self._writing() as connection:
            now = rows.present_activation(connection)
            target, passed_over = self._rollback_target(connection, now)
            note = "".join(f" ({version_id} was passed over: its folder is damaged.)" for version_id in passed_over)
            rows.switch(connection, now, target.version, returns_to=target.returns_to)
            rows.write_decision(connection, "rolled back", target.version, now.version, reason + note, by, None)
        self._audit.record("version_rolled_back", who=by, version=target.version, before=now.version, reason=reason)
        return None if target.version == BASE else self.get(target.version)

    def _rollback_target(self, connection: Connection, now: rows.Activation) -> tuple[rows.Activation, list[str]]:
        passed_over: list[str] = []
        returns_to = now.returns_to
        while returns_to is not None:
            past = rows.past_activation(connection, returns_to)
            if past.version == BASE or adapter_store.problem_of(self._adapters / past.version, past.version) is None:
                return past, passed_over
            passed_over.append(past.version)
            returns_to = past.returns_to
        raise RegistryError(f"There is nothing to roll back to: {now.version} is active, and nothing usable was before it.")

    def reject(
        self, version_id: str, *, reason: str, figures: Mapping[str, Any] | None = None, by: str = "gate", learn: str = ""
    ) -> Version:
        """Mark a version as rejected and write the decision down.

        Args:
            learn: what to add to the reason if it is learnt from all the same, as a sentence; "" if it must not be. It counts only for a
                version that was made of what is learnt from now, so that who has gone back meanwhile is not overruled. Where what is
                learnt from changes, the figures of the decision have `learnt_from`.

        Raises:
            UnknownVersionError: this site has no such version.
            RegistryError: the version is active (roll back first).
            AuditError: done, but the audit log took no line about it.
        """
        return self._set_aside(version_id, "rejected", "rejected", reason, figures, by, learn)

    def hold(self, version_id: str, *, reason: str, figures: Mapping[str, Any] | None = None, by: str = "gate", learn: str = "") -> Version:
        """Leave a version as candidate for a person to decide on, and write that down; `learn` as in `reject`.

        Raises:
            UnknownVersionError: this site has no such version.
            RegistryError: the version is active.
            AuditError: done, but the audit log took no line about it.
        """
        return self._set_aside(version_id, "candidate", "held", reason, figures, by, learn)

    def _set_aside(
        self, version_id: str, state: VersionState, action: Action, reason: str, figures: Mapping[str, Any] | None, by: str, learn: str
    ) -> Version:
        checked_version_id(version_id)
        with self._writing() as connection:
            version = rows.find_version(connection, version_id)
            if version.state == "active":
                raise RegistryError(f"Version {version_id} is active and cannot be {action}: roll back first.")
            before, active = self._intact_learnt_from(connection), rows.present_activation(connection).version
            after = rows.learnt_from_after(version, before, active, learn=bool(learn))
            if after != before:
                reason = f"{reason} {learn or f'Tunings and rounds go on from {after} again.'}"
                figures = {**(figures or {}), rows.LEARNT_FROM: after}
            rows.set_state(connection, version_id, state)
            rows.write_decision(connection, action, version_id, None, reason, by, figures)
        if after != before:
            self._audit.record("version_learnt_from", who=by, version=after, before=before, reason=reason)
        return self.get(version_id)

    def decisions(self, version_id: str | None = None) -> list[Decision]:
        """The history of decisions, oldest first; only those about one version (or `base`) if it is given."""
        query = select(tables.decisions).order_by(tables.decisions.c.number)
        if version_id is not None:
            query = query.where(tables.decisions.c.version == version_id)
        with self._reading() as connection:
            return [Decision(**dict(row._mapping)) for row in connection.execute(query)]

    # --- scores -----------------------------------------------------------------------------------------------------------------------

    def save_scores(self, version_id: str, validation_key: str, scores: Sequence[Mapping[str, Any]]) -> None:
        """Keep the scores of a version (or `base`) on one fixed set of validation cases; the same key overwrites.

        Raises:
            UnknownVersionError: this site has no such version.
        """
        with self._writing() as connection:
            if version_id != BASE:
                rows.find_version(connection, checked_version_id(version_id))
            rows.save_scores(connection, version_id, validation_key, [dict(score) for score in scores])

    def load_scores(self, version_id: str, validation_key: str) -> list[dict[str, Any]] | None:
        """The kept scores; None when there are none under that key."""
        with self._reading() as connection:
            return rows.load_scores(connection, version_id, validation_key)

    # --- local tunings ----------------------------------------------------------------------------------------------------------------

    def start_tuning(self, labels: int, steps: int) -> int:
        """Write down that this process starts a local tuning; one process at a time may.

        Args:
            labels: labelled training cases now.
            steps: optimiser steps planned.

        Returns:
            the id for `finish_tuning`.

        Raises:
            RegistryError: another process, still alive, is tuning.
        """
        with self._writing() as connection:
            for row in connection.execute(select(tables.tunings).where(tables.tunings.c.status == "running")).all():
                if row.process != rows.process_name() and rows.may_be_alive(row.process):
                    raise RegistryError(f"Tuning {row.id} is running in another process ({row.process}): wait for it, or stop it.")
                rows.end_tuning(connection, row.id, "interrupted", None)
            values = {"started": utc_now(), "status": "running", "labels": labels, "steps": steps, "process": rows.process_name()}
            return int(connection.execute(tables.tunings.insert().values(values).returning(tables.tunings.c.id)).scalar_one())

    def finish_tuning(self, tuning_id: int, status: TuningStatus, version_id: str | None = None) -> None:
        """Write down how a tuning ended: `finished`, `failed`, `stopped` or `interrupted`, and the version it made.

        Raises:
            RegistryError: there is no such tuning, or `running` is given.
            UnknownVersionError: this site has no such version.
        """
        if status == "running":
            raise RegistryError("A tuning cannot end as running: expected finished, failed, stopped or interrupted.")
        with self._writing() as connection:
            if version_id is not None:
                rows.find_version(connection, checked_version_id(version_id))
            if not rows.end_tuning(connection, tuning_id, status, version_id):
                raise RegistryError(f"There is no tuning {tuning_id} to finish.")

    def last_tuning(self) -> Tuning | None:
        """The tuning started last. One whose process died without a word is `interrupted`."""
        with self._reading() as connection:
            row = connection.execute(select(tables.tunings).order_by(tables.tunings.c.id.desc()).limit(1)).one_or_none()
        if row is None:
            return None
        status: TuningStatus = "interrupted" if row.status == "running" and not rows.may_be_alive(row.process) else row.status
        return Tuning(row.id, row.started, row.finished, status, row.labels, row.steps, row.version)

    # --- federated rounds -------------------------------------------------------------------------------------------------------------

    def record_round(self, record: RoundRecord) -> RoundRecord:
        """Keep what is known of a round. Repeating a call changes nothing but the time: per federation and round there is one record, into
        which fields that are not None go, and mappings by key.

        Returns:
            the whole record as it is now.
        """
        with self._writing() as connection:
            merged = rows.merge_round(rows.find_round(connection, record.federation, record.round), record)
            rows.save_round(connection, merged)
        return merged

    def find_round(self, federation: str, number: int) -> RoundRecord | None:
        """What is known of one round; None when nothing is."""
        with self._reading() as connection:
            return rows.find_round(connection, federation, number)

    def rounds(self, federation: str | None = None) -> list[RoundRecord]:
        """All rounds, of one federation if it is given, in order of federation and number."""
        query = select(tables.rounds).order_by(tables.rounds.c.federation, tables.rounds.c.round)
        if federation is not None:
            query = query.where(tables.rounds.c.federation == federation)
        with self._reading() as connection:
            return [RoundRecord(**row._mapping) for row in connection.execute(query)]

    # --- inside -----------------------------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Remove what dead writers left, and give whole version folders without a row their row. Cheap when there is nothing to do."""
        adapter_store.remove_leftovers(self._adapters)
        if not adapter_store.unregistered(self._adapters, {version.id for version in self.versions()}):
            return
        # Under the write lock no living writer is between its folder and its row.
        with self._writing() as connection:
            known = set(connection.execute(select(tables.versions.c.id)).scalars())
            for version_id in adapter_store.unregistered(self._adapters, known):
                provenance = adapter_store.adopt(self._adapters / version_id)
                if provenance is not None:
                    rows.insert_version(connection, version_id, provenance)

    def _refuse_damaged(self, version_id: str) -> None:
        problem = adapter_store.problem_of(self._adapters / version_id, version_id)
        if problem is not None:
            raise RegistryError(f"{problem} Roll back (`fedsca adapters rollback`), or restore the folder from a backup.")

    @contextmanager
    def _transaction(self, *, immediate: bool) -> Iterator[Connection]:
        try:
            with self._live_engine().connect() as connection:
                connection = connection.execution_options(**{tables.IMMEDIATE: immediate})
                with connection.begin():
                    yield connection
        except DatabaseError as error:
            raise RegistryError(f"The registry {self._path} refused ({error.orig}): {tables.remedy(error)}") from error

    def _reading(self) -> AbstractContextManager[Connection]:
        return self._transaction(immediate=False)

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._transaction(immediate=True)

    def _live_engine(self) -> Engine:
        if os.getpid() != self._owner:  # forked: the parent's connections must not be used, nor closed, here
            self._engine.dispose(close=False)
            self._owner = os.getpid()
        return self._engine
