"""Rounds with coded messages over a Flower grid: bytes on the default base's layout, mixed versions, lost and unknown references."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from fed_backend import server_state_file, wire
from fed_backend.payload_codec import ENCODINGS, Encoding
from fed_backend.run_config import FederationSettings
from fed_backend.server_state_file import STATE_FILE
from fed_backend.strategy import SgcaStrategy
from fed_backend.wire_budget import BUDGET, PROBE_REPLY_LARGEST
from sam_adapters.schema import AdapterSchema, AdapterState
from tests.fed_backend.toy_sites import FakeClock, ToyFederation, ToySite, lose, only, reports_of
from tests.fed_backend.toys import FULL_SIZE, SCHEMA, toy_state


def run(
    folder: Path, grid: ToyFederation, schema: AdapterSchema, encoding: Encoding = "fp16", rounds: int = 1, probe_every: int = 1
) -> None:
    settings = FederationSettings(
        min_sites=2, join_seconds=10, update_seconds=20, probe_seconds=30, mixture_seconds=40, encoding=encoding, probe_every=probe_every
    )
    state = server_state_file.load_or_new(folder / STATE_FILE, schema)
    SgcaStrategy(state, settings, folder, run="7", clock=FakeClock()).start(grid, num_rounds=rounds)


def three_sites() -> ToyFederation:
    return ToyFederation([ToySite(name, toy_state(value), is_plain=False) for name, value in (("A", 1.0), ("B", 2.0), ("C", 2.5))])


def random_state(seed: int, size: float = 0.01) -> AdapterState:
    return AdapterState.from_vector(FULL_SIZE, np.random.default_rng(seed).normal(0, size, FULL_SIZE.size).astype(np.float32))


def large_sites() -> list[ToySite]:
    sites = [ToySite(name, random_state(index), schema=FULL_SIZE, is_plain=False) for index, name in enumerate("ABC")]
    return [dataclasses.replace(site, gradient=(1.0, 0.2 * index)) for index, site in enumerate(sites)]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_round_keeps_the_budget(encoding: Encoding, tmp_path: Path) -> None:
    """Rounds 1 and 3 with a probe, round 2 without; sites train on from their mixtures."""
    grid = ToyFederation(large_sites())
    for number in (1, 2, 3):
        run(tmp_path, grid, FULL_SIZE, encoding, probe_every=2)
        for index, site in enumerate(grid.sites):
            moved = site.received[number].state.to_vector() + random_state(10 * number + index, 2e-3).to_vector()
            site.state = AdapterState.from_vector(FULL_SIZE, moved)
    reports = reports_of(tmp_path)
    assert [report["probe"] is not None for report in reports] == [True, False, True]
    for report in reports:
        assert report["refusals"] == []
        for traffic in report["bytes"].values():
            assert traffic["update"] + traffic.get("probe_reply", 0) <= BUDGET[encoding]
            assert traffic.get("probe_request", 0) + traffic["mixture"] <= BUDGET[encoding]
            assert traffic.get("probe_reply", 0) <= PROBE_REPLY_LARGEST


@pytest.mark.parametrize(("encoding", "allowed"), [("fp16", 0.02), ("int8", 0.2)])
def test_mixtures_are_what_was_meant_within_the_encodings_error(encoding: Encoding, allowed: float, tmp_path: Path) -> None:
    """Relative to what the exact mixture of the sites' exact states would be."""
    grid = ToyFederation(large_sites())
    run(tmp_path, grid, FULL_SIZE, encoding)
    for site in grid.sites:
        mixture = site.received[1]
        meant = sum(mixture.weights.get(other.name, 0.0) * other.state.to_vector() for other in grid.sites)
        error = np.linalg.norm(mixture.state.to_vector() - meant) / np.linalg.norm(meant)
        assert error < allowed
        assert mixture.acknowledged == wire.state_digest(server_state_file.load(tmp_path / STATE_FILE).sites[site.name].state)


def test_a_site_of_the_first_version_takes_part(tmp_path: Path) -> None:
    """It is asked and answered in version 1; the others are not kept from version 2."""
    grid = ToyFederation([ToySite("old", toy_state(1.0)), ToySite("new", toy_state(2.0), is_plain=False)])
    run(tmp_path, grid, SCHEMA, rounds=2)
    for report in reports_of(tmp_path):
        assert report["refusals"] == []
    old, new = grid.sites
    assert (old.received[2].acknowledged, len(new.received[2].acknowledged)) == ("", 32)
    sites = server_state_file.load(tmp_path / STATE_FILE).sites
    assert (sites["old"].wire, sites["new"].wire) == (1, 2)


@pytest.mark.parametrize("later", [1, 2])
def test_a_server_restored_from_a_backup_goes_on_at_once(later: int, tmp_path: Path) -> None:
    """It asks for a round that the sites have answered already: they send full updates."""
    grid = three_sites()
    run(tmp_path, grid, SCHEMA)
    backup = (tmp_path / STATE_FILE).read_bytes()
    run(tmp_path, grid, SCHEMA, rounds=later)
    (tmp_path / STATE_FILE).write_bytes(backup)
    run(tmp_path, grid, SCHEMA, rounds=2)
    for report in reports_of(tmp_path)[1:3]:
        assert report["refusals"] == []
        assert set(report["verdicts"]) == {"A", "B", "C"}


def test_a_site_that_only_receives_for_a_round_understands_its_mixture_and_is_understood_after(tmp_path: Path) -> None:
    """It has sent zeros and remembers those; the server keeps what the site gave before."""
    grid = three_sites()
    run(tmp_path, grid, SCHEMA, probe_every=5)
    b = grid.sites[1]
    before, b.state, b.cases = b.state, toy_state(0.0), 0
    grid.change["B"] = only("update", lambda fields: {**fields, "receives_only": "Too few cases."})
    run(tmp_path, grid, SCHEMA, probe_every=5)
    assert b.received[2].weights
    del grid.change["B"]
    b.state, b.cases = before, 4
    run(tmp_path, grid, SCHEMA, probe_every=5)
    assert [report["refusals"] for report in reports_of(tmp_path)] == [[], [], []]
    np.testing.assert_allclose(server_state_file.load(tmp_path / STATE_FILE).sites["B"].state.to_vector(), 2.0, rtol=1e-3)


def test_a_server_that_has_another_state_of_a_site_says_so_and_understands_the_next_update(tmp_path: Path) -> None:
    grid = three_sites()
    run(tmp_path, grid, SCHEMA)
    state = server_state_file.load(tmp_path / STATE_FILE)
    other = dataclasses.replace(state.sites["A"], state=toy_state(7.0))
    server_state_file.save(dataclasses.replace(state, sites={**state.sites, "A": other}), tmp_path / STATE_FILE)
    for site in grid.sites:  # each has learnt a little
        site.state = AdapterState.from_vector(SCHEMA, site.state.to_vector() + np.float32(0.125))
    run(tmp_path, grid, SCHEMA, rounds=2)
    second, third = reports_of(tmp_path)[1:]
    assert [refusal["site"] for refusal in second["refusals"]] == ["A"]
    assert "that this side does not have" in grid.sites[0].told[0]
    assert third["refusals"] == []
    assert set(third["verdicts"]) == {"A", "B", "C"}


def test_an_update_that_is_lost_is_followed_by_one_that_is_understood(tmp_path: Path) -> None:
    grid = three_sites()
    run(tmp_path, grid, SCHEMA)
    grid.change["C"] = only("update", lose)
    run(tmp_path, grid, SCHEMA)
    assert [refusal["site"] for refusal in reports_of(tmp_path)[1]["refusals"]] == ["node 3"]
    grid.change.clear()
    run(tmp_path, grid, SCHEMA)
    assert reports_of(tmp_path)[2]["refusals"] == []


def test_a_mixture_that_is_lost_leaves_the_site_with_a_full_update(tmp_path: Path) -> None:
    grid = ToyFederation([ToySite(name, toy_state(value), is_plain=False) for name, value in (("A", 1.0), ("B", 2.0))])
    run(tmp_path, grid, SCHEMA)
    memory = grid.sites[1].memory
    grid.change["B"] = only("mixture", lose)
    run(tmp_path, grid, SCHEMA)
    assert memory is not None
    grid.sites[1].memory = dataclasses.replace(memory, is_acknowledged=False)  # as if its process had never seen the message
    grid.change.clear()
    run(tmp_path, grid, SCHEMA)
    assert reports_of(tmp_path)[2]["refusals"] == []


def test_a_probe_that_one_site_does_not_answer_is_no_reference_for_it(tmp_path: Path) -> None:
    """Whether it has the common state is not known, so its mixture is the difference to its own update, or full."""
    sites = [ToySite(name, toy_state(value), is_plain=False) for name, value in (("A", 1.0), ("B", 1.25), ("C", -3.0))]
    grid = ToyFederation(sites)
    grid.change["B"] = only("probe", lambda fields: None)
    run(tmp_path, grid, SCHEMA)
    assert sites[1].memory is not None
    assert set(reports_of(tmp_path)[0]["verdicts"]) == {"A", "B", "C"}
