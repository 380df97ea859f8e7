"""Units and compose file: systemd's own check, and that both start commands which exist, with state where the documents say."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from fed_backend.cli.federation import server_app, site_app

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def settings_of(unit: Path) -> dict[str, str]:
    lines = [line for line in unit.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/fedsca/.venv/bin/fedsca", "/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert (done.returncode, [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]) == (0, [])


def test_there_is_a_unit_for_each_of_the_three() -> None:
    assert [unit.stem for unit in UNITS] == ["fedsca-serve", "fedsca-server", "fedsca-site"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_hardened_and_keep_their_state(unit: Path) -> None:
    settings = settings_of(unit)
    hardened = ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictSUIDSGID", "RestrictNamespaces", "LockPersonality")
    assert {settings[key] for key in hardened} == {"yes"}
    assert (settings["ProtectSystem"], settings["CapabilityBoundingSet"], settings["UMask"]) == ("strict", "", "0077")
    folder = f"/var/lib/{settings['StateDirectory']}"
    assert folder in settings["ExecStart"]
    assert settings["Restart"] == "always"


def test_units_and_compose_file_start_commands_that_exist() -> None:
    for app, command in ((server_app, "start"), (server_app, "check-config"), (site_app, "start")):
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    started = {unit.stem: settings_of(unit)["ExecStart"].split()[1:3] for unit in UNITS}
    assert started == {"fedsca-serve": ["serve", "--studies"], "fedsca-server": ["server", "start"], "fedsca-site": ["site", "start"]}


def test_the_server_gets_longer_to_stop_than_it_takes() -> None:
    server = settings_of(DEPLOY / "systemd" / "fedsca-server.service")
    assert int(server["TimeoutStopSec"]) >= 30 + 30  # stop_seconds, and half a minute to end everything
    assert compose()["services"]["server"]["stop_grace_period"] == f"{server['TimeoutStopSec']}s"


def compose() -> dict[str, Any]:
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_the_compose_file_is_whole() -> None:
    document = compose()
    assert set(document["services"]) == {"server", "node", "serve"}
    for service in document["services"].values():
        assert service["build"]["dockerfile"] == "deploy/Dockerfile"
        assert (DEPLOY / service["build"]["context"] / "deploy" / "Dockerfile").is_file()
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
        (volume,) = service["volumes"]
        name, target = volume.split(":")
        assert name in document["volumes"]
        assert target == "/var/lib/fedsca"
        assert set(service["profiles"]) <= {"server", "hospital"}
    assert "ports" not in document["services"]["node"]  # it only connects outwards


def test_the_compose_file_keeps_to_the_specification() -> None:
    """The keys that are used, with the types that the Compose specification gives them."""
    document = compose()
    assert set(document) <= {"name", "services", "volumes", "x-hardened"}
    texts, lists = (
        {"image", "restart", "stop_grace_period"},
        {"command", "volumes", "ports", "profiles", "tmpfs", "cap_drop", "security_opt"},
    )
    for service in document["services"].values():
        assert set(service) <= texts | lists | {"build", "read_only", "logging"}
        assert all(isinstance(service[key], str) for key in texts & set(service))
        assert all(isinstance(item, str) for key in lists & set(service) for item in service[key])
        assert all(isinstance(value, str) for value in service["logging"]["options"].values())
