"""What the server remembers: pure steps from round to round, and a file that is whole or refused with a remedy."""

import dataclasses
import json
import math
import uuid
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import safe_open

from fed_backend import server_state as ss
from fed_backend import server_state_file, sgca
from fed_backend.errors import AggregationError, ServerStateError, ServerStateVersionError
from fed_backend.wire import ProbeReply, UpdateMessage
from tests.fed_backend.toys import OTHER_BASE, SCHEMA, toy_state

Vector = NDArray[np.float32]


def update(site: str, round: int, cases: int, value: float) -> UpdateMessage:
    return UpdateMessage(site, round, cases, toy_state(value))


def reply(site: str, round: int, half_a: list[float], half_b: list[float]) -> ProbeReply:
    return ProbeReply(site, round, 1, (3, 3), np.array(half_a, np.float32), np.array(half_b, np.float32))


def entry(round: int) -> ss.RoundEntry:
    return ss.RoundEntry(round, "run", "2030-01-01T00:00:00Z", ("a", "b"), {"c": "base"}, ("a",), {"b": 0.5})


def heard(*updates: UpdateMessage) -> ss.ServerState:
    state = ss.new_state(SCHEMA)
    for message in updates:
        state = ss.with_update(state, message)
    return state


@pytest.fixture
def probed() -> ss.ServerState:
    """Sites a and b alike, c far away, d a newcomer; round 1, not finished."""
    state = heard(update("a", 1, 10, 1), update("b", 1, 10, 2), update("c", 1, 10, 3), update("d", 1, 0, 0))
    near, noise = [1.0, 0.0, 0.0, 0.0], 0.1
    replies = {
        "a": reply("a", 1, [1.0, noise, 0, 0], [1.0, -noise, 0, 0]),
        "b": reply("b", 1, near, [1.0, 0.0, 2 * noise, 0.0]),
        "c": reply("c", 1, [-1.0, 0, 0, noise], [-1.0, 0, 0, -noise]),
    }
    return ss.with_probe(state, 1, replies)


class TestUpdates:
    def test_join_and_replace(self) -> None:
        state = heard(update("b", 1, 5, 1), update("a", 2, 6, 2), update("b", 3, 7, 3))
        assert list(state.sites) == ["b", "a"], "in the order in which they joined"
        record = state.sites["b"]
        assert (record.cases, record.first_round, record.last_round, record.noise) == (7, 1, 3, None)
        np.testing.assert_array_equal(record.state.to_vector(), 3)

    def test_a_later_round_is_not_overwritten_by_an_earlier_one(self) -> None:
        state = heard(update("a", 3, 5, 1))
        assert ss.with_update(state, update("a", 2, 9, 9)) is state

    def test_repeating_changes_nothing(self) -> None:
        once = heard(update("a", 1, 5, 1))
        twice = ss.with_update(once, update("a", 1, 5, 1))
        assert server_state_file._to_document(twice) == server_state_file._to_document(once)

    def test_steps_leave_the_state_before_as_it_was(self, probed: ss.ServerState) -> None:
        before = server_state_file._to_document(probed)
        ss.with_update(probed, update("a", 2, 99, 9))
        ss.with_probe(probed, 2, {"a": reply("a", 2, [1, 1, 1, 1], [1, 1, 1, 1])})
        ss.finish_round(probed, entry(1), probe_every=1)
        assert server_state_file._to_document(probed) == before

    def test_another_base_or_bad_values_are_refused(self) -> None:
        with pytest.raises(AggregationError, match=r"Update of x refused\. It was trained on base"):
            ss.with_update(ss.new_state(SCHEMA), UpdateMessage("x", 1, 1, toy_state(1, OTHER_BASE)))
        with pytest.raises(AggregationError, match="not finite"):
            ss.with_update(ss.new_state(SCHEMA), update("x", 1, 1, math.nan))


class TestProbe:
    def test_due_by_schedule_and_for_sites_never_compared(self, probed: ss.ServerState) -> None:
        assert ss.probe_due(heard(update("a", 1, 1, 1)), 1, ["a"])
        assert not ss.probe_due(probed, 1, ["a", "b", "c"]), "not twice in one round"
        state = ss.finish_round(probed, entry(1), probe_every=3)
        assert state.next_probe == 4
        assert not ss.probe_due(state, 2, ["a", "b", "d"]), "a newcomer without cases has nothing to compare"
        assert ss.probe_due(state, 4, ["a"])
        joined = ss.with_update(state, update("e", 2, 3, 1))
        assert ss.probe_due(joined, 2, ["a", "e"])
        assert not ss.probe_due(joined, 2, ["a"])

    def test_a_site_that_keeps_its_gradients_at_home_is_asked_by_the_schedule_only(self) -> None:
        both = ss.with_update(heard(update("a", 1, 3, 1)), update("b", 1, 3, 1))
        state = ss.with_probe(both, 1, {"a": reply("a", 1, [1.0, 0.1], [1.0, -0.1])})
        state = ss.finish_round(state, dataclasses.replace(entry(1), heard=("a", "b"), probed=("a",)), probe_every=3)
        assert state.sites["b"].noise is None
        assert [ss.probe_due(state, number, ["a", "b"]) for number in (2, 3, 4)] == [False, False, True]

    def test_by_hand(self, probed: ss.ServerState) -> None:
        assert probed.distances.sites == ("a", "b", "c")
        # <a, a'> = 1 - .01, <b, b'> = 1, g_a = (1, 0, 0, 0), g_b = (1, 0, .1, 0)
        np.testing.assert_allclose(probed.distances.distance[0, 1], 0.99 + 1 - 2, atol=1e-6)
        np.testing.assert_allclose(probed.distances.distance[0, 2], 0.99 + 0.99 + 2, atol=1e-6)
        assert probed.sites["a"].noise == pytest.approx(0.01)
        assert probed.sites["a"].probe_cases == (3, 3)
        assert (probed.sites["a"].probe_round, probed.last_probe) == (1, 1)
        assert probed.sites["d"].noise is None

    def test_a_site_missing_from_a_probe_keeps_what_is_known(self, probed: ss.ServerState) -> None:
        halves = [1.0, 0.0, 0.0, 0.0]
        state = ss.with_probe(probed, 2, {"c": reply("c", 2, halves, halves), "a": reply("a", 2, halves, halves)})
        assert state.sites["b"].noise == probed.sites["b"].noise
        assert state.distances.distance[0, 1] == probed.distances.distance[0, 1]
        np.testing.assert_allclose(state.distances.distance[0, 2], 3.98 / 2, atol=1e-6)

    def test_repeating_changes_nothing(self, probed: ss.ServerState) -> None:
        assert ss.with_probe(probed, 1, {"a": reply("a", 1, [9, 9, 9, 9], [9, 9, 9, 9])}) is probed
        assert ss.with_probe(probed, 2, {}) is probed

    def test_refused(self, probed: ss.ServerState) -> None:
        with pytest.raises(AggregationError, match="Probe replies of x"):
            ss.with_probe(probed, 2, {"x": reply("x", 2, [1], [1])})
        with pytest.raises(AggregationError, match="different sizes"):
            ss.with_probe(probed, 2, {"a": reply("a", 2, [1], [1]), "b": reply("b", 2, [1, 2], [1, 2])})


class TestCommonState:
    def test_cases_before_the_first_probe(self) -> None:
        state = heard(update("a", 1, 30, 1), update("b", 1, 10, 1.4), update("c", 1, 0, 0))
        np.testing.assert_allclose(ss.common_state_of(state, 1).to_vector(), 0.75 + 0.35, rtol=1e-6)

    def test_no_cases_anywhere(self) -> None:
        np.testing.assert_array_equal(ss.common_state_of(heard(update("a", 1, 0, 0), update("b", 1, 0, 0)), 1).to_vector(), 0)

    def test_precision_after_it(self, probed: ss.ServerState) -> None:
        # noises of .01 with 10 cases each: the plain mean of a, b and c; the newcomer has no part
        np.testing.assert_allclose(ss.common_state_of(probed, 1).to_vector(), 2, rtol=1e-5)

    def test_nobody_yet(self) -> None:
        with pytest.raises(AggregationError, match="at least one"):
            ss.common_state_of(ss.new_state(SCHEMA), 1)


class TestPlan:
    def test_mixtures(self, probed: ss.ServerState) -> None:
        plan = ss.plan_mixtures(probed, 1, ["d", "a", "c"])
        assert plan.givers == ("a", "b", "c")
        assert plan.newcomers == {"d"}
        # a and b are alike with equal noise, c is far from both
        assert plan.weights["a"] == pytest.approx({"a": 0.5, "b": 0.5}, abs=1e-4)
        assert plan.weights["c"] == {"c": 1.0}
        assert plan.weights["d"] == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=1e-4)
        np.testing.assert_allclose(plan.mixtures["a"].to_vector(), 1.5, rtol=1e-4)
        np.testing.assert_array_equal(plan.mixtures["c"].to_vector(), 3)
        np.testing.assert_allclose(plan.mixtures["d"].to_vector(), ss.common_state_of(probed, 1).to_vector(), rtol=1e-6)
        np.testing.assert_allclose(plan.noise, 0.01, rtol=1e-5)
        assert (plan.distance >= 0).all()
        assert plan.clipped == {}

    def test_weights_are_what_sgca_says(self, probed: ss.ServerState) -> None:
        plan = ss.plan_mixtures(probed, 1, ["a", "b", "c"], caution=7)
        rows = sgca.collaboration_weights(plan.distance, plan.noise, caution=7)
        for name, row in zip("abc", rows, strict=True):
            assert [plan.weights[name].get(giver, 0) for giver in plan.givers] == pytest.approx(row.tolist())

    def test_absent_sites_give_with_noise_that_grows(self, probed: ss.ServerState) -> None:
        state = ss.with_update(probed, update("a", 3, 10, 1))
        plan = ss.plan_mixtures(state, 3, ["a"])
        np.testing.assert_allclose(plan.noise, [0.01, 0.01 / 0.81, 0.01 / 0.81], rtol=1e-5)
        assert plan.weights["a"]["a"] == pytest.approx(1 / 1.81, rel=1e-3)

    def test_without_any_probe_everybody_is_a_newcomer(self) -> None:
        state = heard(update("a", 1, 3, 1), update("b", 1, 1, 1.4))
        plan = ss.plan_mixtures(state, 1, ["a", "b"])
        assert plan.newcomers == {"a", "b"}
        assert plan.weights["a"] == plan.weights["b"] == {"a": 0.75, "b": 0.25}

    def test_no_cases_at_all(self) -> None:
        plan = ss.plan_mixtures(heard(update("a", 1, 0, 0), update("b", 1, 0, 0)), 1, ["a"])
        assert plan.weights["a"] == {"a": 0.5, "b": 0.5}

    def test_an_outsized_site_is_clipped_and_named(self, probed: ss.ServerState) -> None:
        state = ss.with_update(probed, update("c", 1, 10, 100))
        plan = ss.plan_mixtures(state, 1, ["c"])
        assert plan.clipped == pytest.approx({"c": 1.5 * 2 / 100})
        np.testing.assert_allclose(plan.mixtures["c"].to_vector(), 3, rtol=1e-6)
        np.testing.assert_array_equal(state.sites["c"].state.to_vector(), 100)

    def test_nobody_to_send_to(self, probed: ss.ServerState) -> None:
        assert ss.plan_mixtures(probed, 1, []).mixtures == {}

    def test_strangers_are_refused(self, probed: ss.ServerState) -> None:
        with pytest.raises(AggregationError, match="Receivers x"):
            ss.plan_mixtures(probed, 1, ["x"])


class TestFinish:
    def test_round_and_history(self, probed: ss.ServerState) -> None:
        state = ss.finish_round(probed, entry(1), probe_every=2)
        assert (state.round, state.next_probe, state.history) == (1, 3, (entry(1),))
        assert ss.finish_round(state, entry(1), probe_every=2) is state

    def test_a_probe_that_did_not_happen_stays_due(self) -> None:
        state = ss.finish_round(heard(update("a", 1, 1, 1)), entry(1), probe_every=5)
        assert ss.probe_due(state, 2, [])

    def test_history_is_bounded(self) -> None:
        state = ss.new_state(SCHEMA)
        for number in range(1, ss.HISTORY_LENGTH + 3):
            state = ss.finish_round(state, entry(number), probe_every=1)
        assert len(state.history) == ss.HISTORY_LENGTH
        assert state.history[-1].round == state.round == ss.HISTORY_LENGTH + 2

    def test_refused(self) -> None:
        with pytest.raises(ValueError, match="probe_every"):
            ss.finish_round(ss.new_state(SCHEMA), entry(1), probe_every=0)


class TestFile:
    def test_round_trip(self, probed: ss.ServerState, tmp_path: Path) -> None:
        state = ss.finish_round(probed, entry(1), probe_every=2)
        path = tmp_path / "server.safetensors"
        server_state_file.save(state, path)
        loaded = server_state_file.load(path)
        assert server_state_file._to_document(loaded) == server_state_file._to_document(state)
        assert (loaded.history, loaded.schema, loaded.federation) == (state.history, SCHEMA, state.federation)
        for name, record in state.sites.items():
            assert dataclasses.replace(loaded.sites[name], state=record.state) == record
            np.testing.assert_array_equal(loaded.sites[name].state.to_vector(), record.state.to_vector())
        np.testing.assert_array_equal(loaded.distances.distance, state.distances.distance)
        np.testing.assert_array_equal(loaded.distances.probes, state.distances.probes)
        plans = [ss.plan_mixtures(value, 2, ["a", "b", "c", "d"]).weights for value in (loaded, state)]
        assert plans[0] == plans[1], "a restart changes nothing"

    def test_never_compared_pairs_survive(self, tmp_path: Path) -> None:
        state = heard(update("a", 1, 1, 1), update("b", 1, 1, 1))
        state = ss.with_probe(state, 1, {"a": reply("a", 1, [1], [1])})
        state = ss.with_probe(state, 2, {"b": reply("b", 2, [1], [1])})
        server_state_file.save(state, tmp_path / "state")
        np.testing.assert_array_equal(server_state_file.load(tmp_path / "state").distances.distance, [[0, math.inf], [math.inf, 0]])

    def test_a_new_federation(self, tmp_path: Path) -> None:
        first, second = server_state_file.load_or_new(tmp_path / "state", SCHEMA), server_state_file.load_or_new(tmp_path / "state", SCHEMA)
        assert first.federation != second.federation
        assert uuid.UUID(first.federation).version == 4
        server_state_file.save(first, tmp_path / "state")
        assert server_state_file.load_or_new(tmp_path / "state", SCHEMA).federation == first.federation
        with pytest.raises(ServerStateError, match="another state file"):
            server_state_file.load_or_new(tmp_path / "state", OTHER_BASE)

    def test_the_snapshot_before_is_kept_and_is_the_remedy(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        first = heard(update("a", 1, 1, 1))
        second = ss.with_update(first, update("a", 2, 1, 2))
        server_state_file.save(first, path)
        server_state_file.save(second, path)
        path.write_bytes(path.read_bytes()[:-7])
        with pytest.raises(ServerStateError, match=r"state is damaged .* copy .*state\.previous to .*state"):
            server_state_file.load(path)
        server_state_file.previous_of(path).replace(path)
        assert server_state_file.load(path).sites["a"].last_round == 1

    def test_a_damaged_file_never_becomes_the_snapshot(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        state = heard(update("a", 1, 1, 1))
        server_state_file.save(state, path)
        server_state_file.save(state, path)
        path.write_bytes(b"rubbish")
        server_state_file.save(state, path)
        assert server_state_file.load(server_state_file.previous_of(path)).federation == server_state_file.load(path).federation

    def test_any_damage_is_noticed(self, probed: ss.ServerState, tmp_path: Path) -> None:
        path = tmp_path / "state"
        server_state_file.save(probed, path)
        data = path.read_bytes()
        whole = server_state_file._to_document(probed)
        for position in range(0, len(data), 13):
            damaged = bytearray(data)
            damaged[position] ^= 0x10
            path.write_bytes(bytes(damaged))
            try:
                loaded = server_state_file.load(path)
            except ServerStateError:
                continue
            # White space of the container is outside the checksum: damage there changes nothing.
            assert server_state_file._to_document(loaded) == whole
        for length in range(0, len(data), 29):
            path.write_bytes(data[:length])
            with pytest.raises(ServerStateError):
                server_state_file.load(path)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ServerStateError, match="no server state"):
            server_state_file.load(tmp_path / "state")
        (tmp_path / "state.previous").write_bytes(b"")
        with pytest.raises(ServerStateError, match=r"copy .*state\.previous"):
            server_state_file.load_or_new(tmp_path / "state", SCHEMA)

    def test_a_newer_version_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "state"
        document = json.dumps({"format": server_state_file.FORMAT_VERSION + 1, "something": "new"})
        path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}, {"document": document}))
        with pytest.raises(ServerStateVersionError, match="update FedSCA Label"):
            server_state_file.load(path)

    @pytest.mark.parametrize("change", ["schema", "sites", "federation", "distance_sites", "history", "round"])
    def test_a_document_that_lacks_something_is_refused(self, probed: ss.ServerState, tmp_path: Path, change: str) -> None:
        """Even under a good checksum: written by other software."""
        path = tmp_path / "state"
        server_state_file.save(probed, path)
        tensors = safetensors.numpy.load(path.read_bytes())
        document = server_state_file._to_document(probed)
        del document[change]
        text = json.dumps(document)
        path.write_bytes(safetensors.numpy.save(tensors, {"document": text, "sha256": server_state_file._digest(text, tensors)}))
        with pytest.raises(ServerStateError, match="damaged"):
            server_state_file.load(path)

    def test_a_failed_write_leaves_the_file_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "state"
        state = heard(update("a", 1, 1, 1))
        server_state_file.save(state, path)

        def full_disk(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            server_state_file.save(ss.with_update(state, update("a", 2, 1, 2)), path)
        monkeypatch.undo()
        assert server_state_file.load(path).sites["a"].last_round == 1
        assert sorted(item.name for item in tmp_path.iterdir()) == ["state"]


def test_the_order_in_which_sites_answer_changes_nothing() -> None:
    updates = [update(name, 1, 3, value) for name, value in (("a", 0.1), ("b", 0.7), ("c", -0.3), ("d", 1e-4))]
    replies = {name: reply(name, 1, [1.0, shift], [1.0, -shift]) for name, shift in (("a", 0.1), ("b", 0.2), ("c", 0.3), ("d", 0.4))}
    plans, common = [], set()
    for order in (updates, updates[::-1], [updates[2], updates[0], updates[3], updates[1]]):
        state = ss.with_probe(heard(*order), 1, {message.site: replies[message.site] for message in order})
        common.add(ss.common_state_of(state, 1).to_vector().tobytes())
        plans.append(ss.plan_mixtures(state, 1, ["a", "c"]))
    assert len(common) == 1
    first = plans[0]
    assert first.givers == ("a", "b", "c", "d")
    for plan in plans[1:]:
        assert (plan.givers, plan.weights) == (first.givers, first.weights)
        for site in ("a", "c"):
            assert plan.mixtures[site].to_vector().tobytes() == first.mixtures[site].to_vector().tobytes()


def test_a_file_of_format_1_is_read_and_written_anew(tmp_path: Path) -> None:
    """As the first version of this software left it: nothing is lost, and the next save makes a file of the present format."""
    old = Path(__file__).parents[1] / "data" / "server_state_version_1.safetensors"
    path = tmp_path / "server.safetensors"
    path.write_bytes(old.read_bytes())
    state = server_state_file.load_or_new(path, SCHEMA)
    assert (state.federation, state.round, state.next_probe) == ("11111111-2222-3333-4444-555555555555", 1, 3)
    north, south = state.sites["north"], state.sites["south"]
    np.testing.assert_array_equal(south.state.to_vector(), [2, 2, 3, 4, 5, 6])
    assert (north.cases, north.noise, north.probe_cases, north.wire) == (4, 0.0625, (2, 2), 1)
    assert state.distances.distance.tolist() == [[0, 0.125], [0.125, 0]]
    assert state.history[0].refused == {"west": "It is torn."}
    server_state_file.save(state, path)
    with safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["document"])["format"] == server_state_file.FORMAT_VERSION
    assert server_state_file.load(path).sites["south"].cases == 5
    assert server_state_file.previous_of(path).read_bytes() == old.read_bytes()
