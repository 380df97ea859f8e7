import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.federated import merge
from benchmarks.federated.configuration import Configuration


def result(*units: tuple[str, int, int, float], machine: str = "here", **changed: Any) -> dict[str, Any]:
    """A result whose units are (method, seed, round, Dice)."""
    return {
        "schema": 2,
        "root": "hospitals",
        "preset": "tiny",
        "experiment": "main",
        "configuration": Configuration().to_dict(),
        "sites": {"A": {"train": 2}},
        "arms": {"main": {}},
        "machines": [{"processor": "unused"}, {"processor": machine}],
        "seeds": [0],
        "complete": True,
        "units": [
            {"arm": "main", "method": method, "seed": seed, "round": number, "machine": 1, "scores": {"A": dice}}
            for method, seed, number, dice in units
        ],
    } | changed


def write(folder: Path, **results: Any) -> list[str]:
    for name, value in results.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return [str(folder / f"{name}.json") for name in results]


def test_seeds_of_two_machines_meet_in_one_file(tmp_path: Path) -> None:
    paths = write(
        tmp_path,
        one=result(("local", 0, 2, 0.5), ("local", 0, 1, 0.4)),
        two=result(("local", 1, 1, 0.6), machine="there", arms={"main": {}, "rank 2": {"rank": 2}}),
    )
    out = tmp_path / "all.json"
    merge.main([str(out), *paths])
    found = json.loads(out.read_text(encoding="utf-8"))
    assert [(one["seed"], one["round"], one["scores"]["A"]) for one in found["units"]] == [(0, 1, 0.4), (0, 2, 0.5), (1, 1, 0.6)]
    assert [found["machines"][one["machine"]]["processor"] for one in found["units"]] == ["here", "here", "there"]
    assert len(found["machines"]) == 2  # no longer the one that computed nothing
    assert found["seeds"] == [0, 1]
    assert set(found["arms"]) == {"main", "rank 2"}
    assert found["complete"]
    merge.main([str(out), str(out)])
    assert json.loads(out.read_text(encoding="utf-8")) == found


def test_a_trial_that_ran_again_replaces_the_old_one_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = result(("fedsca-gate", 0, 1, 0.1), ("fedsca-gate", 0, 2, 0.2), ("fedsca-gate", 0, 3, 0.3), ("local", 0, 1, 0.4))
    new = result(("fedsca-gate", 0, 1, 0.5), ("fedsca-gate", 0, 2, 0.6), ("local", 0, 1, 0.4), complete=False)
    paths = write(tmp_path, old=old, new=new)
    merge.main([str(tmp_path / "all.json"), *paths])
    found = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    assert [one["scores"]["A"] for one in found["units"]] == [0.5, 0.6, 0.4]
    assert not found["complete"]
    assert capsys.readouterr().out.splitlines()[0] == f"main, fedsca-gate, 0: from {paths[1]}"


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (result(configuration={**Configuration().to_dict(), "rank": 4}), "differ in configuration"),
        (result(root="elsewhere", sites={}), "differ in root and sites"),
        (result(arms={"main": {"rank": 2}}), "means something else by main"),
        ({"units": []}, "is no result"),
        (result(("local", 0, 1, 0.5)) | {"machines": []}, "is no result"),
        ([], "is no result"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_written(tmp_path: Path, other: Any, says: str) -> None:
    paths = write(tmp_path, one=result(("local", 0, 1, 0.5)), other=other)
    with pytest.raises(SystemExit, match=says):
        merge.main([str(tmp_path / "all.json"), *paths])
    assert not (tmp_path / "all.json").exists()


def test_older_results_lack_newer_settings(tmp_path: Path) -> None:
    older = result(("local", 1, 1, 0.5))
    del older["configuration"]["inverted_site"]
    merge.main([str(tmp_path / "all.json"), *write(tmp_path, one=result(("local", 0, 1, 0.5)), older=older)])
    assert json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))["seeds"] == [0, 1]
