"""The hash chain of an audit log: every change of a byte is found, and the line named."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters import audit_chain
from sam_adapters.audit import AuditLog
from sam_adapters.audit_chain import GENESIS, BadLine, verify


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for who in ("anna", "bert", "cleo"):
        log.record("login", who=who)
    return log


def test_the_chain_is_what_the_module_says() -> None:
    body = b'{"event":"login"}'
    first = hashlib.sha256(GENESIS.encode() + body).hexdigest()
    assert audit_chain.link(GENESIS, b"", body) == first
    line = audit_chain.chained(body, first)
    assert line == b'{"event":"login","chain":"' + first.encode() + b'"}'
    assert (audit_chain.chain_of(line), audit_chain.body_of(line)) == (first, body)
    assert audit_chain.link(first, b'{"to\n', body) == hashlib.sha256(first.encode() + b'{"to\n' + body).hexdigest()


def test_what_was_written_is_good_and_its_head_is_the_last_line(log: AuditLog) -> None:
    verdict = verify(log.path)
    assert (verdict.good, verdict.lines, verdict.chained_from, verdict.torn) == (True, 3, 1, ())
    last = json.loads(log.path.read_bytes().splitlines()[-1])
    assert verdict.head == log.head() == last["chain"]


def test_an_empty_or_missing_log_begins_at_genesis(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    assert log.head() == GENESIS
    log.path.touch()
    assert (log.head(), verify(log.path).good, verify(log.path).head) == (GENESIS, True, GENESIS)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_altered_line_is_named(log: AuditLog, number: int) -> None:
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b'"login"', b'"Login"')
    log.path.write_bytes(b"".join(lines))
    assert verify(log.path).bad == BadLine(number, "altered")


def test_lines_taken_out_put_in_or_swapped_are_found(log: AuditLog) -> None:
    first, second, third = log.path.read_bytes().splitlines(keepends=True)
    cases = {
        (first, third): BadLine(2, "altered"),
        (second, third): BadLine(1, "altered"),
        (first, third, second): BadLine(2, "altered"),
        (first, first, second, third): BadLine(2, "altered"),
        (first, b'{"event":"login","who":"mallory"}\n', second, third): BadLine(2, "unchained"),
        (first, second, third, b'{"event":"login","who":"mallory"}\n'): BadLine(4, "unchained"),
        (first, b"\n", second, third): BadLine(3, "altered"),
    }
    for lines, bad in cases.items():
        log.path.write_bytes(b"".join(lines))
        assert verify(log.path).bad == bad


def test_a_cut_end_is_found_by_an_anchor_only(log: AuditLog) -> None:
    head = log.head()
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]))
    assert verify(log.path).good
    assert verify(log.path, [head]).missing == (head,)
    log.record("login", who="dora")  # written anew from there on
    assert verify(log.path).good
    assert not verify(log.path, [head]).good


def test_an_anchor_of_any_time_is_found(log: AuditLog) -> None:
    anchors = [GENESIS, log.head()]
    log.record("login", who="dora")
    assert verify(log.path, [*anchors, log.head()]).good


def test_a_torn_end_is_bad_until_the_next_line_holds_it(log: AuditLog) -> None:
    with log.path.open("ab") as stream:
        stream.write(b'{"when":"20')
    assert verify(log.path).bad == BadLine(4, "torn")
    log.record("login", who="dora")
    verdict = verify(log.path)
    assert (verdict.good, verdict.lines, verdict.torn) == (True, 5, (4,))
    log.path.write_bytes(log.path.read_bytes().replace(b'{"when":"20\n', b'{"when":"21\n'))
    assert verify(log.path).bad == BadLine(5, "altered")


def test_a_line_that_lost_only_its_line_break_counts(log: AuditLog) -> None:
    log.path.write_bytes(log.path.read_bytes()[:-1])
    assert verify(log.path).good
    log.record("login", who="dora")
    assert (verify(log.path).good, verify(log.path).lines) == (True, 4)


def test_older_lines_without_a_chain_are_accepted_and_held_from_then_on(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    old = b"".join(json.dumps({"event": "login", "who": f"user {number}"}).encode() + b"\n" for number in range(5000))
    log.path.write_bytes(old)  # larger than the block that is read at once
    assert verify(log.path).chained_from is None
    log.record("login", who="dora")
    log.record("login", who="emil")
    assert (verify(log.path).good, verify(log.path).chained_from, verify(log.path).lines) == (True, 5001, 5002)
    log.path.write_bytes(log.path.read_bytes().replace(b"user 17", b"user 18", 1))
    assert verify(log.path).bad == BadLine(5001, "altered")


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_any_changed_byte_is_found(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("chain") / "audit.jsonl"
    log = AuditLog(path)
    for who in ("anna", "bert"):
        log.record("login", who=who)
    head, data = log.head(), bytearray(path.read_bytes())
    position %= len(data) - 1  # the last line break alone says nothing
    if data[position] == value:
        value ^= 1
    data[position] = value
    path.write_bytes(bytes(data))
    assert not verify(path, [head]).good


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    for _ in range(3):
        log.record("login", who="x" * 400)
    whole = log.path.read_bytes()
    read = 0
    real = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        read += size
        return real(descriptor, size, offset)

    monkeypatch.setattr(audit_chain, "_BLOCK", 700)
    monkeypatch.setattr(os, "pread", counted)
    assert log.head() == json.loads(whole.splitlines()[-1])["chain"]
    assert read == 700
