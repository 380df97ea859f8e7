"""From nothing to a round over TLS with node authentication, by the public commands alone; then somebody who must not get in.

Three hospitals enrol: one before the server has ever run, two while it runs. A stranger, with keys of his own and the server's certificate,
is turned away. One of the three is revoked while all are connected; the round of the other two goes on. They
have a case each and none for validation, so that neither probe nor gate starts torch's work, which the other test does.
"""

import dataclasses
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fed_backend import launch
from fed_backend.clock_check import seconds_ahead
from fed_backend.enrolment import approval, membership
from fed_backend.enrolment.authority import Authority
from fed_backend.enrolment.request import read_request
from fed_backend.enrolment.superlink_nodes import SuperLinkNodes
from fed_backend.member import Member, site_schema
from fed_backend.schema_cache import SCHEMA_FILE
from sam_adapters import atomic
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toy_sites import reports_of
from tests.integration.fedsca_processes import FEDSCA, ROUND_SECONDS, STOP_SECONDS, process, wait_until_up

WAIT_SECONDS = 120.0


def fedsca(*arguments: str | Path) -> str:
    """Run a command to its end; returns what it said."""
    done = subprocess.run(
        [*FEDSCA, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        timeout=ROUND_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def said(output: str, start: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith(start)]
    return line.removeprefix(start)


def become_member(state: Path, site: SiteDirectory) -> None:
    """What the commands do, without starting them."""
    text, _ = membership.enrol(site, site.root.name)
    done = approval.approve(state, read_request(text), site.root.name)
    membership.accept(site, done.bundle, Authority.load(state).fingerprint)


def become_member_by_commands(state: Path, site: SiteDirectory) -> None:
    name, request = site.root.name, site.root.parent / f"{site.root.name}.req"
    shown = said(fedsca("site", "enrol", "--site", site.root, "--out", request), "Fingerprint of the site: ")
    approved = fedsca("server", "approve", request, "--state", state, "--fingerprint", shown)
    authority = said(approved, "Read this to the hospital, the authority's fingerprint: ")
    fedsca("site", "accept", state / "bundles" / f"{name}.txt", "--site", site.root, "--fingerprint", authority)


def wait_for(what: str, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"{what}: not after {WAIT_SECONDS} s"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_enrolled_sites_exchange_a_stranger_and_a_revoked_one_do_not(tmp_path: Path) -> None:
    sites = {name: make_site(tmp_path / name, name, train=1, validation=0, seed=index) for index, name in enumerate("ABC")}
    for index, site in enumerate(sites.values()):
        add_version(site, tmp_path / f"scratch-{index}", seed=index)
        site_schema(Member.open(site.root))
    state, port = tmp_path / "server", launch.free_port()
    fedsca("server", "init", "--state", state, "--host", "127.0.0.1", "--port", str(port), "--name", "north")
    become_member(state, sites["A"])  # the server has never run
    atomic.write_bytes(state / SCHEMA_FILE, (sites["A"].work / SCHEMA_FILE).read_bytes())  # torch need not start for it
    with ExitStack() as stack:
        waits = ["--join-seconds", "240", "--probe-seconds", "240", "--mixture-seconds", "240"]
        server = stack.enter_context(
            process(["server", "start", "--no-config", "--state", str(state), "--port", str(port), *waits], tmp_path / "s.log")
        )
        wait_until_up(port, server, tmp_path / "s.log")
        assert seconds_ahead(f"127.0.0.1:{port}", tls=True) == pytest.approx(0, abs=3), "the same clock"
        become_member_by_commands(state, sites["B"])
        become_member(state, sites["C"])
        running = {
            name: stack.enter_context(process(["site", "start", "--site", str(site.root)], tmp_path / f"{name}.log"))
            for name, site in sites.items()
        }
        stranger = SiteDirectory.open(tmp_path / "stranger")
        membership.enrol(stranger, "A")
        held = dataclasses.replace(membership.require(sites["A"]), keys_folder=stranger.root / "federation" / "keys" / "001")
        argv = ["site", "join", "--site", stranger.root, "--name", "A", "--superlink", held.bundle.address]
        argv += ["--root-certificates", held.roots_file, "--node-key", held.node_key]
        intruder = stack.enter_context(process([str(word) for word in argv], tmp_path / "stranger.log"))
        nodes = SuperLinkNodes(state)
        wait_for("all three online", lambda: [node.status for node in nodes.list()] == ["online"] * 3)
        assert intruder.wait(WAIT_SECONDS) != 0, "a stranger was let in"

        fedsca("server", "revoke", "--state", state, "--name", "C", "--reason", "Left.")
        running["C"].wait(WAIT_SECONDS)  # its SuperNode is refused at its next word and ends
        again = stack.enter_context(process(["site", "start", "--site", str(sites["C"].root)], tmp_path / "again.log"))
        assert again.wait(WAIT_SECONDS) != 0, "a revoked site was let in again"
        output = fedsca("server", "run-round", "--state", state)
        assert [name for name in "AB" if running[name].poll() is None] == ["A", "B"]
        assert sorted((node.name, node.status) for node in nodes.list()) == [("A", "online"), ("B", "online"), ("C", "unregistered")]

    (report,) = reports_of(state)
    assert report["status"] == "finished", output
    assert {name: sorted(report["weights"][name]) for name in report["weights"]} == {"A": ["A", "B"], "B": ["A", "B"]}
    assert all(min(report["bytes"][name][what] for what in ("update", "mixture")) > 1000 for name in "AB")
    assert {name: verdict["verdict"] for name, verdict in report["verdicts"].items()} == {"A": "waiting", "B": "waiting"}
    assert running["A"].wait(STOP_SECONDS) is not None
