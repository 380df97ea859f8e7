import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sam_adapters.errors import AdapterError, RegistryError, UnknownVersionError
from sam_adapters.provenance import BASE
from sam_adapters.registry import Registry, RoundRecord, Version
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import make_adapter, toy_provenance


@pytest.fixture
def site(tmp_path: Path) -> SiteDirectory:
    return SiteDirectory.open(tmp_path / "site")


@pytest.fixture
def registry(site: SiteDirectory) -> Registry:
    return Registry(site)


def add(registry: Registry, tmp_path: Path, seed: int, **provenance: object) -> Version:
    return registry.add(make_adapter(tmp_path / f"made-{seed}-{len(list(tmp_path.iterdir()))}", seed), toy_provenance(**provenance))


def active_id(registry: Registry) -> str:
    version = registry.active()
    return BASE if version is None else version.id


class TestAdd:
    def test_a_new_version_is_a_candidate_with_its_provenance(self, registry: Registry, tmp_path: Path) -> None:
        created = datetime(2026, 3, 1, 12, 30, 15, 250, tzinfo=UTC)
        parent = add(registry, tmp_path, 1)
        version = add(
            registry,
            tmp_path,
            2,
            kind="mixture",
            parents=(parent.id,),
            federation="bladder",
            round=3,
            weights={"north": 0.75, "south": 0.25},
            metrics={"loss": 0.5},
            labels={"case1": "0" * 64},
            settings={"steps": 24},
            created=created,
        )
        assert version == registry.get(version.id)
        assert (version.state, version.kind, version.parents, version.round, version.cases) == ("candidate", "mixture", (parent.id,), 3, 4)
        assert version.created == created
        assert version.metrics == {"loss": 0.5}
        assert version.provenance.weights == {"north": 0.75, "south": 0.25}
        assert [v.id for v in registry.versions()] == [parent.id, version.id]
        assert registry.active() is None

    def test_the_folder_is_a_plain_peft_folder_that_cannot_be_written(self, registry: Registry, tmp_path: Path) -> None:
        made = make_adapter(tmp_path / "made", 1)
        (made / "README.md").write_text("PEFT writes one", encoding="utf-8")
        (made / "training_state.bin").write_bytes(b"not for the registry")
        folder = registry.folder(registry.add(made, toy_provenance()).id)
        assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "provenance.json"]
        assert (folder / "adapter_model.safetensors").read_bytes() == (made / "adapter_model.safetensors").read_bytes()
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
        assert json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["site"] == "north"

    def test_the_same_contents_are_the_same_version(self, registry: Registry, tmp_path: Path) -> None:
        first = add(registry, tmp_path, 1, cases=4)
        registry.reject(first.id, reason="worse")
        again = add(registry, tmp_path, 1, cases=9)
        assert again.id == first.id
        assert (again.state, again.cases) == ("rejected", 4)
        assert len(registry.versions()) == 1

    def test_the_id_does_not_depend_on_how_the_files_were_written(self, registry: Registry, tmp_path: Path) -> None:
        made = make_adapter(tmp_path / "one", 1)
        other = tmp_path / "two"
        other.mkdir()
        config = json.loads((made / "adapter_config.json").read_text(encoding="utf-8"))
        (other / "adapter_config.json").write_text(json.dumps(dict(reversed(config.items())), indent=4), encoding="utf-8")
        weights = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
        tensors = {"blocks.1.qkv.lora_B.weight": weights * 2, "blocks.0.qkv.lora_B.weight": weights}
        save_file(tensors, other / "adapter_model.safetensors", metadata={"format": "pt"})
        assert registry.add(made, toy_provenance()).id == registry.add(other, toy_provenance()).id

    @pytest.mark.parametrize("change", ["value", "name", "dtype", "shape", "config"])
    def test_the_id_depends_on_everything_else(self, registry: Registry, tmp_path: Path, change: str) -> None:
        weights = np.arange(6, dtype=np.float32).reshape(3, 2)
        first, second = make_adapter(tmp_path / "first", 0), make_adapter(tmp_path / "second", 0)
        save_file({"w": weights}, first / "adapter_model.safetensors")
        tensors = {
            "value": {"w": np.nextafter(weights, np.float32(9))},
            "name": {"v": weights},
            "dtype": {"w": weights.view(np.int32)},
            "shape": {"w": weights.reshape(2, 3)},
            "config": {"w": weights},
        }[change]
        save_file(tensors, second / "adapter_model.safetensors")
        if change == "config":
            (second / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4, "target_modules": ["qkv"]}', encoding="utf-8")
        assert registry.add(first, toy_provenance()).id != registry.add(second, toy_provenance()).id

    @pytest.mark.parametrize(
        ("name", "content", "sentence"),
        [
            ("adapter_config.json", None, "not a PEFT adapter folder"),
            ("adapter_model.safetensors", None, "not a PEFT adapter folder"),
            ("adapter_config.json", b"{", "not JSON"),
            ("adapter_config.json", b"[]", "expected a JSON object"),
            ("adapter_model.safetensors", b"PK\x03\x04 a pickle", "not a whole safetensors file"),
        ],
    )
    def test_what_is_no_adapter_is_refused_and_leaves_nothing(
        self, registry: Registry, site: SiteDirectory, tmp_path: Path, name: str, content: bytes | None, sentence: str
    ) -> None:
        made = make_adapter(tmp_path / "made", 1)
        if content is None:
            (made / name).unlink()
        else:
            (made / name).write_bytes(content)
        with pytest.raises(AdapterError, match=sentence):
            registry.add(made, toy_provenance())
        assert list(site.adapters.iterdir()) == []
        assert registry.versions() == []

    def test_a_truncated_weights_file_is_refused(self, registry: Registry, tmp_path: Path) -> None:
        made = make_adapter(tmp_path / "made", 1)
        data = (made / "adapter_model.safetensors").read_bytes()
        (made / "adapter_model.safetensors").write_bytes(data[:-1])
        with pytest.raises(AdapterError, match="not a whole safetensors file"):
            registry.add(made, toy_provenance())


class TestDamage:
    def damage(self, registry: Registry, version: Version) -> Path:
        weights = registry.folder(version.id) / "adapter_model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.chmod(0o644)
        weights.write_bytes(data)
        return weights.parent

    def test_one_changed_bit_is_noticed_and_refused(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        assert registry.verify(version.id) is None
        self.damage(registry, version)
        assert "is damaged" in str(registry.verify(version.id))
        for refused in (lambda: registry.folder(version.id), lambda: registry.activate(version.id, reason="r", by="p")):
            with pytest.raises(RegistryError, match=r"is damaged.*Roll back.*restore"):
                refused()
        assert active_id(registry) == BASE
        assert registry.decisions() == []

    def test_a_missing_folder_is_refused(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        shutil.rmtree(registry.folder(version.id))
        assert "is missing" in str(registry.verify(version.id))
        with pytest.raises(RegistryError, match="is missing"):
            registry.folder(version.id)

    def test_adding_the_same_contents_again_heals(self, registry: Registry, site: SiteDirectory, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        self.damage(registry, version)
        add(registry, tmp_path, 1)
        assert registry.verify(version.id) is None
        Registry(site)
        assert [path.name for path in site.adapters.iterdir()] == [version.id]

    def test_rollback_passes_over_a_damaged_version(self, registry: Registry, tmp_path: Path) -> None:
        good, bad, last = (add(registry, tmp_path, seed) for seed in (1, 2, 3))
        for version in (good, bad, last):
            registry.activate(version.id, reason="better", by="gate")
        self.damage(registry, bad)
        now = registry.rollback(reason="worse in practice", by="dr")
        assert now is not None
        assert now.id == good.id
        assert f"{bad.id} was passed over" in registry.decisions()[-1].reason


class TestActive:
    def test_exactly_one_is_active_and_the_one_before_is_retired(self, registry: Registry, tmp_path: Path) -> None:
        first, second = add(registry, tmp_path, 1), add(registry, tmp_path, 2)
        assert registry.generation() == 0
        registry.activate(first.id, reason="better", by="gate", figures={"box": 0.9})
        active = registry.activate(second.id, reason="better still", by="gate")
        assert active is not None
        assert (active.id, active.state) == (second.id, "active")
        assert {version.id: version.state for version in registry.versions()} == {first.id: "retired", second.id: "active"}
        assert registry.generation() == 2
        decisions = registry.decisions()
        assert [(d.number, d.action, d.version, d.previous, d.by) for d in decisions] == [
            (1, "activated", first.id, BASE, "gate"),
            (2, "activated", second.id, first.id, "gate"),
        ]
        assert decisions[0].figures == {"box": 0.9}
        assert decisions[0].at.tzinfo is not None
        assert registry.decisions(first.id) == decisions[:1]
        assert registry.decisions(BASE) == []

    def test_activating_what_is_active_changes_nothing(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        registry.activate(BASE, reason="r", by="p")
        registry.activate(version.id, reason="r", by="p")
        registry.activate(version.id, reason="r", by="p")
        assert registry.generation() == 1
        assert len(registry.decisions()) == 1

    def test_rollback_walks_back_to_the_base_and_stops_there(self, registry: Registry, tmp_path: Path) -> None:
        first, second, third = (add(registry, tmp_path, seed) for seed in (1, 2, 3))
        registry.activate(first.id, reason="r", by="gate")
        registry.activate(second.id, reason="r", by="gate")
        registry.rollback(reason="r", by="dr")
        registry.activate(third.id, reason="r", by="gate")
        seen = []
        for _ in range(2):
            registry.rollback(reason="r", by="dr")
            seen.append(active_id(registry))
        assert seen == [first.id, BASE]  # second was rolled back before third came: it is not returned to
        with pytest.raises(RegistryError, match="nothing to roll back to"):
            registry.rollback(reason="r", by="dr")
        assert registry.generation() == 6
        assert {version.state for version in registry.versions()} == {"retired"}

    def test_the_base_can_be_activated_and_rolled_back_from(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        registry.activate(version.id, reason="r", by="p")
        assert registry.activate(BASE, reason="r", by="p") is None
        assert registry.active() is None
        now = registry.rollback(reason="r", by="p")
        assert now is not None
        assert now.id == version.id

    def test_a_decision_prepared_for_another_active_version_is_refused(self, registry: Registry, tmp_path: Path) -> None:
        first, second = add(registry, tmp_path, 1), add(registry, tmp_path, 2)
        generation = registry.generation()
        registry.activate(first.id, reason="r", by="dr")
        with pytest.raises(RegistryError, match=f"{first.id} became active"):
            registry.activate(second.id, reason="r", by="gate", if_generation=generation)
        registry.activate(second.id, reason="r", by="gate", if_generation=registry.generation())
        assert active_id(registry) == second.id

    def test_rejecting_and_holding(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        assert registry.hold(version.id, reason="one validation case", figures={"cases": 1}).state == "candidate"
        assert registry.reject(version.id, reason="worse", figures={"box": 0.1}).state == "rejected"
        assert [(d.action, d.previous) for d in registry.decisions(version.id)] == [("held", None), ("rejected", None)]
        registry.activate(version.id, reason="a person thinks otherwise", by="dr")
        for refused in (registry.reject, registry.hold):
            with pytest.raises(RegistryError, match="is active"):
                refused(version.id, reason="worse")
        assert active_id(registry) == version.id
        assert registry.generation() == 1

    @pytest.mark.parametrize("bad", ["", "..", "../../etc", "ABCDEF0123456789", "abcdef012345678", "abcdef0123456789\n", "a/b", "active"])
    def test_what_is_no_id_never_becomes_a_path(self, registry: Registry, bad: str) -> None:
        for call in (registry.get, registry.folder, registry.verify):
            with pytest.raises(RegistryError, match="not an adapter version"):
                call(bad)
        with pytest.raises(RegistryError, match="not an adapter version"):
            registry.activate(bad, reason="r", by="p")
        with pytest.raises(RegistryError, match="not an adapter version"):
            registry.reject(bad, reason="r")

    def test_an_unknown_id_is_said_to_be_unknown(self, registry: Registry) -> None:
        with pytest.raises(UnknownVersionError, match="no adapter version 0123456789abcdef"):
            registry.activate("0123456789abcdef", reason="r", by="p")
        with pytest.raises(KeyError):
            registry.get("0123456789abcdef")

    def test_other_processes_see_the_change(self, registry: Registry, site: SiteDirectory, tmp_path: Path) -> None:
        reader = Registry(site)
        assert reader.generation() == 0
        version = add(registry, tmp_path, 1)
        script = (
            "import sys; from pathlib import Path; from sam_adapters.registry import Registry; "
            "from sam_adapters.site_directory import SiteDirectory; "
            "Registry(SiteDirectory(Path(sys.argv[1]))).activate(sys.argv[2], reason='r', by='p')"
        )
        subprocess.run([sys.executable, "-c", script, str(site.root), version.id], check=True, timeout=60)
        assert reader.generation() == 1
        assert active_id(reader) == version.id


def learnt_id(registry: Registry) -> str:
    version = registry.learnt_from()
    return BASE if version is None else version.id


class TestLearntFrom:
    """What tunings and mixtures build upon: the active version, or one that was set aside and is learnt from all the same."""

    def served_and_learnt_from(self, registry: Registry, tmp_path: Path) -> tuple[Version, Version]:
        served = add(registry, tmp_path, 1)
        registry.activate(served.id, reason="better", by="gate")
        learnt = add(registry, tmp_path, 2, parents=(served.id,))
        registry.reject(learnt.id, reason="A little worse.", learn="Go on.")
        assert learnt_id(registry) == learnt.id
        return served, learnt

    def test_it_is_what_is_active_unless_a_rejected_version_is_said_to_be(self, registry: Registry, tmp_path: Path) -> None:
        assert learnt_id(registry) == BASE
        first = add(registry, tmp_path, 1)
        registry.activate(first.id, reason="better", by="gate")
        assert learnt_id(registry) == first.id
        second = add(registry, tmp_path, 2, parents=(first.id,))
        registry.reject(second.id, reason="A little worse.", learn="Go on.")
        assert (active_id(registry), learnt_id(registry), registry.get(second.id).state) == (first.id, second.id, "rejected")
        third = add(registry, tmp_path, 3, parents=(second.id,))
        registry.hold(third.id, reason="A trade.", learn="Go on.")
        assert (active_id(registry), learnt_id(registry), registry.get(third.id).state) == (first.id, third.id, "candidate")
        fourth = add(registry, tmp_path, 4, parents=(third.id,), kind="mixture")
        registry.reject(fourth.id, reason="Far worse.")
        assert learnt_id(registry) == third.id  # bad for what others put into it
        told = [(decision.action, decision.reason, decision.figures.get("learnt_from")) for decision in registry.decisions()[1:]]
        assert told == [
            ("rejected", "A little worse. Go on.", second.id),
            ("held", "A trade. Go on.", third.id),
            ("rejected", "Far worse.", None),
        ]
        registry.activate(fourth.id, reason="a person knows better", by="dr. test")
        assert learnt_id(registry) == fourth.id

    def test_where_a_tuning_leads_nowhere_it_goes_back_to_what_serves(self, registry: Registry, tmp_path: Path) -> None:
        first = add(registry, tmp_path, 1)
        registry.activate(first.id, reason="better", by="gate")
        bad = add(registry, tmp_path, 2, parents=(first.id,))
        registry.reject(bad.id, reason="Far worse.")
        assert (learnt_id(registry), registry.decisions()[-1].reason) == (first.id, "Far worse.")
        doubtful = add(registry, tmp_path, 3, parents=(first.id,))
        registry.reject(doubtful.id, reason="A little worse.", learn="Go on.")
        worse = add(registry, tmp_path, 4, parents=(doubtful.id,))
        registry.reject(worse.id, reason="Far worse.")
        assert learnt_id(registry) == first.id
        last = registry.decisions()[-1]
        assert (last.reason, last.figures) == (f"Far worse. Tunings and rounds go on from {first.id} again.", {"learnt_from": first.id})

    def test_from_the_base_too(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        registry.reject(version.id, reason="A little worse.", learn="Go on.")
        assert (active_id(registry), learnt_id(registry)) == (BASE, version.id)

    def test_a_person_who_goes_back_is_not_overruled_by_what_was_under_way(self, registry: Registry, tmp_path: Path) -> None:
        first, learnt = self.served_and_learnt_from(registry, tmp_path)
        under_way = add(registry, tmp_path, 3, parents=(learnt.id,))
        generation = registry.generation()
        registry.activate(first.id, reason="go on from here", by="dr. test")  # serves already: learning alone goes back
        assert (learnt_id(registry), registry.generation()) == (first.id, generation)
        assert registry.decisions()[-1].previous is None
        registry.reject(under_way.id, reason="A little worse.", learn="Go on.")
        assert learnt_id(registry) == first.id
        registry.rollback(reason="not this either", by="dr. test")
        assert (active_id(registry), learnt_id(registry)) == (BASE, BASE)

    def test_rejected_once_more_it_is_no_longer_learnt_from(self, registry: Registry, tmp_path: Path) -> None:
        first, version = self.served_and_learnt_from(registry, tmp_path)
        registry.reject(version.id, reason="A little worse.", learn="Go on.")  # the gate may be asked again
        assert learnt_id(registry) == version.id
        registry.reject(version.id, reason="it learnt from a wrong label", by="dr. test")
        assert learnt_id(registry) == first.id

    def test_a_damaged_one_gives_way_to_the_active_version(self, registry: Registry, tmp_path: Path) -> None:
        first, version = self.served_and_learnt_from(registry, tmp_path)
        shutil.rmtree(registry.folder(version.id))
        assert learnt_id(registry) == first.id
        following = add(registry, tmp_path, 3, parents=(first.id,))  # made of what stood in for it
        registry.reject(following.id, reason="A little worse.", learn="Go on.")
        assert learnt_id(registry) == following.id

    def test_the_audit_log_tells(self, registry: Registry, site: SiteDirectory, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        registry.reject(version.id, reason="A little worse.", learn="Go on.")
        last = json.loads(site.audit_file.read_text(encoding="utf-8").splitlines()[-1])
        assert (last["event"], last["who"], last["version"], last["before"]) == ("version_learnt_from", "gate", version.id, BASE)


class TestScores:
    def test_scores_are_kept_by_version_and_key(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        assert registry.load_scores(version.id, "v1") is None
        registry.save_scores(version.id, "v1", [{"case": "a", "kind": "box", "dice": 0.5}])
        registry.save_scores(version.id, "v1", [{"case": "a", "kind": "box", "dice": 0.75}])
        registry.save_scores(BASE, "v1", [])
        assert registry.load_scores(version.id, "v1") == [{"case": "a", "kind": "box", "dice": 0.75}]
        assert registry.load_scores(version.id, "v2") is None
        assert registry.load_scores(BASE, "v1") == []

    def test_scores_of_an_unknown_version_are_refused(self, registry: Registry) -> None:
        with pytest.raises(UnknownVersionError):
            registry.save_scores("0123456789abcdef", "v1", [])


class TestTuning:
    def test_a_tuning_from_start_to_finish(self, registry: Registry, tmp_path: Path) -> None:
        assert registry.last_tuning() is None
        number = registry.start_tuning(labels=5, steps=24)
        running = registry.last_tuning()
        assert running is not None
        assert (running.status, running.running, running.labels, running.steps, running.finished) == ("running", True, 5, 24, None)
        version = add(registry, tmp_path, 1)
        registry.finish_tuning(number, "finished", version.id)
        done = registry.last_tuning()
        assert done is not None
        assert (done.id, done.status, done.running, done.version) == (number, "finished", False, version.id)
        assert done.finished is not None
        assert done.started <= done.finished

    def test_one_process_at_a_time(self, registry: Registry, site: SiteDirectory) -> None:
        with tuning_process(site) as other:
            with pytest.raises(RegistryError, match="running in another process"):
                registry.start_tuning(1, 1)
            other.kill()
            other.wait(timeout=30)
            died = registry.last_tuning()
            assert died is not None
            assert died.status == "interrupted"
            second = registry.start_tuning(2, 2)
        now = registry.last_tuning()
        assert now is not None
        assert (now.id, now.status) == (second, "running")

    def test_a_killed_process_counts_as_dead_before_its_parent_has_noticed(self, registry: Registry, site: SiteDirectory) -> None:
        with tuning_process(site) as other:
            other.kill()
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie from here on
            died = registry.last_tuning()
        assert died is not None
        assert died.status == "interrupted"

    def test_nonsense_is_refused(self, registry: Registry) -> None:
        with pytest.raises(RegistryError, match="no tuning 7"):
            registry.finish_tuning(7, "failed")
        number = registry.start_tuning(1, 1)
        with pytest.raises(RegistryError, match="cannot end as running"):
            registry.finish_tuning(number, "running")
        with pytest.raises(UnknownVersionError):
            registry.finish_tuning(number, "finished", "0123456789abcdef")


class tuning_process:  # noqa: N801 - a context manager, used like a function
    """A process that has started a tuning and waits."""

    def __init__(self, site: SiteDirectory) -> None:
        script = (
            "import sys; from pathlib import Path; from sam_adapters.registry import Registry; "
            "from sam_adapters.site_directory import SiteDirectory; "
            "Registry(SiteDirectory(Path(sys.argv[1]))).start_tuning(3, 3); print('started', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", script, str(site.root)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")

    def __enter__(self) -> "subprocess.Popen[str]":
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


class TestRounds:
    def test_a_round_is_filled_bit_by_bit_and_repeating_changes_nothing(self, registry: Registry) -> None:
        sent = RoundRecord("bladder", 1, run_id="17", sent_version=BASE, bytes_up={"update": 106_000})
        received = RoundRecord("bladder", 1, received_version="0123456789abcdef", weights={"north": 1.0}, bytes_down={"mixture": 106_000})
        judged = RoundRecord("bladder", 1, decision="promoted", reason="better", bytes_up={"probe_reply": 16_384})
        for record in (sent, sent, received, judged, judged, received):
            registry.record_round(record)
        [found] = registry.rounds()
        assert found.at is not None
        expected = RoundRecord(
            "bladder",
            1,
            run_id="17",
            sent_version=BASE,
            received_version="0123456789abcdef",
            weights={"north": 1.0},
            bytes_up={"update": 106_000, "probe_reply": 16_384},
            bytes_down={"mixture": 106_000},
            decision="promoted",
            reason="better",
            at=found.at,
        )
        assert found == expected
        assert registry.find_round("bladder", 1) == expected

    def test_rounds_are_told_apart_by_federation_and_number(self, registry: Registry) -> None:
        for federation, number in (("b", 2), ("b", 1), ("a", 1)):
            registry.record_round(RoundRecord(federation, number))
        assert [(r.federation, r.round) for r in registry.rounds()] == [("a", 1), ("b", 1), ("b", 2)]
        assert [r.round for r in registry.rounds("b")] == [1, 2]
        assert registry.find_round("a", 2) is None

    def test_nonsense_is_refused(self) -> None:
        with pytest.raises(RegistryError, match="expected a name and a number"):
            RoundRecord("", 1)
        with pytest.raises(RegistryError, match="expected a name and a number"):
            RoundRecord("a", -1)


class TestOpening:
    def test_a_newer_schema_is_refused_and_left_alone(self, registry: Registry, site: SiteDirectory) -> None:
        registry.close()
        execute(site, "PRAGMA user_version = 99")
        with pytest.raises(RegistryError, match="registry version 99, this software knows 1: update"):
            Registry(site)
        assert execute(site, "PRAGMA user_version") == 99

    def test_another_programs_database_is_refused_and_left_alone(self, site: SiteDirectory) -> None:
        execute(site, "CREATE TABLE theirs (x)")
        with pytest.raises(RegistryError, match="another program"):
            Registry(site)
        assert execute(site, "SELECT count(*) FROM sqlite_master") == 1

    def test_a_file_that_is_no_database_is_refused(self, site: SiteDirectory) -> None:
        site.registry_file.write_bytes(b"something else entirely" * 100)
        with pytest.raises(RegistryError, match="cannot be opened as an adapter registry"):
            Registry(site)

    def test_a_folder_that_is_no_site_is_refused_and_stays_empty(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryError, match="not a site directory"):
            Registry(SiteDirectory(tmp_path))
        assert list(tmp_path.iterdir()) == []

    def test_what_is_committed_is_on_the_disk_and_readers_do_not_block(self, registry: Registry) -> None:
        with registry._reading() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000

    def test_a_writer_that_keeps_the_lock_is_waited_for_and_then_reported(self, site: SiteDirectory, tmp_path: Path) -> None:
        registry = Registry(site, timeout=0.1)
        with Registry(site)._writing(), pytest.raises(RegistryError, match="locked"):
            registry.start_tuning(1, 1)
        assert registry.start_tuning(1, 1) == 1

    def test_the_database_itself_keeps_at_most_one_active_version(self, registry: Registry, site: SiteDirectory, tmp_path: Path) -> None:
        add(registry, tmp_path, 1)
        add(registry, tmp_path, 2)
        with pytest.raises(sqlite3.IntegrityError):
            execute(site, "UPDATE versions SET state = 'active'")

    def test_threads_may_share_a_registry(self, registry: Registry, tmp_path: Path) -> None:
        folders = [make_adapter(tmp_path / f"made-{seed}", seed) for seed in range(8)]
        problems: list[BaseException] = []

        def work(folder: Path) -> None:
            try:
                registry.activate(registry.add(folder, toy_provenance()).id, reason="r", by="p")
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert problems == []
        assert registry.generation() == 8
        assert sum(version.state == "active" for version in registry.versions()) == 1

    def test_export_makes_a_new_whole_folder(self, registry: Registry, tmp_path: Path) -> None:
        version = add(registry, tmp_path, 1)
        destination = tmp_path / "out" / "adapter"
        registry.export(version.id, destination)
        assert sorted(p.name for p in destination.iterdir()) == ["adapter_config.json", "adapter_model.safetensors", "provenance.json"]
        assert registry.add(destination, toy_provenance()).id == version.id
        with pytest.raises(RegistryError, match="exists already"):
            registry.export(version.id, destination)
        assert [p.name for p in (tmp_path / "out").iterdir()] == ["adapter"]


def execute(site: SiteDirectory, statement: str) -> object:
    connection = sqlite3.connect(site.registry_file)
    try:
        row = connection.execute(statement).fetchone()
        connection.commit()
        return row[0] if row else None
    finally:
        connection.close()
