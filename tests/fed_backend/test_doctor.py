import json
import re
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from fed_backend import doctor_machine, doctor_packages, doctor_probe, doctor_site, doctor_speed
from fed_backend.cli import main
from fed_backend.doctor import something_missing
from fed_backend.doctor_check import Check
from sam_adapters.label_log import LabelEntry, LabelLog
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.sam_adapters.toy_adapter import BASE_SHA, make_adapter, toy_provenance

GOOD_PROBE: dict[str, Any] = {
    "imports": {"torch": None, "peft": None},
    "torch": {"threads": 2, "build": "CPU", "gpus": []},
    "base": {"sha256": BASE_SHA},
}


def statuses(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


class TestMachine:
    @pytest.mark.parametrize(
        ("version", "status"), [((3, 10), "missing"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 13), "warning"), ((4, 0), "warning")]
    )
    def test_python(self, version: tuple[int, int], status: str) -> None:
        check = doctor_machine.python_check(version)
        assert check.status == status
        assert sys.executable in check.found
        assert bool(check.remedy) == (status != "ok")

    def test_commands_beside_this_python_are_found_and_others_are_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
        for folder, name in (("bin", "flwr"), ("bin", "monailabel"), ("elsewhere", "flower-superlink")):
            path = tmp_path / folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("#!/bin/sh\n", encoding="utf-8")
            path.chmod(0o755)
        checks = doctor_machine.command_checks(tmp_path / "bin")
        assert statuses(checks) == {"commands": "ok", "command flower-superlink": "missing", "command flower-supernode": "missing"}
        assert checks[0].found == "flwr, monailabel"
        assert "another environment" in checks[1].found
        assert "another environment" not in checks[2].found

    def test_sqlite(self) -> None:
        assert doctor_machine.sqlite_check().status == "ok"
        assert doctor_machine.sqlite_check((3, 34, 9)).status == "missing"
        assert sqlite3.sqlite_version_info >= doctor_machine.SQLITE_NEEDED

    @pytest.mark.parametrize(
        ("torch", "status", "words"),
        [
            ({"threads": 2, "build": "CPU", "gpus": []}, "ok", "CPU build of torch"),
            ({"threads": 2, "build": "12.8", "gpus": []}, "ok", "torch for CUDA 12.8, but no usable GPU"),
            (
                {"threads": 2, "build": "12.8", "gpus": [{"name": "H100", "gib": 79.1}], "bf16": True},
                "ok",
                "cuda: H100 (79.1 GiB); bf16 yes",
            ),
            (None, "missing", "torch cannot be imported"),
        ],
    )
    def test_device(self, torch: dict[str, Any] | None, status: str, words: str) -> None:
        check = doctor_machine.device_check({"torch": torch})
        assert check.status == status
        assert words in check.found

    def test_base(self) -> None:
        assert doctor_machine.base_check("litemedsam", GOOD_PROBE).status == "ok"
        bad = doctor_machine.base_check("sam:x", {"base": {"error": "No such folder: x."}})
        assert (bad.status, bad.remedy) == ("missing", "No such folder: x.")

    def test_memory_and_disk(self, tmp_path: Path) -> None:
        assert doctor_machine.memory_check(2 * 2**30) == Check("memory", "2.0 GiB free")
        assert doctor_machine.memory_check(2**30).status == "warning"
        assert doctor_machine.memory_check().found.endswith("GiB free")
        not_yet = tmp_path / "not" / "yet"
        assert doctor_machine.disk_check(not_yet, 3 * 2**30) == Check("disk", f"3.0 GiB free at {tmp_path}")
        assert doctor_machine.disk_check(not_yet, 2**30).status == "warning"
        assert doctor_machine.disk_check(not_yet, 2**20).status == "missing"


class TestPackages:
    def pins(self, folder: Path, *lines: str, nodeps: str = "") -> list[doctor_packages.Pin]:
        (folder / "requirements.txt").write_text("\n".join(lines), encoding="utf-8")
        (folder / "requirements-nodeps.txt").write_text(nodeps, encoding="utf-8")
        return doctor_packages.read_pins(folder)

    def test_pins_are_read_from_the_requirements(self, tmp_path: Path) -> None:
        pins = self.pins(tmp_path, "# why", "torch==2.13.0  # because", "", "-r other.txt", "setuptools<81", nodeps="monailabel==0.8.5")
        assert [pin.requirement.name for pin in pins] == ["torch", "setuptools", "monailabel"]
        assert [pin.install for pin in pins] == [
            'pip install "torch==2.13.0"',
            'pip install "setuptools<81"',
            'pip install --no-deps "monailabel==0.8.5"',
        ]

    def test_what_is_missing_or_another_version_has_its_line_and_remedy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        installed = {"peft": "0.21.2", "torch": "2.13.0+cpu", "rich": "1.0", "pillow": "9.0"}
        monkeypatch.setattr(doctor_packages, "installed_version", installed.get)
        pins = self.pins(tmp_path, "pillow<10", "rich==14.3.3", "peft==0.21.2", "torch==2.13.0", "absent==1", nodeps="monailabel==0.8.5")
        checks = doctor_packages.package_checks(pins)
        assert [(check.name, check.status) for check in checks] == [
            ("torch", "ok"),
            ("monailabel", "missing"),
            ("peft", "ok"),
            ("rich", "warning"),
            ("absent", "missing"),
            ("other packages", "ok"),
        ]
        assert checks[1].remedy == 'make setup, or pip install --no-deps "monailabel==0.8.5"'
        assert checks[3].found == "1.0, proven is 14.3.3"
        assert checks[-1].found == "1 as proven"

    def test_without_a_checkout_versions_cannot_be_compared(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert doctor_packages.read_pins(tmp_path) == []
        monkeypatch.setattr(doctor_packages, "installed_version", lambda _: "1.0")
        assert statuses(doctor_packages.package_checks([])) == {"packages": "warning"}
        monkeypatch.setattr(doctor_packages, "installed_version", lambda _: None)
        assert statuses(doctor_packages.package_checks([])) == {"packages": "missing"}

    def test_torchvision_must_not_be_there_or_must_work(self) -> None:
        assert doctor_packages.torchvision_check().status == "ok"
        broken = doctor_packages.torchvision_check("0.20.0")  # says it is installed; importing it fails here
        assert (broken.status, broken.remedy) == ("missing", "pip uninstall torchvision")

    def test_telemetry_must_not_be_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert doctor_packages.telemetry_check().status == "ok"
        monkeypatch.setattr(doctor_packages, "installed_version", lambda _: "2025.2.0")
        check = doctor_packages.telemetry_check()
        assert (check.status, check.remedy) == ("warning", "pip uninstall openvino-telemetry")

    def test_imports(self) -> None:
        assert statuses(doctor_packages.import_checks(GOOD_PROBE)) == {"imports": "ok"}
        broken = {"imports": {"torch": None, "peft": "RuntimeError: operator torchvision::nms does not exist"}}
        [check] = doctor_packages.import_checks(broken)
        assert (check.name, check.status) == ("import peft", "missing")
        assert "torchvision::nms" in check.found
        [check] = doctor_packages.import_checks({"error": "it took more than 180 s"})
        assert check.status == "missing"


class TestProbe:
    def test_a_process_that_takes_too_long_is_reported(self) -> None:
        assert "took more than 0.01 s" in doctor_probe.run("litemedsam", seconds=0.01)["error"]

    def test_a_process_that_dies_is_reported_with_its_last_words(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\necho first >&2\necho 'no room' >&2\nexit 3\n", encoding="utf-8")
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))
        assert doctor_probe.run("litemedsam") == {"error": "the process that imports the packages ended without an answer: no room"}

    def test_what_is_no_object_is_no_answer(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        fake = tmp_path / "python"
        fake.write_text("#!/bin/sh\necho '[1]'\n", encoding="utf-8")
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))
        assert "it printed [1], expected a JSON object" in doctor_probe.run("litemedsam")["error"]
        assert doctor_speed.speed_check(SiteSettings()).found == "not measured: it printed [1], expected a JSON object"


class TestSite:
    @pytest.fixture
    def site(self, tmp_path: Path) -> SiteDirectory:
        site = SiteDirectory.open(tmp_path / "site")
        SiteSettings(name="north").save(site.settings_file)
        site.studies.mkdir()
        with Registry(site) as registry:
            version = registry.add(make_adapter(tmp_path / "1", 1), toy_provenance())
            registry.activate(version.id, reason="r", by="p")
        LabelLog(site.label_log_file).append(LabelEntry("a", "final", "0" * 64))
        return site

    def checks(self, site: SiteDirectory, probe: dict[str, Any] = GOOD_PROBE) -> dict[str, Check]:
        return {check.name: check for check in doctor_site.site_checks(site.root, None, probe)}

    def test_a_healthy_site(self, site: SiteDirectory) -> None:
        checks = self.checks(site)
        assert {check.status for check in checks.values()} == {"ok"}
        assert checks["registry"].found.startswith("1 version, active is ")
        assert checks["label log"].found == "1 entry about 1 case"
        assert checks["labelled cases"].found == "0: 0 to train on, 0 to validate on, 0 for tests"

    def test_a_damaged_version(self, site: SiteDirectory) -> None:
        [folder] = site.adapters.iterdir()
        (folder / "adapter_model.safetensors").unlink()
        check = self.checks(site)["damaged version"]
        assert check.status == "missing"
        assert folder.name in check.found
        assert "rollback" in check.remedy

    def test_an_active_version_for_another_base(self, site: SiteDirectory) -> None:
        checks = self.checks(site, {**GOOD_PROBE, "base": {"sha256": "f" * 64}})
        assert checks["active version"].status == "missing"
        assert "activate base" in checks["active version"].remedy
        assert "active version" not in self.checks(site, {"base": {"error": "unknown"}})

    def test_damaged_files_are_reported_each_with_its_reason(self, site: SiteDirectory) -> None:
        site.settings_file.write_text("{", encoding="utf-8")
        site.label_log_file.write_text("nonsense\nnonsense\n", encoding="utf-8")
        site.registry_file.with_name("registry.sqlite-wal").unlink(missing_ok=True)
        site.registry_file.write_bytes(b"nonsense" * 1000)
        checks = self.checks(site)
        assert {name: check.status for name, check in checks.items() if check.status != "ok"} == {
            "site settings": "missing",
            "registry": "missing",
            "label log": "missing",
        }
        assert "line 1 is damaged" in checks["label log"].remedy

    def test_a_bad_split(self, site: SiteDirectory) -> None:
        site.split_file.write_text("[]", encoding="utf-8")
        check = self.checks(site)["labelled cases"]
        assert check.status == "missing"
        assert "split.json" in check.remedy

    def test_a_failed_tuning_and_open_doors_are_warnings(self, site: SiteDirectory) -> None:
        with Registry(site) as registry:
            registry.finish_tuning(registry.start_tuning(3, 3), "failed")
        site.root.chmod(0o755)
        checks = self.checks(site)
        assert checks["last tuning"].status == checks["site"].status == "warning"
        assert checks["site"].remedy == f"chmod 700 {site.root}"

    def test_a_new_folder_and_no_folder(self, tmp_path: Path) -> None:
        site = SiteDirectory.open(tmp_path / "new")
        assert {name: check.status for name, check in self.checks(site).items()} == {
            "site": "ok",
            "site settings": "warning",
            "registry": "warning",
            "label log": "ok",
            "labelled cases": "warning",
        }
        assert not site.registry_file.exists()
        [check] = doctor_site.site_checks(tmp_path / "nowhere", None, GOOD_PROBE)
        assert check.status == "missing"
        assert not (tmp_path / "nowhere").exists()


class TestCommand:
    def doctor(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["doctor", *arguments])
        return stopped.value.code, capsys.readouterr().out

    def test_exit_code_and_json(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(doctor_probe, "run", lambda base: {**GOOD_PROBE, "base": {"error": f"{base} is away."}})
        code, out = self.doctor(capsys, "--base", "sam:away", "--json")
        found = json.loads(out)
        assert (code, found["ok"]) == (1, False)
        [base] = [check for check in found["checks"] if check["check"] == "base"]
        assert base == {"check": "base", "found": "sam:away cannot be used", "status": "missing", "remedy": "sam:away is away."}

    def test_the_base_is_the_sites(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        seen: list[str] = []
        monkeypatch.setattr(doctor_probe, "run", lambda base: seen.append(base) or GOOD_PROBE)
        site = SiteDirectory.open(tmp_path / "site")
        SiteSettings(base="sam:ours").save(site.settings_file)
        self.doctor(capsys, "--site", str(site.root))
        self.doctor(capsys)
        assert seen == ["sam:ours", "litemedsam"]

    @pytest.mark.slow
    def test_this_environment_is_complete(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, out = self.doctor(capsys, "--json")
        assert code == 0, out
        checks = {check["check"]: check["status"] for check in json.loads(out)["checks"]}
        assert {"python", "torch", "monailabel", "flwr", "imports", "commands", "device", "base", "memory", "disk"} <= set(checks)


def test_only_what_is_missing_counts() -> None:
    assert not something_missing([Check("a", ""), Check("b", "", "warning")])
    assert something_missing([Check("a", ""), Check("b", "", "missing")])


class TestSpeed:
    @pytest.mark.parametrize(("slice_seconds", "click", "status"), [(0.35, 0.02, "ok"), (1.05, 0.04, "warning"), (0.5, 0.2, "warning")])
    def test_a_slow_machine_is_a_warning_that_says_what_helps(self, slice_seconds: float, click: float, status: str) -> None:
        answer = {"engine": "openvino-cpu-float32", "size": 256, "slice": slice_seconds, "click": click}
        check = doctor_speed.described(answer)
        assert (check.name, check.status) == ("speed", status)
        assert f"{slice_seconds:.2f} s" in check.found
        assert "at 256 pixels (openvino-cpu-float32)" in check.found
        assert ("image_size" in check.remedy) == (status != "ok")
        assert "measure again" in doctor_speed.described(answer, busy=True).found

    def test_what_cannot_be_measured_says_why(self) -> None:
        check = doctor_speed.described({"error": "no such base"})
        assert (check.status, check.found) == ("warning", "not measured: no such base")

    def test_a_process_that_takes_too_long_is_ended(self) -> None:
        check = doctor_speed.speed_check(SiteSettings(image_size=56), seconds=0.01)
        assert (check.status, "within 0.01 s" in check.found) == ("warning", True)

    def test_the_real_thing(self) -> None:
        check = doctor_speed.speed_check(SiteSettings(image_size=56))
        found = re.fullmatch(
            r"a slice not seen before (\d+\.\d\d) s, a click on it then (\d+\.\d\d) s, at 56 pixels \(([\w-]+)\).*", check.found
        )
        assert found, check
        assert 0 < float(found[1]) < 60
        assert found[3].startswith(("openvino", "torch"))

    def test_a_base_that_is_not_there_is_said(self) -> None:
        check = doctor_speed.speed_check(SiteSettings(base="sam:/nowhere"))
        assert check.found.startswith("not measured: ")
        assert "/nowhere" in check.found
