"""`fedsca server init …` and `fedsca site enrol …` as people call them; nothing is started."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fed_backend import launch
from fed_backend.cli import federation
from fed_backend.cli.federation import server_app, site_app
from fed_backend.enrolment import membership, roster
from fed_backend.enrolment.authority import Authority
from fed_backend.enrolment.server_identity import ServerIdentity
from fed_backend.errors import EnrolmentError, LaunchError, UntrustedError
from fed_backend.run_config import FederationSettings
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.enrolment.people import new_server, new_site


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def call(app: object, *arguments: str | Path) -> Result:
    """Run a command; errors come out."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def said(result: Result, start: str) -> str:
    """The rest of the one line that begins with `start`."""
    (line,) = [line for line in result.output.splitlines() if line.startswith(start)]
    return line.removeprefix(start)


def enrolled(tmp_path: Path, *approve: str) -> tuple[Path, Path, str]:
    """State, site and the authority's fingerprint, after everything up to the bundle has been done by commands."""
    state, site = tmp_path / "s", tmp_path / "A"
    call(server_app, "init", "--state", state, "--host", "fed.example", "--name", "north", "--port", "9443")
    asked = call(site_app, "enrol", "--site", site, "--name", "A", "--out", tmp_path / "A.req")
    shown = said(asked, "Fingerprint of the site: ")
    done = call(server_app, "approve", tmp_path / "A.req", "--state", state, "--fingerprint", shown, *approve)
    return state, site, said(done, "Read this to the hospital, the authority's fingerprint: ")


def test_from_nothing_to_a_member_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, site, fingerprint = enrolled(tmp_path)
    assert FederationSettings.load(state).federation == "north"
    output = call(site_app, "accept", state / "bundles" / "A.txt", "--site", site, "--fingerprint", fingerprint).output
    assert "Site A is a member of north at fed.example:9443." in output
    assert SiteSettings.load(site / "site.json").name == "A"
    assert "Fingerprint of the authority: " + fingerprint in call(site_app, "membership", "--site", site).output
    started: list[Sequence[str]] = []

    def become(argv: Sequence[str], environment: Mapping[str, str]) -> None:
        started.append(argv)

    monkeypatch.setattr(federation, "_become", become)
    call(site_app, "start", "--site", site, "--port", "9401")
    held = membership.require(SiteDirectory(site))
    assert started == [
        launch.supernode_argv(
            superlink="fed.example:9443",
            port=9401,
            site_name="A",
            site_directory=site,
            root_certificates=held.roots_file,
            node_key=held.node_key,
        )
    ]


def test_nobody_is_let_in_without_a_compared_fingerprint(tmp_path: Path) -> None:
    state = tmp_path / "s"
    new_server(state)
    call(site_app, "enrol", "--site", tmp_path / "A", "--name", "A", "--out", tmp_path / "A.req")
    with pytest.raises(UntrustedError, match="Nobody has compared"):
        call(server_app, "approve", tmp_path / "A.req", "--state", state)
    with pytest.raises(UntrustedError, match="find out why they differ"):
        call(server_app, "approve", tmp_path / "A.req", "--state", state, "--fingerprint", "0" * 32)
    assert not (state / "roster.json").exists()


def test_a_first_bundle_is_not_taken_without_a_compared_fingerprint(tmp_path: Path) -> None:
    state, site, _ = enrolled(tmp_path)
    with pytest.raises(UntrustedError, match="Nobody has compared the authority's"):
        call(site_app, "accept", state / "bundles" / "A.txt", "--site", site)
    assert membership.load(SiteDirectory(site)) is None
    with pytest.raises(EnrolmentError, match="fedsca site accept"):
        call(site_app, "start", "--site", site)


def test_a_site_keeps_its_own_settings_and_is_told_what_differs(tmp_path: Path) -> None:
    state, site, fingerprint = enrolled(tmp_path)
    SiteSettings(name="A", rank=4).save(site / "site.json")
    output = call(site_app, "accept", state / "bundles" / "A.txt", "--site", site, "--fingerprint", fingerprint).output
    assert "rank 4 (federation: 8)" in output
    assert SiteSettings.load(site / "site.json").rank == 4


def test_a_policy_is_proposed_and_the_site_decides(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text('{"bits": 8}', encoding="utf-8")
    state, site, fingerprint = enrolled(tmp_path, "--policy", str(tmp_path / "policy.json"))
    accept = ["accept", state / "bundles" / "A.txt", "--site", site, "--fingerprint", fingerprint]
    assert "accept again with --adopt-policy" in call(site_app, *accept).output
    assert not (site / "policy.json").exists()
    call(site_app, *accept, "--adopt-policy")
    assert json.loads((site / "policy.json").read_text(encoding="utf-8")) == {"bits": 8}
    (site / "policy.json").write_text('{"bits": 4}', encoding="utf-8")
    assert "own policy" in call(site_app, *accept, "--adopt-policy").output
    assert json.loads((site / "policy.json").read_text(encoding="utf-8")) == {"bits": 4}
    (tmp_path / "policy.json").write_text("[]", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="expected a JSON object"):
        call(server_app, "bundle", "--state", state, "--name", "A", "--policy", tmp_path / "policy.json")


def test_roster_and_revocation(tmp_path: Path) -> None:
    state, _, _ = enrolled(tmp_path)
    assert "is no member any more" in call(server_app, "revoke", "--state", state, "--name", "A", "--reason", "Left.").output
    output = call(server_app, "roster", "--state", state).output
    assert "Left." in output
    assert "The certificate of the server is good for 39" in output
    assert roster.load(state).members() == []


def test_renewing_changes_the_servers_certificate_and_no_site(tmp_path: Path) -> None:
    state, site, fingerprint = enrolled(tmp_path)
    call(site_app, "accept", state / "bundles" / "A.txt", "--site", site, "--fingerprint", fingerprint)
    before, held = Authority.load(state).server_file.read_bytes(), membership.require(SiteDirectory(site))
    call(server_app, "renew", "--state", state)
    assert Authority.load(state).server_file.read_bytes() != before
    assert Authority.load(state).ca_file.read_text(encoding="ascii") == held.bundle.roots
    call(server_app, "renew", "--state", state, "--authority", "--host", "new.example")
    assert ServerIdentity.require(state).address == "new.example:9443"
    assert Authority.load(state).ca_file.read_text(encoding="ascii") != held.bundle.roots
    call(server_app, "bundle", "--state", state, "--name", "A")
    call(site_app, "accept", state / "bundles" / "A.txt", "--site", site)  # the same authority: nobody need compare again
    assert membership.require(SiteDirectory(site)).bundle.address == "new.example:9443"


def test_an_enrolled_server_starts_with_tls_and_lets_only_registered_nodes_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, port = tmp_path / "s", launch.free_port()
    new_server(state, "127.0.0.1")
    started: list[Sequence[str]] = []
    told: list[list[str]] = []

    def become(argv: Sequence[str], environment: Mapping[str, str]) -> None:
        started.append(argv)

    monkeypatch.setattr(federation, "_become", become)
    monkeypatch.setattr(subprocess, "Popen", lambda argv, **_: told.append(argv))
    call(server_app, "start", "--state", state, "--port", str(port))
    tls = ServerIdentity.require(state).tls(state)
    assert started == [launch.superlink_argv(port=port, database=state / "superlink.sqlite", tls=tls, node_authentication=True)]
    assert launch.ServerAddress.load(state).root_certificates == str(tls.ca)
    assert told == [[sys.executable, "-m", "fed_backend.cli", "server", "sync", "--state", str(state), "--wait", "300"]]


def test_registering_past_the_roster_is_refused(tmp_path: Path) -> None:
    state, site, _ = enrolled(tmp_path)
    with pytest.raises(LaunchError, match="fedsca server approve"):
        call(server_app, "register", "--state", state, "--name", "B", "--public-key", site / "federation" / "keys" / "001" / "node.pub")


def test_a_hospitals_own_certificate_is_renewed_by_the_hospital(tmp_path: Path) -> None:
    new_server(tmp_path / "it")
    folder = tmp_path / "it" / "authority"
    files = ["--ssl-ca", folder / "ca.pem", "--ssl-cert", folder / "server.pem", "--ssl-key", folder / "server.pem"]
    call(server_app, "init", "--state", tmp_path / "s", "--host", "fed.example", *files)
    with pytest.raises(EnrolmentError, match="renew it there"):
        call(server_app, "renew", "--state", tmp_path / "s")
    with pytest.raises(LaunchError, match="all three"):
        call(server_app, "init", "--state", tmp_path / "t", "--host", "fed.example", *files[:2])


def test_a_site_that_was_made_before_may_enrol_under_its_name(tmp_path: Path) -> None:
    site, request = new_site(tmp_path / "A", "A")
    SiteSettings(name="clinic").save(site.settings_file)
    output = call(site_app, "enrol", "--site", site.root).output
    assert said(call(site_app, "enrol", "--site", site.root), "Fingerprint of the site: ") == request.fingerprint
    assert "PRIVATE" not in output


@pytest.mark.parametrize(
    ("app", "commands"),
    [
        (server_app, ("init", "approve", "bundle", "revoke", "renew", "roster", "sync")),
        (site_app, ("enrol", "accept", "start", "membership")),
    ],
)
def test_help_teaches(app: object, commands: Sequence[str]) -> None:
    for command in commands:
        assert len(call(app, command, "--help").output.splitlines()) > 5
