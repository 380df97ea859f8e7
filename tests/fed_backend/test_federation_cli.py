"""`fedsca server …` and `fedsca site …`."""

import json
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fed_backend import launch, server_state_file
from fed_backend.cli import federation
from fed_backend.cli.federation import server_app, site_app
from fed_backend.errors import LaunchError, RoundError
from fed_backend.run_config import FederationSettings
from fed_backend.schema_cache import SCHEMA_FILE
from fed_backend.server_state_file import STATE_FILE
from fed_backend.strategy import SgcaStrategy
from sam_adapters.registry import Registry, RoundRecord
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.toy_sites import FakeClock, ToyFederation, ToySite
from tests.fed_backend.toys import SCHEMA, toy_state

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it


class StartedError(Exception):
    """Raised in place of becoming another process."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__()
        self.argv, self.environment = list(argv), dict(environment)


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(argv: Sequence[str], environment: Mapping[str, str]) -> None:
        raise StartedError(argv, environment)

    monkeypatch.setattr(federation, "_become", become)
    monkeypatch.setenv("COLUMNS", "200")


def call(app: object, *arguments: str | Path) -> Result:
    """Run a command; errors come out."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_start_writes_what_was_agreed_and_becomes_the_superlink(tmp_path: Path) -> None:
    port = launch.free_port()
    with pytest.raises(StartedError) as started:
        call(server_app, "start", "--state", tmp_path / "s", "--port", str(port), "--rank", "4", "--min-sites", "3", "--name", "north")
    assert started.value.argv == launch.superlink_argv(port=port, database=tmp_path / "s" / "superlink.sqlite")
    assert started.value.environment["FLWR_HOME"] == str(tmp_path / "s" / "flower")
    assert FederationSettings.load(tmp_path / "s") == FederationSettings(federation="north", rank=4, min_sites=3)
    assert launch.ServerAddress.load(tmp_path / "s").address == f"127.0.0.1:{port}"
    assert json.loads((tmp_path / "s" / SCHEMA_FILE).read_text(encoding="utf-8"))["key"]["rank"] == 4
    # What is not given again stays.
    with pytest.raises(StartedError):
        call(server_app, "start", "--state", tmp_path / "s", "--port", str(port), "--min-sites", "2")
    assert FederationSettings.load(tmp_path / "s") == FederationSettings(federation="north", rank=4, min_sites=2)


def test_start_refuses_plain_http_beyond_loopback_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="Give the TLS files"):
        call(server_app, "start", "--state", tmp_path / "s", "--host", EVERYWHERE)
    assert not (tmp_path / "s").exists()


def test_start_with_tls_passes_the_files_through(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "server.pem", "server.key")]
    for file in files:
        file.touch()
    port = launch.free_port()
    arguments = ["--ssl-ca", files[0], "--ssl-cert", files[1], "--ssl-key", files[2], "--node-authentication"]
    with pytest.raises(StartedError) as started:
        call(server_app, "start", "--state", tmp_path / "s", "--host", EVERYWHERE, "--port", str(port), *arguments)
    assert started.value.argv[-7:-1] == [
        *("--ssl-ca-certfile", str(files[0]), "--ssl-certfile", str(files[1]), "--ssl-keyfile", str(files[2]))
    ]
    assert started.value.argv[-1] == "--enable-supernode-auth"
    assert launch.ServerAddress.load(tmp_path / "s") == launch.ServerAddress(f"127.0.0.1:{port}", str(files[0]))
    with pytest.raises(LaunchError, match="all three"):
        call(server_app, "start", "--state", tmp_path / "s", "--ssl-ca", files[0])


def test_start_says_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(LaunchError, match="already: stop it"):
        call(server_app, "start", "--state", tmp_path / "s", "--port", str(other.getsockname()[1]))


def test_start_checks_values(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="rank is 0"):
        call(server_app, "start", "--state", tmp_path / "s", "--rank", "0")


def test_run_round_needs_a_started_server(tmp_path: Path) -> None:
    with pytest.raises(RoundError, match="fedsca server start"):
        call(server_app, "run-round", "--state", tmp_path)
    FederationSettings().save(tmp_path)
    launch.ServerAddress(f"127.0.0.1:{launch.free_port()}").save(tmp_path)
    with pytest.raises(RoundError, match="Nothing answers"):
        call(server_app, "run-round", "--state", tmp_path)
    (tmp_path / "node.pub").touch()
    with pytest.raises(RoundError, match="Nothing answers"):
        call(server_app, "register", "--state", tmp_path, "--name", "A", "--public-key", tmp_path / "node.pub")


def test_server_status_before_and_after_rounds(tmp_path: Path) -> None:
    settings = FederationSettings(projection_size=64)
    settings.save(tmp_path)
    assert "no round yet" in call(server_app, "status", "--state", tmp_path).output
    state = server_state_file.load_or_new(tmp_path / STATE_FILE, SCHEMA)
    grid = ToyFederation([ToySite("A", toy_state(1.0), cases=7), ToySite("B", toy_state(2.0)), ToySite("B", toy_state(2.0))])
    SgcaStrategy(state, settings, tmp_path, clock=FakeClock()).start(grid)  # two nodes called B: no quorum
    grid = ToyFederation([ToySite("A", toy_state(1.0), cases=7), ToySite("B", toy_state(2.0))])
    SgcaStrategy(server_state_file.load(tmp_path / STATE_FILE), settings, tmp_path, clock=FakeClock()).start(grid)
    output = call(server_app, "status", "--state", tmp_path).output
    row = next(line for line in output.splitlines() if "A" in line and "7" in line and "promoted" in line)
    assert "0.5" in row or "0.6" in row
    assert "2 rounds" in output
    assert "call themselves" not in output  # that was the round before


def test_join_becomes_the_supernode(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    SiteSettings(name="clinic-A").save(site.settings_file)
    with pytest.raises(StartedError) as started:
        call(site_app, "join", "--site", site.root, "--superlink", "127.0.0.1:9300", "--port", "9401")
    assert started.value.argv == launch.supernode_argv(
        superlink="127.0.0.1:9300", port=9401, site_name="clinic-A", site_directory=site.root
    )
    assert started.value.argv[0].startswith(str(Path(sys.executable).parent))
    assert started.value.environment["FLWR_HOME"] == str(site.work / "flower")
    assert (site.work / SCHEMA_FILE).exists()


def test_join_refuses_a_far_server_without_certificates_and_a_missing_site(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    with pytest.raises(LaunchError, match="without TLS"):
        call(site_app, "join", "--site", site.root, "--superlink", "federation.example:443")
    with pytest.raises(RoundError, match="no site directory"):
        call(site_app, "join", "--site", tmp_path / "nowhere", "--superlink", "127.0.0.1:9300")


def test_site_status_lists_rounds(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    with Registry(site) as registry:
        registry.record_round(
            RoundRecord(
                "id", 3, sent_version="base", weights={"A": 0.25, "B": 0.75}, bytes_up={"update": 5}, decision="rejected", reason="Worse."
            )
        )
    output = call(site_app, "status", "--site", site.root).output
    assert "active version base" in output
    row = next(line for line in output.splitlines() if "rejected" in line)
    assert all(text in row for text in ("3", "base", "B 0.75, A 0.25", "5 / 0", "Worse."))


@pytest.mark.parametrize(("app", "commands"), [(server_app, ("start", "run-round", "register", "status")), (site_app, ("join", "status"))])
def test_help_teaches(app: object, commands: Sequence[str]) -> None:
    for command in commands:
        result = call(app, command, "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 5
