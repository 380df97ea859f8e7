"""One round through the real thing: a SuperLink, two SuperNodes and the processes that they start, by the public commands alone.

Ports are free ones, every wait has a deadline, and everything that was started is stopped whatever happens.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from fed_backend import launch, server_state
from fed_backend.client_site import Member, site_schema
from fed_backend.strategy import STATE_FILE
from sam_adapters.registry import Registry
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toy_sites import reports_of

FEDSCA = [sys.executable, "-m", "fed_backend.cli"]
UP_SECONDS, ROUND_SECONDS, STOP_SECONDS = 240.0, 480.0, 30.0


@contextmanager
def process(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `fedsca` command; at the end it and all its descendants are gone."""
    with log.open("wb") as stream:
        started = subprocess.Popen([*FEDSCA, *arguments], stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        family = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)] if started.poll() is None else []
        started.terminate()
        _, alive = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for one in alive:
            one.kill()
        started.wait(STOP_SECONDS)


def wait_until_up(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + UP_SECONDS
    while not launch.answers("127.0.0.1", port, seconds=0.2):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_round_over_real_processes(tmp_path: Path) -> None:
    sites = [make_site(tmp_path / name, name, seed=index) for index, name in enumerate("AB")]
    for index, site in enumerate(sites):
        add_version(site, tmp_path / f"scratch-{index}", seed=index)
        site_schema(Member.open(site.root))  # torch is running here already, so `site join` need not start it
    state, port = tmp_path / "server", launch.free_port()
    with ExitStack() as stack:
        start = ["server", "start", "--state", str(state), "--port", str(port), "--join-seconds", "240", "--probe-seconds", "240"]
        server = stack.enter_context(process([*start, "--mixture-seconds", "240"], tmp_path / "server.log"))
        wait_until_up(port, server, tmp_path / "server.log")
        for site in sites:
            join = ["site", "join", "--site", str(site.root), "--superlink", f"127.0.0.1:{port}"]
            stack.enter_context(process(join, tmp_path / f"{site.root.name}.log"))
        done = subprocess.run(
            [*FEDSCA, "server", "run-round", "--state", str(state)],
            capture_output=True,
            encoding="utf-8",
            timeout=ROUND_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output + "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log"))

    (report,) = reports_of(state)
    assert (report["status"], report["refusals"]) == ("finished", []), output
    assert report["givers"] == ["A", "B"]
    assert server_state.load(state / STATE_FILE).round == 1
    for site in sites:
        name = site.root.name
        verdict = report["verdicts"][name]
        assert verdict["verdict"] in ("promoted", "rejected", "unchanged")
        assert set(report["bytes"][name]) == {"update", "probe_request", "probe_reply", "mixture"}
        with Registry(site) as registry:
            (record,) = registry.rounds(report["federation"])
        assert (record.decision, record.run_id) == (verdict["verdict"], report["run"])
    assert not launch.answers("127.0.0.1", port)
