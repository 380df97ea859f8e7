"""A site's side: first bundle, later bundles, new keys, and being killed in between."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fed_backend.enrolment import approval, membership, roster
from fed_backend.enrolment.certificate_days import site_certificates
from fed_backend.enrolment.request import SiteRequest, read_request
from fed_backend.enrolment.site_agreement import AGREED, adopt_settings
from fed_backend.errors import EnrolmentError, UntrustedError
from fed_backend.launch import ServerAddress
from fed_backend.run_config import FederationSettings
from sam_adapters import atomic
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.enrolment.people import NOW, new_server, new_site


def bundle_for(state: Path, request: SiteRequest, *, replace: bool = False) -> str:
    return approval.approve(state, request, request.name, replace=replace).bundle


def events(state: Path) -> list[tuple[str, str]]:
    lines = (state / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["event"], line["site"]) for line in map(json.loads, lines)]


def test_a_site_becomes_a_member_with_the_authoritys_fingerprint(tmp_path: Path) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    done = approval.approve(tmp_path / "s", request, "clinic-A")
    assert done.sentences == [approval.LATER]
    with pytest.raises(UntrustedError, match="first bundle: give --fingerprint"):
        membership.accept(site, done.bundle, None)
    with pytest.raises(UntrustedError, match="on the phone"):
        membership.accept(site, done.bundle, "0" * 32)
    assert membership.load(site) is None
    with pytest.raises(EnrolmentError, match="fedsca site enrol"):
        membership.require(site)
    held = membership.accept(site, done.bundle, fingerprint)
    assert membership.require(site) == held
    assert (held.bundle.site, held.bundle.address, held.bundle.settings["base"]) == ("clinic-A", "fed.example:9443", "litemedsam")
    assert held.roots_file.read_text(encoding="ascii") == (tmp_path / "s" / "authority" / "ca.pem").read_text(encoding="ascii")
    assert held.node_key.exists()
    assert [life.days for life in site_certificates(site, NOW)] == [3650]
    assert events(tmp_path / "s") == [("site_approved", "clinic-A")]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (site.root / "federation").rglob("*"))


def test_enrolling_again_asks_for_the_same_keys(tmp_path: Path) -> None:
    site, request = new_site(tmp_path / "A", "A")
    assert read_request(membership.enrol(site, "A")[0]).keys == request.keys
    assert read_request(membership.enrol(site, "other")[0]).name == "other"
    assert read_request(membership.enrol(site, "A", new_keys=True)[0]).keys != request.keys


def test_later_bundles_need_no_fingerprint_but_the_same_authority_and_a_newer_number(tmp_path: Path) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    first = bundle_for(tmp_path / "s", request)
    membership.accept(site, first, fingerprint)
    FederationSettings(federation="south", rank=4).save(tmp_path / "s")
    second = approval.new_bundle(tmp_path / "s", "A").bundle
    assert membership.accept(site, second, None).bundle.settings["rank"] == 4
    with pytest.raises(EnrolmentError, match="number 1, number 2 is in force"):
        membership.accept(site, first, None)
    assert membership.accept(site, second, None).bundle.number == 2
    impostor = tmp_path / "impostor"
    new_server(impostor)
    with pytest.raises(UntrustedError, match="on the phone"):
        membership.accept(site, bundle_for(impostor, request), None)
    assert membership.require(site).bundle.federation == "south"
    assert [path.name for path in (site.root / "federation").glob("roots-*")] == [membership.require(site).roots_file.name]


def test_old_keys_stay_in_force_until_the_bundle_for_the_new_ones_is_accepted(tmp_path: Path) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    before = membership.accept(site, bundle_for(tmp_path / "s", request), fingerprint)
    text, _ = membership.enrol(site, "A", new_keys=True)
    assert membership.require(site) == before
    with pytest.raises(EnrolmentError, match="--replace"):
        bundle_for(tmp_path / "s", read_request(text))
    after = membership.accept(site, bundle_for(tmp_path / "s", read_request(text), replace=True), None)
    assert after.node_key != before.node_key
    assert [bool(entry.revoked) for entry in roster.load(tmp_path / "s").entries] == [True, False]


def test_accepting_killed_at_any_write_leaves_the_old_membership_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    before = membership.accept(site, bundle_for(tmp_path / "s", request), fingerprint)
    approval.Authority.load(tmp_path / "s").renew(NOW)
    newer = approval.new_bundle(tmp_path / "s", "A").bundle
    write = atomic.write_bytes
    for allowed in range(3):
        left = allowed

        def dying(path: Path, data: bytes) -> None:
            nonlocal left
            if left == 0:
                raise OSError("No space left on device")
            left -= 1
            write(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(atomic, "write_bytes", dying)
            if allowed < 2:
                with pytest.raises(OSError, match="No space"):
                    membership.accept(site, newer, None)
                assert membership.require(site) == before
                assert before.roots_file.exists()
            else:
                membership.accept(site, newer, None)
    assert membership.require(site).bundle.number == 2


def test_lost_or_damaged_files_are_told(tmp_path: Path) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    with pytest.raises(EnrolmentError, match="no keys yet"):
        membership.look_into(SiteDirectory.open(tmp_path / "B"), "")
    held = membership.accept(site, bundle_for(tmp_path / "s", request), fingerprint)
    held.roots_file.rename(held.roots_file.with_suffix(".old"))
    with pytest.raises(EnrolmentError, match="is gone"):
        membership.load(site)
    (site.root / "federation" / "membership.json").write_text("{}", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="accept the newest bundle again"):
        membership.load(site)
    (site.root / "federation" / "enrolling.json").write_text("[]", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="--new-keys"):
        membership.enrol(site, "A")


def test_revoking_with_the_server_down_is_kept_for_its_start(tmp_path: Path) -> None:
    new_server(tmp_path / "s")
    _, request = new_site(tmp_path / "A", "A")
    bundle_for(tmp_path / "s", request)
    ServerAddress("127.0.0.1:1").save(tmp_path / "s")
    assert approval.revoke(tmp_path / "s", "A", "Left.") == [approval.LATER]
    assert roster.load(tmp_path / "s").members() == []
    assert events(tmp_path / "s") == [("site_approved", "A"), ("site_revoked", "A")]
    with pytest.raises(EnrolmentError, match="no member"):
        approval.new_bundle(tmp_path / "s", "A")


def test_a_bundle_never_carries_a_private_key(tmp_path: Path) -> None:
    """Some keep key and authority in one PEM file."""
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    authority = approval.Authority.load(tmp_path / "s")
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "s" / "authority" / "ca.key").read_bytes() + authority.ca_file.read_bytes())
    identity = approval.ServerIdentity(("fed.example",), 9443, str(both), str(both), str(both))
    identity.save(tmp_path / "s")
    held = membership.accept(site, bundle_for(tmp_path / "s", request), fingerprint)
    assert held.roots_file.read_text(encoding="ascii") == authority.ca_file.read_text(encoding="ascii")
    both.write_text("nothing", encoding="utf-8")
    with pytest.raises(EnrolmentError, match="holds no certificate"):
        approval.new_bundle(tmp_path / "s", "A")


def test_settings_of_the_site_are_its_own() -> None:
    assert set(AGREED) <= set(SiteSettings.__dataclass_fields__)


def test_a_bundle_of_before_a_setting_means_what_the_software_did_then(tmp_path: Path) -> None:
    fingerprint = new_server(tmp_path / "s")
    site, request = new_site(tmp_path / "A", "A")
    bundle = membership.accept(site, bundle_for(tmp_path / "s", request), fingerprint).bundle
    for name in ("older", "newer", "other"):
        (tmp_path / name).mkdir()
    older = replace(bundle, settings={"base": "litemedsam", "rank": 8, "shared_depth": 1})
    adopt_settings(tmp_path / "older", older)
    assert SiteSettings.load(tmp_path / "older" / "site.json") == SiteSettings(name="A", shared_depth=1.0, shared_decoder=False)
    adopt_settings(tmp_path / "newer", replace(older, settings={**older.settings, "shared_decoder": True}))
    assert SiteSettings.load(tmp_path / "newer" / "site.json").shared_decoder
    with pytest.raises(EnrolmentError, match="shared_decoder is 1, expected a bool"):
        adopt_settings(tmp_path / "other", replace(older, settings={**older.settings, "shared_decoder": 1}))
