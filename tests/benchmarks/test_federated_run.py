"""The harness from end to end on two small drawn hospitals, killed in between."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.federated import command, report, workbench
from benchmarks.federated.configuration import PRESETS
from benchmarks.federated.hospitals import find_hospitals, scored_cases, write_inverted
from benchmarks.federated.local_norms import NORMS_FILE
from sam_adapters.adapter_files import read_tensors
from sam_adapters.errors import SettingError
from sam_adapters.images import read_image
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_studies import add_picture

METHODS = "base,local,fedavg-shared,fedsca"
OTHERS = "flap-sam,fedbn,fedprox,fedsca-gate,fedavg-low,fedavg-high,fedavg-top-10"


def make_hospital(root: Path, seed: int) -> None:
    """Two pictures to train on, two to validate and one to test on."""
    site = SiteDirectory.open(root)
    names = [f"p{number}" for number in range(5)]
    for number, name in enumerate(names):
        add_picture(site, name, seed + number)
    site.split_file.write_text(json.dumps({"train": names[:2], "val": names[2:4], "test": names[4:]}), encoding="utf-8")


HALF = ("--set", "shared_depth", "0.5", "--set", "shared_decoder", "false")  # so that some adapters are local


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hospitals")
    make_hospital(root / "A", 0)
    make_hospital(root / "B", 100)
    return root


def arguments(root: Path, out: Path, *more: str) -> list[str]:
    quick = ["--preset", "tiny", "--seeds", "0", "--kinds", "box", "--set", "steps", "1", "--set", "batch_size", "1", "--jobs", "1"]
    return ["--root", str(root), "--out", str(out), *quick, *more]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_a_finished_one_computes_nothing(hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "result.json"
    tunings = counted(monkeypatch, kill_at=4)
    with pytest.raises(KeyboardInterrupt):
        command.main(arguments(hospitals, out, "--methods", METHODS, *HALF))
    assert not json.loads(out.read_text(encoding="utf-8"))["complete"]
    command.main(arguments(hospitals, out, "--methods", METHODS, *HALF))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["complete"]
    done = len(tunings)
    command.main(arguments(hospitals, out, "--methods", METHODS, *HALF))
    assert len(tunings) == done
    assert json.loads(out.read_text(encoding="utf-8"))["units"] == result["units"]
    check_units({(unit["method"], unit["round"]): unit for unit in result["units"]}, tmp_path / "result.work" / "main" / "seed-0")
    check_pictures(hospitals, tmp_path)


def counted(monkeypatch: pytest.MonkeyPatch, kill_at: int) -> list[int]:
    """Count tunings; one of them is interrupted."""
    tunings: list[int] = []
    real = workbench.tune

    def tune(*args: Any, **kwargs: Any) -> Any:
        tunings.append(1)
        if len(tunings) == kill_at:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(workbench, "tune", tune)
    return tunings


def check_pictures(hospitals: Path, tmp_path: Path) -> None:
    """They have a picture of every hospital, and a work folder without finished rounds is named."""
    work, out = tmp_path / "result.work", tmp_path / "report"
    report.main([str(tmp_path / "result.json"), "--out", str(out), "--pictures", str(work), "--root", str(hospitals)])
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["masks-A-box.png", "masks-B-box.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (out / "pictures").iterdir())
    with pytest.raises(SystemExit, match="no finished round of seed 7"):
        report.main([str(tmp_path / "result.json"), "--out", str(out), "--pictures", str(work), "--root", str(hospitals), "--seed", "7"])


def check_units(units: dict[tuple[str, int], dict[str, Any]], work: Path) -> None:
    assert len(units) == 1 + 3 * 2
    check_scores(units)
    assert set(units["base", 1]["scores"]["A"]) == {"box", "filled"}
    assert units["local", 2]["bytes_up"] == {"A": 0, "B": 0}
    assert 0 < units["fedavg-shared", 1]["bytes_up"]["A"] <= 110_000
    assert 0 < units["fedsca", 1]["bytes_up"]["A"] <= 110_000
    assert units["fedsca", 1]["verdicts"]["A"]["tuning"] == "accepted"
    # With equal case counts both sites get the mean of the shared B, and keep local adapters of their own.
    a, b = (read_tensors(work / "fedavg-shared" / "round-1" / site) for site in "AB")
    shared = next(name for name in sorted(a) if ".lora_B." in name and "encoder" in name)
    local = next(name for name in sorted(a, reverse=True) if ".lora_B." in name)
    assert np.array_equal(a[shared], b[shared])
    assert not np.array_equal(a[local], b[local])


def check_scores(units: dict[tuple[str, int], dict[str, Any]]) -> None:
    for unit in units.values():
        for kinds in unit["scores"].values():
            assert all(0 <= case["dice"] <= 1 and np.isfinite(case["hd95"]) for cases in kinds.values() for case in cases)


@pytest.mark.slow
def test_the_other_kinds_of_method(hospitals: Path, tmp_path: Path) -> None:
    command.main(arguments(hospitals, tmp_path / "result.json", "--rounds", "1", "--methods", OTHERS))
    units = {(unit["method"], unit["round"]): unit for unit in json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["units"]}
    assert len(units) == 7
    check_scores(units)
    assert units["flap-sam", 1]["bytes_up"]["A"] > 110_000
    assert units["fedsca-gate", 1]["verdicts"]["A"]["tuning"] in ("promoted", "rejected", "waiting")
    sites = [tmp_path / "result.work" / "main" / "seed-0" / "fedbn" / "round-1" / site for site in "AB"]
    a, b = (load_file(site / NORMS_FILE) for site in sites)
    assert any(not np.array_equal(a[name], b[name]) for name in a)  # norms stay at the site, adapters are everybody's
    adapters = [read_tensors(site) for site in sites]
    assert all(np.array_equal(adapters[0][name], adapters[1][name]) for name in adapters[0])


def test_another_budget_is_refused_in_the_same_work_folder(hospitals: Path, tmp_path: Path) -> None:
    command.main(arguments(hospitals, tmp_path / "result.json", "--methods", "base"))
    with pytest.raises(SystemExit, match="another configuration"):
        command.main(arguments(hospitals, tmp_path / "result.json", "--methods", "base", "--rounds", "5"))


def test_a_result_file_outlives_its_work_folder(hospitals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "result.json"
    command.main(arguments(hospitals, out, "--methods", "base"))
    first = json.loads(out.read_text(encoding="utf-8"))
    shutil.rmtree(tmp_path / "result.work")
    command.main(arguments(hospitals, out, "--methods", "base"))
    assert "1 of 1 trials are in result.json already." in capsys.readouterr().out
    again = json.loads(out.read_text(encoding="utf-8"))
    assert (again["units"], again["complete"]) == (first["units"], True)
    command.main(arguments(hospitals, out, "--methods", "base", "--seeds", "1"))
    more = json.loads(out.read_text(encoding="utf-8"))
    assert [(unit["seed"], unit["machine"]) for unit in more["units"]] == [(1, 0), (0, 0)]
    assert more["seeds"] == [0, 1]
    assert len(more["machines"]) == 1


def test_a_result_of_another_budget_is_never_written_over(hospitals: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command.main(arguments(hospitals, out, "--methods", "base"))
    before = out.read_bytes()
    shutil.rmtree(tmp_path / "result.work")
    with pytest.raises(SystemExit, match="holds figures of another configuration"):
        command.main(arguments(hospitals, out, "--methods", "base", "--rounds", "5"))
    assert out.read_bytes() == before
    assert not (tmp_path / "result.work").exists(), "a refused call begins nothing"
    out.write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match="is no result of this benchmark"):
        command.main(arguments(hospitals, out, "--methods", "base"))


def test_an_unknown_method_is_named(hospitals: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="There is no method 'magic'"):
        command.main(arguments(hospitals, tmp_path / "result.json", "--methods", "magic"))


def test_some_arms_of_an_experiment(hospitals: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command.main(arguments(hospitals, out, "--experiment", "small", "--arm", "5 cases at A", "--methods", "base"))
    result = json.loads(out.read_text(encoding="utf-8"))
    assert list(result["arms"]) == ["5 cases at A"]
    assert {unit["arm"] for unit in result["units"]} == {"5 cases at A"}
    with pytest.raises(SystemExit, match="There is no arm '3 cases at A' in this experiment: expected some of '2 cases at A', '5 cases"):
        command.main(arguments(hospitals, out, "--experiment", "small", "--arm", "3 cases at A"))


def test_one_hospital_is_no_federation(tmp_path: Path) -> None:
    make_hospital(tmp_path / "A", 0)
    with pytest.raises(SettingError, match="at least two"):
        find_hospitals(tmp_path)


def test_inverting_keeps_the_range(hospitals: Path, tmp_path: Path) -> None:
    source = hospitals / "A" / "studies" / "p0.png"
    write_inverted(source, tmp_path / "p0.png")
    before, after = read_image(source).array.astype(int), read_image(tmp_path / "p0.png").array.astype(int)
    assert np.array_equal(after, before.max() + before.min() - before)


def test_choices_are_scored_on_validation_cases_by_methods_that_do_not_validate(hospitals: Path, tmp_path: Path) -> None:
    hospital = find_hospitals(hospitals)[0]
    wanted = PRESETS["tiny"].changed({"scored": "validation"})
    found = {case.case for case in scored_cases(hospital, wanted, 0)}
    assert found
    assert found <= {case.case for case in hospital.validation}
    with pytest.raises(SystemExit, match="validates on the cases that are to be scored"):
        command.main(arguments(hospitals, tmp_path / "result.json", "--methods", "fedsca-gate", "--set", "scored", '"validation"'))
    with pytest.raises(SettingError, match="expected test, validation or spare"):
        scored_cases(hospital, wanted.changed({"scored": "training"}), 0)
    with pytest.raises(SettingError, match="has no spare case"):
        scored_cases(hospital, wanted.changed({"scored": "spare"}), 0)
