"""From saved labels to a new version that serves, and what stops a tuning: with real server and tuning processes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from sam_adapters.label_log import LabelLog
from tests.monailabel_app.server_process import (
    Server,
    parts_of,
    read_reply,
    running_server,
    wait_until,
    write_label,
    write_volume,
)

SPLIT = {"train": ["c0", "c1", "c2"], "val": ["c3", "c4"], "test": ["c5"]}
QUICK = {
    "tune_after": "2",
    "tune_minimum": "2",
    "tune_steps": "5",
    "learning_rate": "0.002",
    "tune_kinds": "point",
    "gate_kinds": "point",
    "gate_margin": "1",
    "gate_slices_per_case": "1",
    "idle_seconds": "0.3",
}
TUNING_SECONDS = 400.0
"""Ten times what it takes: the machine may be busy."""


def make_site(folder: Path) -> tuple[Path, dict[str, NDArray[np.bool_]]]:
    """A site with six unlabelled cases; returns its studies and where the structure is in each case."""
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    (folder / "site" / "split.json").write_text(json.dumps(SPLIT), encoding="utf-8")
    return studies, {f"c{number}": write_volume(studies / f"c{number}.nii.gz", seed=number) for number in range(6)}


class Radiologist:
    """Prompts and labels cases, as a client would."""

    def __init__(self, server: Server, targets: Mapping[str, NDArray[np.bool_]], desk: Path) -> None:
        self.server, self.targets, self.desk = server, targets, desk

    def click(self, case: str, **params: Any) -> tuple[bytes, dict[str, Any]]:
        """One point in the middle of the structure: the mask's file and the reply's parameters."""
        k, j, i = (round(float(axis.mean())) for axis in np.nonzero(self.targets[case]))
        reply = self.server.infer("sam", case, {"foreground": [[i, j, k]], **params})
        _, found, _ = read_reply(reply, self.desk)
        return parts_of(reply)["image"][1], found

    def submit(self, case: str, **params: Any) -> dict[str, Any]:
        """Save the true label; returns what the reply says about it."""
        path = self.desk / f"{case}.nii.gz"
        write_label(path, self.targets[case])
        reply = self.server.put_label(case, path, params)
        assert reply.status_code == 200, reply.text
        return dict(reply.json()["fedsca"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_saved_labels_lead_to_a_new_version_that_serves(tmp_path: Path) -> None:
    studies, targets = make_site(tmp_path)
    (tmp_path / "desk").mkdir()
    with running_server(tmp_path, studies, QUICK) as server:
        person = Radiologist(server, targets, tmp_path / "desk")
        before, params = person.click("c0")
        assert params["version"] == "base"
        for case in ("c3", "c4", "c0"):
            assert person.submit(case)["tuning"]["started"] is False
        taken = person.submit("c1")
        assert taken["tuning"]["started"] is True, taken
        tuning = server.status()["tuning"]  # one reply: between two, what waits may begin
        assert tuning["running"] or tuning["waiting"]
        assert person.submit("c2")["tuning"]["started"] is False

        version = wait_until(
            lambda: (found := server.status()["active"]) != "base" and found, TUNING_SECONDS, what="a new version", note=server.log
        )
        after, params = person.click("c0")
        assert params["version"] == version
        assert after != before
        assert person.click("c0", version="base")[0] == before
        assert person.click("c0", version=version)[0] == after

        check_records(server, version)
        check_log(person, version)
        check_switching(person, version)
        assert server.request("POST", "/activelearning/least_certain", json={}).json() == {}  # only the test case has no label


def check_records(server: Server, version: str) -> None:
    """What registry, train_stats and status say of the tuning."""
    found = server.get("/fedsca/adapters").json()
    assert [(one["id"], one["state"], one["kind"]) for one in found["versions"]] == [(version, "active", "local")]
    assert set(found["versions"][0]["labels"]) <= {"c0", "c1", "c2"}
    decision = found["decisions"][-1]
    assert (decision["action"], decision["version"], decision["by"]) == ("activated", version, "gate")
    assert decision["figures"]["overall"]["candidate"] >= decision["figures"]["overall"]["base"]
    wait_until(lambda: not server.status()["tuning"]["running"], 30, what="the tuning process to end")
    status = server.status()["tuning"]
    assert (status["last"]["status"], status["last"]["version"]) == ("finished", version)
    assert status["progress"]["status"] == "finished"
    stats = server.get("/info/").json()["train_stats"]["sam"]
    assert (stats["epoch"], stats["total_epochs"]) == (5, 5)
    assert stats["best_metric"] > 0
    assert server.get("/train/").json()["status"] == "DONE"


def check_log(person: Radiologist, version: str) -> None:
    """The label log names the version that the client names, else the one that served the case last."""
    log = LabelLog(person.server.folder / "site" / "labels.jsonl")
    person.submit("c0", version="base", client_id="a")
    person.click("c2")
    person.submit("c2", client_id="b")
    assert [(entry.case, entry.proposed_by) for entry in log.entries()][-2:] == [("c0", "base"), ("c2", version)]
    assert [entry.proposed_by for entry in log.entries()][:5] == [None, None, "base", None, None]


def check_switching(person: Radiologist, version: str) -> None:
    """A person can choose what serves, and the next request is served by it."""
    for chosen in ("base", version):
        reply = person.server.request("POST", f"/fedsca/adapters/{chosen}/activate", json={"reason": "to compare"})
        assert reply.json()["active"] == chosen
        assert person.click("c1")[1]["version"] == chosen


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_tuning_is_stopped_by_request_and_ends_with_its_server(tmp_path: Path) -> None:
    studies, targets = make_site(tmp_path)
    (studies / "labels" / "final").mkdir(parents=True)
    for case in ("c0", "c1"):
        write_label(studies / "labels" / "final" / f"{case}.nii.gz", targets[case])
    with running_server(tmp_path, studies, {**QUICK, "tune_steps": "5000", "uncertainty": "false"}) as server:
        assert server.request("POST", "/train/sam", json={"client_id": "x"}).json()["status"] in ("SUBMITTED", "RUNNING")
        wait_until(lambda: steps_done(server) > 0, TUNING_SECONDS, what="the tuning to take steps", note=server.log)
        assert server.request("POST", "/train/sam").status_code == 429
        assert server.request("POST", "/train/sam?enqueue=true").status_code == 200
        assert server.status()["queue"]["tuning"] == 1
        assert server.request("DELETE", "/train/").json()["status"] == "STOPPED"
        wait_until(lambda: idle(server), 240, what="the queued tuning to be dropped", note=server.log)
        status = server.status()
        assert status["active"] == "base"
        assert status["tuning"]["last"]["status"] == status["tuning"]["progress"]["status"] == "interrupted"

        server.request("POST", "/train/sam")
        wait_until(lambda: tuning_again(server), TUNING_SECONDS, what="steps again", note=server.log)
        tuning = psutil.Process(server.status()["tuning"]["progress"]["pid"])
        server.process.kill()
        server.process.wait(10)
        tuning.wait(240)
    progress = json.loads((tmp_path / "site" / "work" / "tuning.json").read_text(encoding="utf-8"))
    assert progress["status"] == "stopped"


def steps_done(server: Server) -> int:
    progress = server.status()["tuning"]["progress"]
    return int(progress["step"]) if progress else 0


def tuning_again(server: Server) -> bool:
    """Whether another tuning takes steps now."""
    progress = server.status()["tuning"]["progress"]
    return bool(progress["status"] == "running" and progress["stage"] == "tuning" and psutil.pid_exists(progress["pid"]))


def idle(server: Server) -> bool:
    tuning = server.status()["tuning"]
    return not tuning["running"] and not tuning["waiting"]
