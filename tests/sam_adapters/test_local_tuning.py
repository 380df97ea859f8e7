import dataclasses
import fcntl
import json
import os
from pathlib import Path

import pytest

from sam_adapters import local_tuning
from sam_adapters.cases import labelled_cases
from sam_adapters.errors import TuningError
from sam_adapters.gate_rule import GateDecision
from sam_adapters.local_tuning import Progress, run_local_tuning, tuning_seed
from sam_adapters.provenance import Provenance
from sam_adapters.registry import BASE, Registry
from tests.sam_adapters.toy_studies import SETTINGS, make_site

QUICK = dataclasses.replace(SETTINGS, tune_steps=2, tune_kinds=("box", "point"), gate_kinds=("box",))


def progress_of(site) -> dict:  # type: ignore[no-untyped-def, type-arg]
    return json.loads(site.tuning_progress_file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def test_from_labels_to_a_decided_version(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    (site.studies / "t1.png").write_bytes(b"")  # cannot be read: is left out
    seen: list[tuple[str, int]] = []
    outcome = run_local_tuning(site, QUICK, progress=lambda now: seen.append((now.stage, now.step)))
    assert outcome.status == "finished"
    assert outcome.version is not None
    assert outcome.decision is not None
    assert outcome.decision.verdict in ("promoted", "rejected")
    assert [one.case for one in outcome.skipped] == ["t1"]

    with Registry(site) as registry:
        version = registry.get(outcome.version.id)
        assert version.state == ("active" if outcome.decision.verdict == "promoted" else "rejected")
        tuning = registry.last_tuning()
        assert tuning is not None
        assert (tuning.status, tuning.version, tuning.labels, tuning.steps) == ("finished", version.id, 2, 2)
        provenance = Provenance.load(registry.folder(version.id) / "provenance.json")
    (used,) = [case for case in labelled_cases(site, QUICK) if case.case == "t0"]
    assert provenance.kind == "local"
    assert provenance.parents == ()
    assert provenance.labels == {"t0": used.label_sha256}
    assert provenance.cases == 1
    assert provenance.metrics["steps"] == 2
    assert provenance.settings["tune_kinds"] == ["box", "point"]
    assert provenance.settings["tuning_seed"] == tuning_seed(0, "base")
    assert "torch" in provenance.settings["libraries"]

    stages = list(dict.fromkeys(stage for stage, _ in seen))
    assert stages == ["reading labels", "tuning", "gate"]
    assert {step for stage, step in seen if stage == "tuning"} >= {1, 2}
    written = progress_of(site)
    assert (written["status"], written["stage"], written["version"]) == ("finished", "done", version.id)
    assert written["verdict"] == outcome.decision.verdict
    assert 0 < written["dice"] <= 1
    assert list(written["skipped"]) == ["t1"]
    assert not site.tuning_checkpoint_file.exists()
    assert not list(site.work.glob("tuned-*"))
    assert json.dumps(outcome.to_dict())


def test_a_tuning_goes_on_from_what_is_learnt_from(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    first = run_local_tuning(site, QUICK).version
    assert first is not None
    with Registry(site) as registry:  # whatever the gate said of it
        registry.activate(BASE, reason="serve the base", by="dr. test")
        registry.reject(first.id, reason="a little worse", learn="close enough")
    second = run_local_tuning(site, QUICK).version
    assert second is not None
    assert second.parents == (first.id,)
    assert second.provenance.settings["tuning_seed"] == tuning_seed(0, first.id)


def test_a_stopped_tuning_leaves_a_checkpoint_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    asked: list[int] = []
    outcome = run_local_tuning(site, QUICK, stop=lambda: asked.append(1) or len(asked) > 1)
    assert outcome.status == "stopped"
    assert outcome.version is None
    assert progress_of(site)["status"] == "stopped"
    assert site.tuning_checkpoint_file.exists()
    with Registry(site) as registry:
        assert registry.versions() == []
        tuning = registry.last_tuning()
        assert tuning is not None
        assert tuning.status == "stopped"
    monkeypatch.setattr(local_tuning, "run_gate", lambda *_, **__: GateDecision("waiting", "so be it"))
    steps: list[int] = []
    outcome = run_local_tuning(site, QUICK, progress=lambda now: steps.append(now.step) if now.stage == "tuning" else None)
    assert set(steps) == {2}
    assert outcome.decision == GateDecision("waiting", "so be it")


def test_one_tuning_at_a_time(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=2, validation=2)
    descriptor = os.open(site.work / "tuning.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(TuningError, match="Another local tuning"):
            run_local_tuning(site, QUICK)
        assert not site.tuning_progress_file.exists()  # the running one's progress is left alone
    finally:
        os.close(descriptor)


def test_failures_are_written_down(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site", train=0, validation=2)
    with pytest.raises(TuningError, match="no labelled training cases"):
        run_local_tuning(site, QUICK)
    assert progress_of(site)["status"] == "failed"
    assert "no labelled training cases" in progress_of(site)["reason"]

    site = make_site(tmp_path / "other", train=1, validation=0)
    (site.studies / "t0.png").write_bytes(b"")
    with pytest.raises(TuningError, match=r"t0\.png is empty"):
        run_local_tuning(site, QUICK)
    with Registry(site) as registry:
        tuning = registry.last_tuning()
        assert tuning is not None
        assert tuning.status == "failed"


def test_progress_is_written_at_most_twice_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    written: list[dict[str, object]] = []
    monkeypatch.setattr(local_tuning.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(local_tuning.atomic, "write_json", lambda path, value: written.append(value))
    seen: list[Progress] = []
    report = local_tuning._Report(tmp_path / "progress", seen.append)
    report.change(stage="tuning")
    written.clear()
    for step in range(1, 101):
        now[0] += 0.125
        report.change(step=step)
    assert len(written) == 25
    assert len(seen) == 102
    report.finish("finished", "well")
    assert written[-1]["status"] == "finished"
    assert written[-1]["step"] == 100


def test_each_version_is_followed_by_another_draw() -> None:
    assert tuning_seed(0, "base") == tuning_seed(0, "base")
    assert len({tuning_seed(seed, parent) for seed in range(3) for parent in ("base", "a", "b")}) == 9
    assert 0 <= tuning_seed(2**31 - 1, "x") < 2**31
