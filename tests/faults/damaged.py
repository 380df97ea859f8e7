"""Files that are half there: left over by something killed, truncated by a bad disk, deleted by a tired person."""

import shutil
import time
from pathlib import Path

from fed_backend.server_state_file import STATE_FILE, previous_of
from sam_adapters.registry import Registry
from tests.faults.disk import fedsca, one_sentence
from tests.faults.fault import Seen, fault, recovered
from tests.faults.federation import Federation
from tests.faults.kill_server import LARGE
from tests.faults.kill_site import PATIENCE


def cut(path: Path) -> None:
    """Only the first half is left."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def next_round(federation: Federation, what: str) -> Seen:
    """Nobody has to do anything."""
    begun = time.monotonic()
    federation.ask()
    recovered(federation, begun)
    return Seen(what, time.monotonic() - begun)


@fault("half-written and temporary files everywhere", "files", quick=True)
def leftovers(federation: Federation) -> Seen:
    half = (federation.state / STATE_FILE).read_bytes()[:5000]
    site = federation.sites["A"]
    for folder in (federation.state, federation.state / "rounds", site.root, site.work, site.adapters):
        (folder / ".tmp-half").write_bytes(half)
    (federation.state / "rounds" / "round-0999.json.part").write_bytes(b'{"format": 1, "rou')
    (site.work / "mixture-half").mkdir()
    (site.work / "mixture-half" / "adapter_model.safetensors").write_bytes(half)
    return next_round(federation, "Nothing of it was taken for anything.")


@fault("server.safetensors is truncated", "files")
def state_cut(federation: Federation) -> Seen:
    path = federation.state / STATE_FILE
    cut(path)
    federation.ask()
    federation.wait("the round is given up", lambda: _given_up(federation))
    last = federation.last()
    assert last is not None
    assert last.outcome == "given up"
    assert "stop the server, copy" in last.reason, last
    begun = time.monotonic()
    federation.kept["server"].off()
    shutil.copy(previous_of(path), path)
    federation.kept["server"].on()
    federation.done = federation.server_state().round
    federation.whole_round()
    return Seen("The round was given up with what to do; that done, the next one was whole.", time.monotonic() - begun, last.reason)


def _given_up(federation: Federation) -> bool:
    last = federation.last()
    return last is not None and last.outcome == "given up"


@fault("server.safetensors is deleted", "files")
def state_deleted(federation: Federation) -> Seen:
    path, before = federation.state / STATE_FILE, federation.server_state().federation
    path.unlink()
    federation.ask()
    federation.wait("the round is given up", lambda: _given_up(federation))
    last = federation.last()
    assert last is not None
    assert "copy" in last.reason, last
    begun = time.monotonic()
    federation.kept["server"].off()
    shutil.copy(previous_of(path), path)
    federation.kept["server"].on()
    federation.done = federation.server_state().round
    federation.whole_round()
    assert federation.server_state().federation == before
    return Seen(
        "No new federation was begun; what to do was said, and that done the next round was whole.", time.monotonic() - begun, last.reason
    )


@fault("a hospital's registry is truncated", "files", options=PATIENCE)
def registry_cut(federation: Federation) -> Seen:
    site = federation.sites["A"]
    copy = federation.folder / "registry.backup"
    with Registry(site):
        pass  # what is in the write-ahead log goes into the file
    shutil.copy(site.registry_file, copy)
    cut(site.registry_file)
    report = federation.round()
    assert "B" in report["verdicts"]
    reason = federation.reason("A")
    assert "registry" in reason, reason
    begun = time.monotonic()
    for path in site.root.glob("registry.sqlite*"):
        path.unlink()
    shutil.copy(copy, site.registry_file)
    federation.whole_round()
    return Seen("The others went on, the site said why; with the file restored it took part again.", time.monotonic() - begun, reason)


@fault("the file of a hospital's active version is truncated", "files", sites=LARGE, options=PATIENCE)
def version_cut(federation: Federation) -> Seen:
    site = federation.sites["P"]
    with Registry(site) as registry:
        active = registry.active()
    assert active is not None
    path = site.adapters / active.id / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.chmod(0o600)
    cut(path)
    report = federation.round()
    assert "Q" in report["verdicts"]
    reason = federation.reason("P")
    begun = time.monotonic()
    path.write_bytes(whole)
    federation.whole_round()
    return Seen("The others went on, the site said why; with the file restored it took part again.", time.monotonic() - begun, reason)


@fault("a hospital's site.json is truncated", "files", options=PATIENCE)
def settings_cut(federation: Federation) -> Seen:
    site = federation.sites["A"]
    whole = site.settings_file.read_bytes()
    cut(site.settings_file)
    report = federation.round()
    assert "B" in report["verdicts"]
    assert "A" not in report["verdicts"]
    reason = federation.reason("A")
    assert "site directory" in reason, reason
    begun = time.monotonic()
    site.settings_file.write_bytes(whole)
    federation.whole_round()
    return Seen("The others went on; with the file restored the site took part again.", time.monotonic() - begun, reason)


@fault("a hospital's memory of what it sent is truncated", "files")
def memory_cut(federation: Federation) -> Seen:
    cut(federation.sites["A"].work / "sent.safetensors")
    return next_round(federation, "The site sent its whole update instead of a difference.")


@fault("a line of both audit logs is torn", "files")
def audit_torn(federation: Federation) -> Seen:
    for path in (federation.sites["A"].audit_file, federation.state / "audit.jsonl"):
        data = path.read_bytes()
        path.write_bytes(data + b'{"when": "2026-11-2')
    seen = next_round(federation, "Both logs went on below the torn line, and their chains still hold.")
    for option, path in (("--site", federation.sites["A"].root), ("--state", federation.state)):
        verified = fedsca(federation, "audit", "verify", option, str(path))
        assert verified.returncode == 0, verified.stdout
    return seen


@fault("the schedule's book is truncated", "files")
def book_cut(federation: Federation) -> Seen:
    cut(federation.state / "schedule.json")
    federation.wait(
        "the book is put aside", lambda: list(federation.state.glob("schedule.json?*")) or "schedule" in federation.kept["server"].said
    )
    return next_round(federation, "It was put aside, and rounds go on.")


@fault("the last round's report is truncated", "files")
def report_cut(federation: Federation) -> Seen:
    path = federation.state / "rounds" / f"round-{federation.done:04d}.json"
    whole = path.read_bytes()
    cut(path)
    status = fedsca(federation, "server", "status", "--state", str(federation.state))
    sentence = one_sentence(status.stdout)
    begun = time.monotonic()
    federation.ask()
    last = federation.finished(None)
    path.write_bytes(whole)
    assert last.outcome == "finished", last
    federation.assert_whole(federation.done)
    person = sentence if status.returncode else ""
    return Seen("The next round was whole; the damaged report is the only thing that is lost.", time.monotonic() - begun, person)


@fault("the SuperLink's database is deleted while the server is off", "files")
def database_deleted(federation: Federation) -> Seen:
    federation.kept["server"].off()
    for path in federation.state.glob("superlink.sqlite*"):
        path.unlink()
    federation.kept["server"].on()
    return next_round(federation, "Sites registered anew by themselves.")


@fault("the SuperLink's database is overwritten with garbage", "files")
def database_garbage(federation: Federation) -> Seen:
    federation.kept["server"].off()
    for path in federation.state.glob("superlink.sqlite*"):
        path.unlink()
    (federation.state / "superlink.sqlite").write_bytes(b"garbage" * 1000)
    federation.kept["server"].on()
    said = lambda: "superlink.sqlite" in federation.kept["server"].said  # noqa: E731
    federation.wait("the server says what is wrong", said)
    begun = time.monotonic()
    federation.ask()
    recovered(federation, begun)
    return Seen("The database was put aside, and sites registered anew by themselves.", time.monotonic() - begun)
