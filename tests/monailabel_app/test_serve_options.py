"""What `fedsca serve` accepts, and the sentence with which it refuses the rest. Nothing is served here."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from monailabel_app.door_settings import DoorSettings, Limits
from monailabel_app.serve import environment, open_site, refuse_forgotten_login, require_free, run
from monailabel_app.serve_options import parsed
from sam_adapters.errors import FedscaError, SettingError
from sam_adapters.login.user_file import UserFile
from tests.monailabel_app.certificates import write_certificate

STUDIES = ["--studies", "studies"]
EVERYWHERE = "0.0.0.0"  # noqa: S104 - it is refused here
REALM = "https://login.hospital.example/realms/monailabel"


@pytest.fixture
def users(tmp_path: Path) -> Path:
    UserFile(tmp_path / "users.json").add("anna", "$argon2id$", ["annotator"])
    return tmp_path / "users.json"


@pytest.fixture
def tls(tmp_path: Path) -> list[str]:
    certificate, key = write_certificate(tmp_path)
    return ["--tls-cert", str(certificate), "--tls-key", str(key)]


def refusal(*arguments: object) -> str:
    with pytest.raises(FedscaError) as refused:
        parsed([*STUDIES, *(str(argument) for argument in arguments)])
    return str(refused.value)


def test_loopback_needs_nothing_more() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        options = parsed([*STUDIES, "--host", host])
        assert not options.login
        assert {"localhost", "127.0.0.1", "[::1]"} <= set(options.door.hosts)
    assert parsed(STUDIES).url == "http://127.0.0.1:8000"


@pytest.mark.parametrize("host", [EVERYWHERE, "192.168.1.20", "::", "server.hospital.example", "127.0.0.1.example"])
def test_other_addresses_need_tls_and_login(host: str, users: Path, tls: list[str]) -> None:
    both = refusal("--host", host)
    assert "TLS (--tls-cert and --tls-key) and a login (--users or --realm) are missing" in both
    assert "TLS (--tls-cert and --tls-key) is missing" in refusal("--host", host, "--users", users)
    assert "a login (--users or --realm) is missing" in refusal("--host", host, *tls)
    assert parsed([*STUDIES, "--host", host, *tls, "--users", str(users)]).login
    options = parsed([*STUDIES, "--host", host, *tls, "--realm", REALM + "/"])
    assert (options.realm, options.door.hosts) == (REALM, ())


def test_users_and_realms_are_checked(users: Path) -> None:
    assert "not from both" in refusal("--users", users, "--realm", REALM)
    assert "not https" in refusal("--realm", "http://login.hospital.example/realms/x")
    assert "cannot be used" in refusal("--realm", "login.hospital.example")
    assert parsed([*STUDIES, "--realm", "http://127.0.0.1:8080/realms/x"]).login
    assert "cannot be read" in refusal("--users", users.with_name("none.json"))
    UserFile(users).remove("anna")
    assert "holds no user" in refusal("--users", users)


def test_tls_files_are_checked(tmp_path: Path, tls: list[str]) -> None:
    assert "--tls-key is missing" in refusal(*tls[:2])
    assert "--tls-cert is missing" in refusal(*tls[2:])
    assert "cannot be used" in refusal("--tls-cert", tls[3], "--tls-key", tls[1])
    assert "cannot be used" in refusal("--tls-cert", tmp_path / "none", "--tls-key", tls[3])
    certificate, key = write_certificate(tmp_path, encrypted=True)
    assert "is encrypted" in refusal("--tls-cert", certificate, "--tls-key", key)


def test_a_login_is_not_forgotten(users: Path) -> None:
    assert "wants a login" in refusal("--proxy", "127.0.0.1")
    with pytest.raises(SettingError, match="asks for a login"):
        refuse_forgotten_login(parsed(STUDIES), {"MONAI_LABEL_AUTH_ENABLE": "True"})
    refuse_forgotten_login(parsed(STUDIES), {"MONAI_LABEL_AUTH_ENABLE": "false"})
    refuse_forgotten_login(parsed([*STUDIES, "--users", str(users), "--proxy", "127.0.0.1"]), {"MONAI_LABEL_AUTH_ENABLE": "true"})


def test_values_are_checked() -> None:
    assert "Origin '*'" in refusal("--origin", "*")
    assert "--port is '0'" in refusal("--port", "0")
    assert "heavy is '100', expected 1 to 12" in refusal("--limit", "heavy", "100")
    assert "Unknown limit 'speed'" in refusal("--limit", "speed", "1")
    assert "upload_mb is 'much', expected a number" in refusal("--limit", "upload_mb", "much")
    assert "--site" in refusal("--conf", "site", "elsewhere")


def test_the_environment_carries_what_was_checked(tmp_path: Path, users: Path) -> None:
    given = ["--studies", str(tmp_path / "studies"), "--users", str(users), "--origin", "https://viewer.example", "--limit", "heavy", "2"]
    options = parsed([*given, "--conf", "image_size", "64", "--token-minutes", "15"])
    site = open_site(options)
    found = environment(options, site, site.work / "app", {})
    assert site.root == tmp_path
    assert found["MONAI_LABEL_AUTH_ENABLE"] == "true"
    assert found["MONAI_LABEL_APP_CONF"] == f'{{"image_size": "64", "site": "{tmp_path}"}}'
    assert (found["OMP_WAIT_POLICY"], found["MONAI_LABEL_CORS_ORIGINS"]) == ("PASSIVE", "[]")
    read = DoorSettings.from_environment(found)
    assert read == DoorSettings(users, 15, ("https://viewer.example",), (), Limits(heavy=2))
    assert environment(options, site, tmp_path, {"OMP_WAIT_POLICY": "ACTIVE"})["OMP_WAIT_POLICY"] == "ACTIVE"


def test_worker_threads_are_never_all_taken() -> None:
    from monailabel_app.door_settings import RANGES
    from monailabel_app.request_limits import LOGINS_AT_ONCE

    assert RANGES["heavy"][1] + RANGES["clicks"][1] + LOGINS_AT_ONCE < 40


@pytest.mark.parametrize("variable", ["FEDSCA_UPLOAD_MB", "FEDSCA_ORIGINS", "FEDSCA_TOKEN_MINUTES", "FEDSCA_HEAVY"])
def test_a_variable_that_cannot_be_used_is_refused(variable: str) -> None:
    with pytest.raises(SettingError):
        DoorSettings.from_environment({variable: "x"})


def test_remote_studies_need_a_site(tmp_path: Path) -> None:
    remote = ["--studies", "http://127.0.0.1:8042/dicom-web"]
    with pytest.raises(SettingError, match="need --site"):
        open_site(parsed(remote))
    assert open_site(parsed([*remote, "--site", str(tmp_path / "site")])).root == tmp_path / "site"


def test_a_click_after_a_pause_finds_its_connection_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr("uvicorn.run", lambda application, **settings: asked.update(settings))
    assert run(parsed(STUDIES), tmp_path) == 0
    assert (asked["host"], asked["timeout_keep_alive"]) == ("127.0.0.1", 75)


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"Cannot listen on 127.0.0.1 port {port}"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_the_command_refuses_in_a_sentence_and_helps_quickly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fed_backend.cli"]
    done = subprocess.run(
        [*command, "serve", *STUDIES, "--host", EVERYWHERE], capture_output=True, encoding="utf-8", timeout=60, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("fedsca: Host '0.0.0.0' can be reached by other machines, and TLS")
    assert list(tmp_path.iterdir()) == []
    for name, words in (("serve", "--tls-cert FILE"), ("users", "Roles: user (see images, segment)")):
        done = subprocess.run([*command, name, "--help"], capture_output=True, encoding="utf-8", timeout=60, check=True)
        assert done.stdout.startswith(f"usage: fedsca {name}")
        assert words in done.stdout
    script = "import sys, monailabel_app.serve, monailabel_app.users; print(sorted({'torch', 'monailabel', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=60, check=True)
    assert done.stdout == "[]\n"
