import subprocess
import sys
from pathlib import Path

import pytest

from fed_backend.demo.command import demo
from fed_backend.demo.errors import DemoError
from fed_backend.demo.options import DemoOptions
from fed_backend.demo.plan import DemoPlan, HospitalPlan, Level
from fed_backend.demo.servers import choose_addresses, server_command, site_settings
from fed_backend.demo.virtual_hospitals import virtual_hospital


def test_importing_the_command_is_light() -> None:
    heavy = ("torch", "numpy", "SimpleITK", "matplotlib", "flwr")
    code = f"import sys, fed_backend.demo.command; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8", timeout=60).stdout.strip() == "[]"
    )


def test_a_run_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").touch()
    with pytest.raises(DemoError, match="is not empty"):
        demo(out=tmp_path)


def test_the_server_is_started_as_anybody_would(tmp_path: Path) -> None:
    hospital = virtual_hospital(tmp_path, 0, seed=0, train=1, val=1, test=1, size=(4, 32, 32))
    level = Level(steps=9, wave=2, test_cases=0, test_slices=0, label_slices=1, score_every_tuning=True)
    mine = HospitalPlan(hospital.name, (4, 4), (), ())
    plan = DemoPlan(level, 2, 128, ("box",), (mine,), 1.0, {"tune_kinds": "box,point,mask"})
    conf = site_settings(hospital, plan, DemoOptions(tmp_path))
    command = server_command(hospital, 8123, conf)
    assert command[1:4] == ["-m", "monailabel.main", "start_server"]
    text = " ".join(command)
    assert "--host 127.0.0.1 --port 8123" in text
    for pair in ("tune_after 4", "tune_minimum 3", "tune_steps 9", "tune_kinds box,point,mask", f"name {hospital.name}", "threads 1"):
        assert f"--conf {pair}" in text


def test_every_process_has_a_port_of_its_own() -> None:
    addresses = choose_addresses(["a", "b", "c"])
    ports = [addresses.superlink, *addresses.nodes.values(), *addresses.servers.values()]
    assert len(set(ports)) == 7
