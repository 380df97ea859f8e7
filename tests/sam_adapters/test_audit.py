"""The audit log: what a line says, and what happens when it cannot be written."""

import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest

from sam_adapters.audit import AuditLog, Caller, calling
from sam_adapters.errors import AuditError
from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import make_adapter, toy_provenance


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_says_who_what_when_and_from_where(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    with calling(Caller("anna", "10.1.2.3")):
        log.record("label_saved", case="case\n7", tag="final")
    log.record("login_refused", who="(unknown)", address="10.9.9.9")
    first, second = lines(log.path)
    assert first.pop("when").endswith("+00:00")
    assert len(first.pop("chain")) == 64
    assert first == {"event": "label_saved", "who": "anna", "address": "10.1.2.3", "case": "case\n7", "tag": "final"}
    assert (second["who"], second["address"]) == ("(unknown)", "10.9.9.9")
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_a_torn_line_stays_and_the_next_begins_below_it(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("login", who="anna")
    with log.path.open("ab") as stream:
        stream.write(b'{"when":"20')
    log.record("login", who="bert")
    first, torn, last = log.path.read_text(encoding="utf-8").splitlines()
    assert torn == '{"when":"20'
    assert [json.loads(line)["who"] for line in (first, last)] == ["anna", "bert"]


def test_long_texts_are_cut(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.record("label_saved", who="x" * 2000)
    assert lines(log.path)[0]["who"] == "x" * 500


def _record_many(path: Path, who: str) -> None:
    for _ in range(40):
        AuditLog(path).record("login", who=who)


def test_processes_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_record_many, args=(path, name)) for name in ("anna", "bert", "cleo")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(line["who"] for line in lines(path)) == ["anna"] * 40 + ["bert"] * 40 + ["cleo"] * 40


def test_a_log_that_takes_no_line_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="The audit log took no line"):
        AuditLog(tmp_path / "missing" / "audit.jsonl").record("login")


def test_every_change_of_the_active_version_has_a_line(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    with Registry(site) as registry, calling(Caller("", "10.1.2.3")):
        version = registry.add(make_adapter(tmp_path / "1", 1), toy_provenance())
        registry.activate(version.id, reason="Better.", by="anna")
        registry.activate(version.id, reason="Again.", by="anna")  # changes nothing
        registry.rollback(reason="Worse.", by="bert")
    first, second = lines(site.audit_file)
    assert (first["event"], first["who"], first["address"]) == ("version_activated", "anna", "10.1.2.3")
    assert (first["version"], first["before"], first["reason"]) == (version.id, "base", "Better.")
    assert (second["event"], second["who"], second["version"]) == ("version_rolled_back", "bert", "base")
