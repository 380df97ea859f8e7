"""The disk is full: at the server, at a hospital, for a tuning. A real one: a small tmpfs, filled to the last byte."""

import subprocess
import time

from fed_backend.schedule import book as books
from tests.faults import small_disk
from tests.faults.fault import Seen, fault
from tests.faults.federation import FEDSCA, WAIT_SECONDS, Federation
from tests.faults.kill_server import TAKEN, UPDATE
from tests.faults.kill_site import PATIENCE, at, tune

SERVER = {"small_disks": {"server": 48}}
SITE = {"small_disks": {"A": 48}, **PATIENCE}


def fedsca(federation: Federation, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command of a person; what it said, errors together with the rest."""
    return subprocess.run(
        [*FEDSCA, *arguments],
        env=federation.moments.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=WAIT_SECONDS,
        check=False,
    )


def one_sentence(output: str) -> str:
    """What a command said, which is no traceback."""
    assert "Traceback" not in output, output
    return " ".join(output.split())


@fault("disk full at the server in the middle of a round", "disk", options=SERVER, shared=False)
def server_full(federation: Federation) -> Seen:
    federation.start()
    reached = federation.moments.hold(UPDATE)
    federation.ask()
    reached.wait()
    small_disk.fill(federation.state)
    reached.release()
    federation.wait("the disk is complained of", lambda: "No space left" in federation.kept["server"].said)
    running = books.load(federation.state).running
    assert running is not None
    assert running.target == federation.done + 1
    small_disk.free(federation.state)
    begun = time.monotonic()
    last = federation.finished()
    federation.assert_whole(federation.done)
    return Seen(f"The round was interrupted and taken up when there was room again (attempt {last.attempts}).", time.monotonic() - begun)


@fault("disk full at the server when a person asks for a round", "disk", options=SERVER, shared=False)
def server_full_at_the_command(federation: Federation) -> Seen:
    federation.start()
    small_disk.fill(federation.state)
    asked = fedsca(federation, "server", "now", "--state", str(federation.state))
    sentence = one_sentence(asked.stdout)
    assert asked.returncode != 0, sentence
    assert "No space left" in sentence, sentence
    small_disk.free(federation.state)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("The command failed with a sentence; after room was made it worked.", time.monotonic() - begun, sentence)


@fault("disk full at a hospital before its update", "disk", options=SITE, shared=False)
def site_full(federation: Federation) -> Seen:
    federation.start()
    root = federation.sites["A"].root
    small_disk.fill(root)
    report = federation.round()
    reason = federation.reason("A")
    assert "B" in report["verdicts"]
    assert "No space left" in reason or "make room" in reason, reason
    assert "backup" not in reason, reason
    small_disk.free(root)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("The round went on without the site and said why; the next one had it again.", time.monotonic() - begun, reason)


@fault("disk full at a hospital while it takes its mixture", "disk", options=SITE, shared=False)
def site_full_in_the_gate(federation: Federation) -> Seen:
    federation.start()
    root = federation.sites["A"].root
    reached = federation.moments.hold(at(TAKEN, "A"))
    federation.ask()
    reached.wait()
    small_disk.fill(root)
    reached.release()
    federation.finished()
    reason = federation.reason("A")
    assert "No space left" in reason or "make room" in reason, reason
    assert "backup" not in reason, reason
    small_disk.free(root)
    begun = time.monotonic()
    federation.whole_round()
    return Seen("The mixture was not taken, with the reason in the report; the next one was.", time.monotonic() - begun, reason)


@fault("disk full at a hospital while it tunes", "disk", sites=("P", "Q"), options={"small_disks": {"P": 48}}, shared=False)
def tuning_full(federation: Federation) -> Seen:
    federation.start()
    root, before = federation.sites["P"].root, federation.versions("P")
    small_disk.fill(root)
    assert tune(federation, "P") != 0
    small_disk.free(root)
    assert federation.versions("P") == before
    begun = time.monotonic()
    assert tune(federation, "P") == 0, federation.logs()
    federation.whole_round()
    return Seen("The tuning failed and left the versions as they were; the next one made its version.", time.monotonic() - begun)
