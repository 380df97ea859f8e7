"""Whole rounds in one process with everything real but the transport: ServerApp, ClientApp, registry, network, probe, gate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from fed_backend import client_app, server_app, server_state_file
from fed_backend.in_process_grid import InProcessGrid, InProcessNode
from fed_backend.run_config import FederationSettings
from fed_backend.server_state_file import STATE_FILE
from fed_backend.wire_budget import BUDGET
from sam_adapters.adapter_files import read_shared_state
from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.site_fixture import add_version, make_site
from tests.fed_backend.toy_sites import reports_of

NAMES = ("A", "B", "C")


def run(state: Path, sites: list[SiteDirectory], rounds: int, **changed: Any) -> None:
    """A run, as Flower would start it."""
    nodes = [InProcessNode({"site": name, "site-directory": str(site.root)}) for name, site in zip(NAMES, sites, strict=False)]
    settings = FederationSettings(min_sites=2, projection_size=256, update_seconds=1, **changed)
    config = {"state-dir": str(state), "rounds": rounds, **settings.to_run_config()}
    context = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config=config)
    server_app.app(InProcessGrid(client_app.app, nodes), context)


@pytest.mark.slow
def test_two_rounds_with_three_sites(tmp_path: Path) -> None:
    sites = [make_site(tmp_path / name, name, seed=index) for index, name in enumerate(NAMES)]
    for index, site in enumerate(sites):
        add_version(site, tmp_path / f"scratch-{index}", seed=index)
    state = tmp_path / "server"
    run(state, sites, 1)
    run(state, sites, 1)  # a new run: the server remembers

    first, second = reports_of(state)
    for report in (first, second):
        assert report["status"] == "finished"
        assert report["refusals"] == []
        assert report["givers"] == list(NAMES)
        assert set(report["verdicts"]) == set(NAMES)
        for name in NAMES:
            assert sum(report["weights"][name].values()) == pytest.approx(1)
            assert report["sites"][name]["cases"] == 2
            assert report["sites"][name]["probe_cases"] == [1, 1]
            assert set(report["bytes"][name]) == {"update", "probe_request", "probe_reply", "mixture"}
            assert report["verdicts"][name]["verdict"] in ("promoted", "rejected", "unchanged")
            traffic = report["bytes"][name]
            assert traffic["update"] + traffic["probe_reply"] <= BUDGET["int8"]
            assert traffic["probe_request"] + traffic["mixture"] <= BUDGET["int8"]
        assert np.isfinite(np.array(report["distance"], float)).all()
    assert (first["round"], second["round"], second["federation"]) == (1, 2, first["federation"])
    _check_site(sites[0], state, first)
    assert server_state_file.load(state / STATE_FILE).round == 2


def _check_site(site: SiteDirectory, state: Path, report: dict[str, Any]) -> None:
    """The site's registry tells the same story as the server's report."""
    verdict = report["verdicts"]["A"]
    with Registry(site) as registry:
        record = registry.find_round(report["federation"], 1)
        candidate = registry.get(verdict["candidate"])
        made = read_shared_state(registry.folder(candidate.id), server_state_file.load(state / STATE_FILE).schema)
    assert record is not None
    assert (record.received_version, record.decision) == (verdict["candidate"], verdict["verdict"])
    assert dict(candidate.provenance.weights) == pytest.approx(report["weights"]["A"])
    assert record.bytes_up == {purpose: report["bytes"]["A"][purpose] for purpose in ("update", "probe_reply")}
    assert record.bytes_down == {purpose: report["bytes"]["A"][purpose] for purpose in ("probe_request", "mixture")}
    assert np.abs(made.to_vector()).max() > 0


def test_a_site_with_other_settings_is_told_so_and_the_others_go_on(tmp_path: Path) -> None:
    """No site has a version yet, so no network is needed: updates of zeros, mixtures that change nothing."""
    sites = [make_site(tmp_path / "A", "A", train=1), make_site(tmp_path / "B", "B", train=1), make_site(tmp_path / "C", "C", rank=4)]
    state = tmp_path / "server"
    run(state, sites, 1)
    (report,) = reports_of(state)
    assert {name: verdict["verdict"] for name, verdict in report["verdicts"].items()} == {"A": "unchanged", "B": "unchanged"}
    refusals = {refusal["site"]: refusal for refusal in report["refusals"]}
    assert refusals["C"]["phase"] == "update"
    assert "set rank, shared_depth and shared_decoder" in refusals["C"]["reason"]
    assert "fewer than two patients" in refusals["A"]["reason"]
    with Registry(sites[2]) as registry:
        (record,) = registry.rounds()
    assert record.decision == "refused"
    assert "set rank, shared_depth and shared_decoder" in (record.reason or "")


def test_a_site_directory_that_is_gone_does_not_stop_the_round(tmp_path: Path) -> None:
    sites = [make_site(tmp_path / name, name, train=1) for name in ("A", "B")]
    gone = SiteDirectory(tmp_path / "gone")
    state = tmp_path / "server"
    run(state, [*sites, gone], 1)
    (report,) = reports_of(state)
    assert report["status"] == "finished"
    (refusal,) = [refusal for refusal in report["refusals"] if refusal["phase"] == "update"]
    assert refusal["site"] == "node 3"
    assert str(tmp_path) not in refusal["reason"]


def test_a_server_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    from fed_backend.errors import ServerStateError

    sites = [make_site(tmp_path / name, name, train=1) for name in ("A", "B")]
    run(tmp_path / "server", sites, 1)
    with pytest.raises(ServerStateError, match="another state file"):
        run(tmp_path / "server", sites, 1, rank=4)


def test_two_runs_never_share_a_state_folder(tmp_path: Path) -> None:
    from fed_backend.errors import RoundError
    from sam_adapters.file_lock import locked

    state = server_app.state_folder(str(tmp_path / "server"))
    with locked(state / server_app.LOCK_FILE), pytest.raises(RoundError, match="Another run works on"):
        run(state, [], 1)


@pytest.mark.parametrize("text", ["", "relative/folder", 3])
def test_the_state_folder_must_be_absolute(text: object) -> None:
    from fed_backend.errors import RoundError

    with pytest.raises(RoundError, match="state-dir"):
        server_app.state_folder(text)
