"""One round through the real thing: a SuperLink, two SuperNodes and the processes that they start, by the public commands alone.

Ports are free ones, every wait has a deadline, and everything that was started is stopped whatever happens.
"""

import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from fed_backend import launch, server_state_file
from fed_backend.member import Member, site_schema
from fed_backend.server_state_file import STATE_FILE
from sam_adapters.registry import Registry
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toy_sites import reports_of
from tests.integration.fedsca_processes import FEDSCA, ROUND_SECONDS, process, wait_until_up


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
    assert server_state_file.load(state / STATE_FILE).round == 1
    for site in sites:
        name = site.root.name
        verdict = report["verdicts"][name]
        assert verdict["verdict"] in ("promoted", "rejected", "unchanged")
        assert set(report["bytes"][name]) == {"update", "probe_request", "probe_reply", "mixture"}
        with Registry(site) as registry:
            (record,) = registry.rounds(report["federation"])
        assert (record.decision, record.run_id) == (verdict["verdict"], report["run"])
    assert not launch.answers("127.0.0.1", port)
