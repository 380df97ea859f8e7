"""Certificates, checked by real TLS handshakes in memory, and their days."""

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from fed_backend.enrolment.authority import CA_DAYS, SERVER_DAYS, Authority
from fed_backend.enrolment.certificate_days import certificate_lives, days_left, server_certificates
from fed_backend.enrolment.server_identity import ServerIdentity, certified_hosts, init_server
from fed_backend.errors import EnrolmentError
from fed_backend.launch import ServerTls
from tests.fed_backend.enrolment.people import NOW, new_server

TODAY = datetime.datetime.now(datetime.UTC)


def shake_hands(tls: ServerTls, roots: str, host: str) -> None:
    """A whole handshake between a server with these files and a client that trusts `roots`. Raises ssl.SSLError."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(tls.certificate, tls.key)
    client_side = ssl.create_default_context(cadata=roots)
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return
    raise AssertionError("the handshake does not end")


def test_sites_can_check_the_server_by_each_of_its_names(tmp_path: Path) -> None:
    identity, authority = init_server(tmp_path, "north", ["fed.example", "10.1.2.3", "fd00::7"], 9443, TODAY)
    roots = authority.ca_file.read_text(encoding="ascii")
    for host in ("fed.example", "10.1.2.3", "fd00::7", "127.0.0.1", "localhost"):
        shake_hands(identity.tls(tmp_path), roots, host)
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(identity.tls(tmp_path), roots, "evil.example")


def test_another_federations_authority_does_not_vouch_for_this_server(tmp_path: Path) -> None:
    identity, _ = init_server(tmp_path / "a", "north", ["fed.example"], 9443, TODAY)
    _, other = init_server(tmp_path / "b", "north", ["fed.example"], 9443, TODAY)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(identity.tls(tmp_path / "a"), other.ca_file.read_text(encoding="ascii"), "fed.example")


def test_after_renewing_everything_a_site_with_the_old_roots_still_connects(tmp_path: Path) -> None:
    identity, authority = init_server(tmp_path, "north", ["fed.example"], 9443, TODAY)
    old_roots, old_server = authority.ca_file.read_text(encoding="ascii"), authority.server_file.read_bytes()
    renewed = Authority.load(tmp_path).renew(TODAY + datetime.timedelta(seconds=1))
    renewed.issue_server_certificate(certified_hosts(identity.hosts), TODAY)
    assert renewed.ca_file.read_text(encoding="ascii") != old_roots
    assert renewed.server_file.read_bytes() != old_server
    assert Authority.load(tmp_path).fingerprint == authority.fingerprint
    for roots in (old_roots, renewed.ca_file.read_text(encoding="ascii")):
        shake_hands(identity.tls(tmp_path), roots, "fed.example")


def test_nobody_else_on_the_machine_reads_the_keys(tmp_path: Path) -> None:
    new_server(tmp_path / "state")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    folder = tmp_path / "state" / "authority"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        ("ca.key", "ca.pem", "server.pem"), 0o600
    )


def test_init_is_done_once_and_a_killed_one_begins_anew(tmp_path: Path) -> None:
    Authority.create(tmp_path, "north", NOW)  # killed before the identity was written
    assert ServerIdentity.load(tmp_path) is None
    fingerprint = new_server(tmp_path)
    assert Authority.load(tmp_path).fingerprint == fingerprint
    with pytest.raises(EnrolmentError, match="has an authority already"):
        new_server(tmp_path)
    assert Authority.load(tmp_path).fingerprint == fingerprint
    assert ServerIdentity.require(tmp_path).address == "fed.example:9443"


def test_a_host_that_no_certificate_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="cannot stand in a certificate"):
        new_server(tmp_path, "klinik-süd.example")
    with pytest.raises(EnrolmentError, match="No host"):
        init_server(tmp_path, "north", [], 9443, NOW)


def test_files_that_cannot_be_used_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="fedsca server init"):
        Authority.load(tmp_path)
    with pytest.raises(EnrolmentError, match="fedsca server init"):
        ServerIdentity.require(tmp_path)
    new_server(tmp_path)
    Authority.create(tmp_path / "other", "south", NOW)
    (tmp_path / "authority" / "ca.pem").write_bytes((tmp_path / "other" / "authority" / "ca.pem").read_bytes())
    with pytest.raises(EnrolmentError, match="do not belong together"):
        Authority.load(tmp_path)
    (tmp_path / "authority" / "ca.pem").write_text("half a fi", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="backup"):
        Authority.load(tmp_path)
    (tmp_path / "identity.json").write_text('{"format": 2}', encoding="utf-8")
    with pytest.raises(EnrolmentError, match="format 2, this software knows 1"):
        ServerIdentity.load(tmp_path)


def test_days_are_counted_down_to_the_day_and_below_zero(tmp_path: Path) -> None:
    new_server(tmp_path)
    server, authority = server_certificates(tmp_path, NOW)
    assert (server.what, server.days) == ("server", SERVER_DAYS)
    assert (authority.what, authority.days) == ("authority", CA_DAYS)
    later = NOW + datetime.timedelta(days=SERVER_DAYS - 10, seconds=1)
    assert server_certificates(tmp_path, later)[0].days == 9
    assert "Renew it soon." in server_certificates(tmp_path, later)[0].sentence
    ended = server_certificates(tmp_path, NOW + datetime.timedelta(days=SERVER_DAYS, hours=1))[0]
    assert ended.days == -1
    assert "ended on 2027-04-02: renew it" in ended.sentence
    assert server_certificates(tmp_path / "nothing", NOW) == []
    (tmp_path / "rubbish.pem").write_text("no certificate", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="cannot be read"):
        certificate_lives("server", tmp_path / "rubbish.pem", NOW)


def test_the_servers_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path, "north", NOW)
    late = NOW + datetime.timedelta(days=CA_DAYS - 100)
    certificate = authority.issue_server_certificate(["fed.example"], late)
    assert days_left(certificate, late) == 100
    with pytest.raises(EnrolmentError, match="--authority"):
        authority.issue_server_certificate(["fed.example"], late + datetime.timedelta(days=100))


def test_the_hospitals_own_certificate_is_used_where_it_was_given(tmp_path: Path) -> None:
    own = Authority.create(tmp_path / "it", "Hospital IT", TODAY)
    own.issue_server_certificate(["fed.example", "127.0.0.1"], TODAY)
    tls = ServerTls(own.ca_file, own.server_file, own.server_file)
    identity, authority = init_server(tmp_path / "state", "north", ["fed.example"], 9443, TODAY, tls)
    assert identity.tls(tmp_path / "state") == tls
    assert authority.fingerprint != own.fingerprint
    assert not authority.server_file.exists()
    assert [life.what for life in server_certificates(tmp_path / "state", TODAY)] == ["server", "authority", "server's authority"]
    assert ServerIdentity.load(tmp_path / "state") == identity


def test_the_authority_signs_no_further_authorities(tmp_path: Path) -> None:
    certificate = Authority.create(tmp_path, "a name of a federation that is longer than X.509 lets it be, by far", NOW).certificate
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
