"""Whole rounds over a Flower grid with toy sites: the protocol, refusals, lost sites, deadlines, restarts, what is written down."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode

from fed_backend import server_state_file, wire
from fed_backend.audit_anchors import anchors_told_by, server_log
from fed_backend.privacy import rule_from
from fed_backend.run_config import FederationSettings
from fed_backend.server_state_file import STATE_FILE
from fed_backend.site_answer import Value
from fed_backend.strategy import SgcaStrategy
from sam_adapters.audit_chain import GENESIS, verify
from sam_adapters.schema import AdapterSchema
from tests.fed_backend.toy_sites import FakeClock, ToyFederation, ToySite, lose, only, reports_of
from tests.fed_backend.toys import OTHER_BASE, OTHER_RANK, SCHEMA, toy_state

SETTINGS = FederationSettings(
    min_sites=2, projection_size=64, join_seconds=10, update_seconds=20, probe_seconds=30, mixture_seconds=40, caution=1.0
)


def three_sites() -> list[ToySite]:
    """A and B learn alike, C the opposite."""
    return [
        ToySite("A", toy_state(1.0), gradient=(1.0, 0.0)),
        ToySite("B", toy_state(2.0), gradient=(1.0, 0.0)),
        ToySite("C", toy_state(3.0), gradient=(-1.0, 0.0)),
    ]


def strategy_on(folder: Path, settings: FederationSettings = SETTINGS, clock: FakeClock | None = None) -> SgcaStrategy:
    state = server_state_file.load_or_new(folder / STATE_FILE, SCHEMA)
    return SgcaStrategy(state, settings, folder, run="7", clock=clock or FakeClock())


def test_each_site_gets_its_own_mixture(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    strategy_on(tmp_path).start(grid, num_rounds=1)
    a, b, c = (site.received[1] for site in grid.sites)
    # A and B lean on each other alone: noise 0.01, their distance 0, the one to C 4.
    assert a.weights == pytest.approx({"A": 0.5, "B": 0.5})
    assert b.weights == pytest.approx({"A": 0.5, "B": 0.5})
    assert c.weights == {"C": 1.0}
    np.testing.assert_allclose(a.state.to_vector(), 1.5, rtol=1e-3)
    np.testing.assert_allclose(c.state.to_vector(), 3.0, rtol=1e-3)
    assert [site.asked for site in grid.sites] == [["update", "probe", "mixture"]] * 3


def test_the_report_says_all(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    state = server_state_file.load(tmp_path / STATE_FILE)
    assert report["status"] == "finished"
    assert report["federation"] == state.federation
    assert (report["round"], report["run"], report["name"], report["schema"]) == (1, "7", "fedsca", SCHEMA.id)
    assert report["givers"] == ["A", "B", "C"]
    assert np.shape(report["distance"]) == (3, 3)
    assert report["distance"][0] == pytest.approx([0.0, 0.0, 4.0], abs=0.03)
    assert report["noise"] == pytest.approx([0.01] * 3, rel=0.01)
    assert report["weights"]["C"] == {"C": 1.0}
    assert report["probe"]["sites"] == ["A", "B", "C"]
    assert report["refusals"] == []
    assert report["sites"]["A"] == {
        "cases": 4,
        "version": "base",
        "newcomer": False,
        "receives_only": "",
        "epsilon": None,
        "delta": None,
        "clipped": None,
        "probe_cases": [2, 2],
        "note": "",
        "seconds": {"update": 0.5, "probe": 0.5, "mixture": 0.5},
    }
    assert report["verdicts"]["B"]["verdict"] == "promoted"
    assert report["verdicts"]["B"]["figures"] == {"overall": {"candidate": 0.75}}
    assert set(report["seconds"]) == {"join", "update", "probe", "mixture", "total"}


def test_bytes_are_those_of_the_payloads(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    strategy_on(tmp_path).start(grid, num_rounds=1)
    counted = reports_of(tmp_path)[0]["bytes"]["A"]
    assert set(counted) == {"update", "probe_request", "probe_reply", "mixture"}
    assert counted["update"] == len(wire.encode_update(wire.UpdateMessage("A", 1, 4, toy_state(1.0))))
    assert counted["mixture"] == len(wire.encode_mixture(grid.sites[0].received[1]))
    assert 2 * 2 * 64 < counted["probe_reply"] < 2 * 2 * 64 + 400


def _of_schema(schema: AdapterSchema) -> Callable[[dict[str, Value]], dict[str, Value]]:
    payload = wire.encode_update(wire.UpdateMessage("C", 1, 4, toy_state(1.0, schema)))
    return lambda fields: fields | {"payload": payload}


def _with_nan(fields: dict[str, Value]) -> dict[str, Value]:
    """The same update with its first value replaced by NaN and a checksum that fits."""
    import hashlib

    payload = fields["payload"]
    assert isinstance(payload, bytes)
    start = len(payload) - 32 - 2 * SCHEMA.size
    body = payload[:start] + b"\x00\x7e" + payload[start + 2 : -32]
    return fields | {"payload": body + hashlib.sha256(body).digest()}


def _cut(fields: dict[str, Value]) -> dict[str, Value]:
    payload = fields["payload"]
    assert isinstance(payload, bytes)
    return fields | {"payload": payload[:-1]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_of_schema(OTHER_BASE), "base"),
        (_of_schema(OTHER_RANK), "layout"),
        (_with_nan, "not finite"),
        (_cut, "truncated"),
        (lambda fields: fields | {"payload": "text"}, "0 bytes"),
        (lambda fields: {key: value for key, value in fields.items() if key != "payload"}, "0 bytes"),
        (lambda fields: fields | {"refusal": "Its base is another one."}, "declined: Its base is another one"),
    ],
)
def test_a_refused_update_is_reported_and_the_round_goes_on(
    change: Callable[[dict[str, Value]], dict[str, Value]], reason: str, tmp_path: Path
) -> None:
    grid = ToyFederation(three_sites())
    grid.change["C"] = only("update", change)
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert report["status"] == "finished"
    (refusal,) = report["refusals"]
    assert (refusal["site"], refusal["phase"]) == ("C", "update")
    assert reason in refusal["reason"]
    assert set(report["verdicts"]) == {"A", "B"}
    assert set(server_state_file.load(tmp_path / STATE_FILE).sites) == {"A", "B"}
    a, _b, c = grid.sites
    assert (c.received, c.told) == ({}, [refusal["reason"]])
    assert set(a.received[1].weights) == {"A", "B"}


def test_a_payload_of_another_site_is_refused(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    payload = wire.encode_update(wire.UpdateMessage("A", 1, 4, toy_state(9.0)))
    grid.change["C"] = only("update", lambda fields: fields | {"payload": payload})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert refusal["site"] == "C"
    assert "site is 'A'" in refusal["reason"]


def test_two_nodes_of_one_name_are_both_refused(tmp_path: Path) -> None:
    sites = [*three_sites(), ToySite("A", toy_state(50.0))]
    grid = ToyFederation(sites)
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert [refusal["site"] for refusal in report["refusals"]] == ["A", "A"]
    assert "2 nodes (node 1, node 4) call themselves A" in report["refusals"][0]["reason"]
    assert set(report["verdicts"]) == {"B", "C"}


def test_with_node_authentication_the_registered_name_counts(tmp_path: Path) -> None:
    sites = [ToySite("A", toy_state(1.0)), ToySite("B", toy_state(2.0)), ToySite("A", toy_state(50.0))]
    grid = ToyFederation(sites, registered=["A", "B", "C"])
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert set(report["sites"]) == {"A", "B"}
    (refusal,) = report["refusals"]
    assert refusal["site"] == "C"
    assert "calls itself 'A' but is registered as C" in refusal["reason"]


def test_a_name_that_is_none_is_refused_under_the_node(tmp_path: Path) -> None:
    grid = ToyFederation([*three_sites()])
    grid.change["C"] = only("update", lambda fields: fields | {"site": "../../etc"})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert refusal["site"] == "node 3"
    assert "Site name" in refusal["reason"]


def test_a_client_that_crashes_is_reported(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())

    def crash(request: dict[str, Value]) -> dict[str, Value]:
        raise ZeroDivisionError("no cases")

    grid.sites[2].answer = crash  # type: ignore[method-assign]
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert refusal["site"] == "node 3"
    assert "ZeroDivisionError" in refusal["reason"]


def test_a_site_that_does_not_know_its_name_is_quoted(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    grid.change["C"] = only("update", lambda _: {"refusal": "Its site directory cannot be used."})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert refusal == {"site": "node 3", "phase": "update", "reason": "The site declined: Its site directory cannot be used."}


def test_a_request_that_expired_is_told_as_a_missed_deadline(tmp_path: Path) -> None:
    class Expiring(ToyFederation):
        def deliver(self, node_id: int, message: Message) -> Message | None:
            if node_id == 3:
                return Message(Error(ErrorCode.MESSAGE_UNAVAILABLE, "Message Unavailable - not found in the database."), reply_to=message)
            return super().deliver(node_id, message)

    strategy_on(tmp_path).start(Expiring(three_sites()), num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert refusal == {"site": "node 3", "phase": "update", "reason": "It did not answer before the deadline."}


@pytest.mark.parametrize(("kind", "waited"), [("update", 20), ("probe", 30), ("mixture", 40)])
def test_a_lost_site_costs_one_deadline_and_the_round_goes_on(kind: str, waited: float, tmp_path: Path) -> None:
    grid, clock = ToyFederation(three_sites()), FakeClock()
    grid.change["C"] = only(kind, lose)
    strategy_on(tmp_path, clock=clock).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert report["status"] == "finished"
    assert clock.now == pytest.approx(waited, abs=1.0)
    assert report["seconds"][kind] == pytest.approx(waited, abs=1.0)
    (refusal,) = report["refusals"]
    assert refusal["phase"] == kind
    assert refusal["site"] == ("node 3" if kind == "update" else "C")
    assert "deadline" in refusal["reason"]
    assert {"A", "B"} <= set(report["verdicts"])
    # Lost in the probe, it cannot be compared, but it is a member and is offered the mean of those that can.
    if kind == "probe":
        assert report["sites"]["C"]["newcomer"] is True
        assert grid.sites[2].received[1].weights == pytest.approx({"A": 0.5, "B": 0.5})


def test_without_a_quorum_the_round_is_skipped_in_time(tmp_path: Path) -> None:
    grid, clock = ToyFederation(three_sites()[:1]), FakeClock()
    strategy = strategy_on(tmp_path, clock=clock)
    strategy.start(grid, num_rounds=2)
    first, second = reports_of(tmp_path)
    assert (first["status"], second["status"]) == ("skipped", "skipped")
    assert first["reason"] == "1 of at least 2 sites took part (0 refused or lost): the round was skipped."
    assert (first["round"], second["round"]) == (1, 2)
    assert clock.now == pytest.approx(2 * SETTINGS.join_seconds, abs=1.0)
    assert grid.sites[0].received == {}


def test_nobody_at_all(tmp_path: Path) -> None:
    strategy_on(tmp_path).start(ToyFederation([]), num_rounds=1)
    assert reports_of(tmp_path)[0]["status"] == "skipped"


def test_a_quorum_that_refusals_break_is_skipped_too(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites()[:2])
    grid.change["B"] = only("update", lambda fields: fields | {"refusal": "Not today."})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    assert reports_of(tmp_path)[0]["reason"].startswith("1 of at least 2 sites took part (1 refused or lost)")
    assert grid.sites[1].told == ["The site declined: Not today."]


def test_it_waits_for_the_expected_sites_but_goes_on_with_a_quorum(tmp_path: Path) -> None:
    settings = FederationSettings(**{**vars(SETTINGS), "expected_sites": 4})
    clock = FakeClock()
    strategy_on(tmp_path, settings, clock).start(ToyFederation(three_sites()), num_rounds=1)
    assert reports_of(tmp_path)[0]["status"] == "finished"
    assert clock.now == pytest.approx(SETTINGS.join_seconds, abs=1.0)


def test_rounds_go_on_after_a_restart(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    strategy_on(tmp_path).start(grid, num_rounds=1)
    federation = server_state_file.load(tmp_path / STATE_FILE).federation
    late = ToyFederation(three_sites()[:2])  # C stays away, but what it sent is remembered
    strategy_on(tmp_path).start(late, num_rounds=1)
    first, second = reports_of(tmp_path)
    assert (first["round"], second["round"]) == (1, 2)
    assert second["federation"] == first["federation"] == federation
    assert second["givers"] == ["A", "B", "C"]
    assert set(second["sites"]) == {"A", "B"}
    state = server_state_file.load(tmp_path / STATE_FILE)
    assert [entry.round for entry in state.history] == [1, 2]
    assert (state.sites["C"].last_round, state.sites["A"].last_round) == (1, 2)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", ["probe", "mixture"])
def test_a_server_that_was_killed_runs_the_same_round_again(kind: str, tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())

    def kill(fields: dict[str, Value]) -> dict[str, Any] | None:
        raise Killed

    grid.change["B"] = only(kind, kill)
    with pytest.raises(Killed):
        strategy_on(tmp_path).start(grid, num_rounds=1)
    again = ToyFederation(three_sites())
    strategy_on(tmp_path).start(again, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert (report["round"], report["status"]) == (1, "finished")
    assert again.sites[0].received[1].weights == pytest.approx({"A": 0.5, "B": 0.5})
    # A probe that was taken is not taken again.
    assert ("probe" in again.sites[0].asked) is (kind == "probe")
    state = server_state_file.load(tmp_path / STATE_FILE)
    assert [entry.round for entry in state.history] == [1]
    assert state.distances.probes.max() == 1


def test_a_server_killed_after_the_round_but_before_its_report_has_the_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(_: SgcaStrategy) -> None:
        raise Killed

    monkeypatch.setattr(SgcaStrategy, "_close", kill)
    with pytest.raises(Killed):
        strategy_on(tmp_path).start(ToyFederation(three_sites()), num_rounds=1)
    assert server_state_file.load(tmp_path / STATE_FILE).round == 1
    (report,) = reports_of(tmp_path)
    assert sorted(report["verdicts"]) == ["A", "B", "C"]


def test_probes_follow_the_schedule(tmp_path: Path) -> None:
    settings = FederationSettings(**{**vars(SETTINGS), "probe_every": 2})
    grid = ToyFederation(three_sites())
    strategy_on(tmp_path, settings).start(grid, num_rounds=3)
    assert [report["probe"] is not None for report in reports_of(tmp_path)] == [True, False, True]
    assert "probe_reply" not in reports_of(tmp_path)[1]["bytes"]["A"]


def test_probe_replies_that_cannot_be_used_are_reported(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    grid.change["C"] = only("probe", lambda fields: fields | {"payload": b"FSCA"})
    grid.change["B"] = only("probe", lambda fields: fields | {"refusal": "Too few patients."})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert {(refusal["site"], refusal["phase"]) for refusal in report["refusals"]} == {("B", "probe"), ("C", "probe")}
    assert report["probe"]["sites"] == ["A"]
    assert set(report["verdicts"]) == {"A", "B", "C"}


@pytest.mark.parametrize(
    ("change", "figures"),
    [({"figures": "[1]"}, {}), ({"figures": '{"a": 1e999}'}, {}), ({"figures": "{"}, {}), ({"figures": 3}, {}), ({"figures": "{}"}, {})],
)
def test_figures_that_are_none_do_not_spoil_the_report(change: dict[str, Value], figures: dict[str, Any], tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    grid.change["A"] = only("mixture", lambda fields: fields | change)
    strategy_on(tmp_path).start(grid, num_rounds=1)
    assert reports_of(tmp_path)[0]["verdicts"]["A"]["figures"] == figures


def test_an_unknown_verdict_is_reported(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    grid.change["A"] = only("mixture", lambda fields: fields | {"verdict": "great"})
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (refusal,) = reports_of(tmp_path)[0]["refusals"]
    assert "'great'" in refusal["reason"]


def test_a_newcomer_is_offered_the_mean_and_gives_nothing(tmp_path: Path) -> None:
    sites = [*three_sites()[:2], ToySite("new", toy_state(0.0), cases=0)]
    grid = ToyFederation(sites)
    strategy_on(tmp_path).start(grid, num_rounds=1)
    assert sites[2].received[1].newcomer is True
    assert sites[2].received[1].weights == pytest.approx({"A": 0.5, "B": 0.5})
    assert "new" not in sites[0].received[1].weights


def test_one_loud_site_is_clipped_and_the_report_says_so(tmp_path: Path) -> None:
    sites = [ToySite("A", toy_state(1.0)), ToySite("B", toy_state([1, 1, 1, -1, -1, -1])), ToySite("C", toy_state(4.0))]
    strategy_on(tmp_path).start(ToyFederation(sites), num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert report["sites"]["C"]["clipped"] == pytest.approx(0.375)
    assert report["sites"]["A"]["clipped"] is None


def test_a_site_far_too_loud_is_refused_then_quarantined_and_comes_back(tmp_path: Path) -> None:
    sites = [ToySite("A", toy_state(1.0)), ToySite("B", toy_state([1, 1, 1, -1, -1, -1])), ToySite("C", toy_state(100.0))]
    strategy_on(tmp_path).start(ToyFederation(sites), num_rounds=2)  # two strikes; every round begins with what the file says
    first, second = reports_of(tmp_path)
    assert "times the median" in first["refusals"][0]["reason"]
    assert "In quarantine since round 2" in second["refusals"][0]["reason"]
    assert set(second["sites"]) == {"A", "B"}
    assert all("C" not in row for row in second["weights"].values())
    assert "times the median" in sites[2].told[0]
    sites[2].state = toy_state(1.2)
    strategy = strategy_on(tmp_path)
    strategy.start(ToyFederation(sites), num_rounds=3)
    third, fourth, fifth = reports_of(tmp_path)[2:]
    assert "2 more in a row end the quarantine" in third["refusals"][0]["reason"]
    assert "C" not in fourth["sites"]
    assert fifth["refusals"] == []
    assert fifth["verdicts"]["C"]["verdict"] == "promoted"


def test_a_site_that_only_receives_keeps_what_it_gave_before(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    strategy = strategy_on(tmp_path)
    strategy.start(grid, num_rounds=1)

    def spent(fields: dict[str, Value]) -> dict[str, Value]:
        zeros = wire.encode_update(wire.UpdateMessage("B", 2, 0, toy_state(0.0)))
        return {**fields, "payload": zeros, "receives_only": "Its privacy budget is spent.", "epsilon": 7.5, "delta": 1e-5}

    grid.change["B"] = only("update", spent)
    strategy.start(grid, num_rounds=1)
    known = strategy.state.sites["B"]
    assert (known.cases, known.last_round) == (4, 1)  # as in round 1, and a round old
    np.testing.assert_array_equal(known.state.to_vector(), toy_state(2.0).to_vector())
    assert 2 in grid.sites[1].received
    second = reports_of(tmp_path)[1]
    assert (second["sites"]["B"]["cases"], second["sites"]["B"]["receives_only"]) == (0, "Its privacy budget is spent.")
    assert "B" in second["weights"]["A"]
    assert (second["sites"]["B"]["epsilon"], second["sites"]["B"]["delta"]) == (7.5, 1e-5)


def test_a_stranger_that_only_receives_is_a_newcomer(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())

    def spent(fields: dict[str, Value]) -> dict[str, Value]:
        return {**fields, "payload": wire.encode_update(wire.UpdateMessage("B", 1, 0, toy_state(0.0))), "receives_only": "Too few cases."}

    grid.change["B"] = only("update", spent)
    strategy_on(tmp_path).start(grid, num_rounds=1)
    (report,) = reports_of(tmp_path)
    assert report["sites"]["B"]["newcomer"] is True
    assert "B" not in report["weights"]["A"]


def test_the_servers_log_says_what_happened_and_what_sites_said_of_theirs(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    grid.change["A"] = lambda fields: {**fields, "audit": "a" * 64}
    grid.change["B"] = lambda fields: {**fields, "audit": "no chain value"}
    grid.change["C"] = only("update", lambda fields: {**fields, "refusal": "Its policy lets nothing leave."})
    strategy = strategy_on(tmp_path)
    strategy.start(grid, num_rounds=2)
    log = tmp_path / "audit.jsonl"
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [(line["event"], line.get("site"), line["round"]) for line in lines if line["round"] == 1] == [
        ("site_anchor", "A", 1),
        ("update_taken", "A", 1),
        ("update_taken", "B", 1),
        ("refused", "C", 1),
        ("verdict", "A", 1),
        ("verdict", "B", 1),
        ("round_ended", None, 1),
    ]
    assert lines[3]["reason"] == "The site declined: Its policy lets nothing leave."
    assert verify(log).good
    assert anchors_told_by(log, "A") == ["a" * 64] * 2
    assert anchors_told_by(log, "B") == []


def test_sites_are_told_the_head_of_the_servers_log_and_its_privacy_rule(tmp_path: Path) -> None:
    grid = ToyFederation(three_sites())
    told: list[dict[str, Value]] = []
    real = grid.sites[0].answer
    grid.sites[0].answer = lambda request: (told.append(request), real(request))[1]  # type: ignore[func-returns-value,method-assign]
    strategy = strategy_on(tmp_path, dataclasses.replace(SETTINGS, privacy_noise=2.0, privacy_clip=0.5))
    strategy.start(grid, num_rounds=1)
    head = server_log(tmp_path).head()
    strategy.start(grid, num_rounds=1)
    assert told[0]["audit"] == GENESIS
    assert told[-1]["audit"] == head != GENESIS
    rule = rule_from(json.loads(str(told[0]["privacy"])), "message")
    assert (rule.clip, rule.noise, rule.probe) == (0.5, 2.0, False)
