"""Command lines, environment and files for Flower's processes."""

import io
import socket
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from flwr.common.config import parse_config_args
from hypothesis import given
from hypothesis import strategies as st

from fed_backend import launch
from fed_backend.errors import LaunchError
from sam_adapters.errors import SettingError

TLS = launch.ServerTls(Path("/tls/ca.pem"), Path("/tls/server.pem"), Path("/tls/server.key"))


def test_superlink_listens_on_loopback_without_tls(tmp_path: Path) -> None:
    argv = launch.superlink_argv(port=9300, database=tmp_path / "sl.sqlite")
    assert argv[:3] == [sys.executable, "-m", "fed_backend.superlink_process"]
    assert argv[3:] == [
        *("--host", "127.0.0.1", "--port", "9300", "--database", str(tmp_path / "sl.sqlite")),
        *("--disable-runtime-dependency-installation", "--insecure"),
    ]


def test_superlink_passes_tls_files_and_node_authentication_through(tmp_path: Path) -> None:
    argv = launch.superlink_argv(host="10.0.0.5", port=9300, database=tmp_path / "db", tls=TLS, node_authentication=True)
    assert "--insecure" not in argv
    assert argv[-7:] == [
        *("--ssl-ca-certfile", "/tls/ca.pem", "--ssl-certfile", "/tls/server.pem", "--ssl-keyfile", "/tls/server.key"),
        "--enable-supernode-auth",
    ]


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "::", "hospital.example", "localhost.evil.example", ""])  # noqa: S104 - refused
def test_plain_http_beyond_loopback_is_refused(host: str, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"without TLS.*--ssl-ca"):
        launch.superlink_argv(host=host, port=9300, database=tmp_path / "db")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_tls(host: str) -> None:
    launch.require_tls_beyond_loopback(host, tls=False)


def test_node_authentication_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="Node authentication needs TLS"):
        launch.superlink_argv(port=9300, database=tmp_path / "db", node_authentication=True)
    with pytest.raises(LaunchError, match="node key needs TLS"):
        launch.supernode_argv(superlink="127.0.0.1:9300", port=9401, site_name="A", site_directory=tmp_path, node_key=tmp_path / "key")


def test_supernode_is_told_site_and_directory(tmp_path: Path) -> None:
    folder = tmp_path / "it's a site"
    argv = launch.supernode_argv(
        superlink="127.0.0.1:9300", port=9401, site_name="clinic-A", site_directory=folder, studies=tmp_path / "studies"
    )
    assert argv[1:-1] == ["--superlink", "127.0.0.1:9300", "--host", "127.0.0.1", "--port", "9401", "--insecure", "--node-config"]
    assert parse_config_args([argv[-1]]) == {"site": "clinic-A", "site-directory": str(folder), "studies": str(tmp_path / "studies")}


def test_supernode_refuses_a_far_server_without_certificates(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="without TLS"):
        launch.supernode_argv(superlink="10.0.0.5:9300", port=9401, site_name="A", site_directory=tmp_path)
    argv = launch.supernode_argv(
        superlink="10.0.0.5:9300", port=9401, site_name="A", site_directory=tmp_path, root_certificates=Path("/ca.pem")
    )
    assert "--insecure" not in argv
    assert argv[argv.index("--root-certificates") + 1] == "/ca.pem"


def test_supernode_refuses_a_name_that_is_no_file_name(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Site name"):
        launch.supernode_argv(superlink="127.0.0.1:9300", port=9401, site_name="../A", site_directory=tmp_path)


@pytest.mark.parametrize("address", ["127.0.0.1", ":9300", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "a:b", ""])
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(LaunchError, match="HOST:PORT"):
        launch.split_address(address)


def test_addresses_round_trip() -> None:
    for host, port in (("127.0.0.1", 9300), ("::1", 1), ("a.example", 65535)):
        assert launch.split_address(launch.format_address(host, port)) == (host, port)


def test_run_hands_the_run_config_over() -> None:
    config: dict[str, launch.ConfigValue] = {"state-dir": 'C:\\a "b"', "rounds": 2, "rank": 8, "shared-depth": 0.5, "on": True}
    argv = launch.run_argv(config, stream=False)
    assert argv[1:5] == ["run", str(launch.FLOWER_APP), launch.CONNECTION, "--run-config"]
    assert parse_config_args([argv[5]]) == config
    assert launch.run_argv(config)[-1] == "--stream"


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=("Cs", "Zl", "Zp", "Cc")), max_size=40))
def test_every_text_that_is_accepted_arrives(text: str) -> None:
    if "'" in text and '"' in text:
        with pytest.raises(LaunchError, match="kind of quotes"):
            launch.config_text({"key": text})
    else:
        assert parse_config_args([launch.config_text({"key": text, "next": 1})]) == {"key": text, "next": 1}


def test_register_names_the_site(tmp_path: Path) -> None:
    argv = launch.register_argv(site_name="A", public_key=tmp_path / "node.pub")
    assert argv[1:] == ["supernode", "register", str(tmp_path / "node.pub"), "federation", "--name", "A"]


def test_connection_file(tmp_path: Path) -> None:
    path = launch.write_connection(tmp_path / "home", address="127.0.0.1:9300")
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {
        "superlink": {"default": "federation", "federation": {"address": "127.0.0.1:9300", "insecure": True}}
    }
    launch.write_connection(tmp_path / "home", address="far.example:443", root_certificates=tmp_path / "ca.pem")
    assert tomllib.loads(path.read_text(encoding="utf-8"))["superlink"]["federation"] == {
        "address": "far.example:443",
        "root-certificates": str(tmp_path / "ca.pem"),
    }
    with pytest.raises(LaunchError, match="without TLS"):
        launch.write_connection(tmp_path / "home", address="far.example:443")


def test_environment_switches_telemetry_off_and_finds_helpers(tmp_path: Path) -> None:
    environment = launch.flower_environment(tmp_path, parent={"PATH": "/usr/bin", "FLWR_TELEMETRY_ENABLED": "1", "KEPT": "yes"})
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)
    assert environment["PATH"].split(":") == [str(Path(sys.executable).parent), "/usr/bin"]
    assert environment["KEPT"] == "yes"


def test_server_address_file(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="fedsca server start"):
        launch.ServerAddress.load(tmp_path)
    launch.ServerAddress("127.0.0.1:9300", "/ca.pem").save(tmp_path)
    assert launch.ServerAddress.load(tmp_path) == launch.ServerAddress("127.0.0.1:9300", "/ca.pem")
    (tmp_path / launch.SERVER_FILE).write_text("[]", encoding="utf-8")
    with pytest.raises(LaunchError, match="cannot be read"):
        launch.ServerAddress.load(tmp_path)


def test_a_free_port_answers_only_once_something_listens() -> None:
    port = launch.free_port()
    assert not launch.answers("127.0.0.1", port)
    with socket.create_server(("127.0.0.1", port)):
        assert launch.answers("127.0.0.1", port)


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # Flower's bundler and pathspec 1.0
def test_the_bundle_passes_flowers_own_check_and_holds_no_code() -> None:
    from flwr.cli.build import build_fab_from_disk
    from flwr.cli.config_utils import load_and_validate

    config, warnings = load_and_validate(launch.FLOWER_APP / "pyproject.toml")
    assert warnings == []
    assert config["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "fed_backend.server_app:app",
        "clientapp": "fed_backend.client_app:app",
    }
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(launch.FLOWER_APP))) as bundle:
        assert sorted(bundle.namelist()) == [".info/CONTENT", "README.md", "pyproject.toml"]


def test_an_update_needs_no_torch() -> None:
    """What the ClientApp and ServerApp processes import before they know what they are asked."""
    code = "import sys, fed_backend.client_app, fed_backend.server_app, fed_backend.cli.federation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_the_command_line_needs_no_flower() -> None:
    code = "import sys, fed_backend.cli.federation; sys.exit('flwr' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
