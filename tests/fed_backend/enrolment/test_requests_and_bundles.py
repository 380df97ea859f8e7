"""A request proves its key; a bundle opens for one site, and only as its authority wrote it."""

import dataclasses
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_backend.enrolment import armour, bundle, request, signed_document
from fed_backend.enrolment.authority import Authority
from fed_backend.enrolment.node_keys import NodeKeys, PublicKeys
from fed_backend.errors import EnrolmentError, UntrustedError
from sam_adapters.errors import SettingError
from tests.fed_backend.enrolment.people import NOW


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> NodeKeys:
    return NodeKeys.create(tmp_path_factory.mktemp("site") / "001")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("server"), "north", NOW)


def a_bundle(keys: NodeKeys, authority: Authority) -> bundle.Bundle:
    pem = authority.ca_file.read_text(encoding="ascii")
    fields = {"federation": "north", "address": "fed.example:9443", "authority": pem, "roots": pem, "settings": {"rank": 8}}
    return bundle.Bundle(site="A", recipient=keys.public.fingerprint, number=1, issued=NOW.isoformat(), **fields, policy={"bits": 16})


def test_keys_are_kept_private_and_read_back(tmp_path: Path) -> None:
    made = NodeKeys.create(tmp_path / "001")
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "001").iterdir()} == dict.fromkeys(
        ("node.key", "node.pub", "sealing.key"), 0o600
    )
    read = NodeKeys.load(tmp_path / "001")
    assert read is not None
    assert read.public == made.public
    assert serialization.load_ssh_private_key(made.node_file.read_bytes(), None).curve.name == "secp384r1"  # type: ignore[union-attr]
    (tmp_path / "001" / "node.key").write_bytes(b"rubbish")
    with pytest.raises(EnrolmentError, match="--new-keys"):
        NodeKeys.load(tmp_path / "001")
    (tmp_path / "001" / "sealing.key").unlink()  # as a crash before the last file leaves it
    assert NodeKeys.load(tmp_path / "001") is None


def test_a_request_is_read_as_it_was_written(keys: NodeKeys) -> None:
    text = request.write_request("clinic-A", keys)
    assert len(text) < 1200
    read = request.read_request("Dear colleague,\r\n" + text.replace("\n", "\r\n"))
    assert (read.name, read.keys, read.fingerprint) == ("clinic-A", keys.public, keys.public.fingerprint)
    assert "PRIVATE" not in armour.unwrap(request.KIND, text).decode()


def test_a_request_with_somebody_elses_key_is_refused(keys: NodeKeys, tmp_path: Path) -> None:
    thief = NodeKeys.create(tmp_path / "001")
    value = {"name": "A", "node_key": keys.public.node, "sealing_key": thief.public.sealing}
    text = armour.wrap(request.KIND, signed_document.signed(request.KIND, value, thief.node))
    with pytest.raises(UntrustedError, match="the key that it names"):
        request.read_request(text)


def test_requests_that_cannot_be_used(keys: NodeKeys) -> None:
    small = ec.generate_private_key(ec.SECP256R1())
    line = small.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    for change, error, said in [
        ({"name": "../A"}, SettingError, "cannot be used"),
        ({"name": 3}, EnrolmentError, "lacks its name"),
        ({"sealing_key": "ab"}, EnrolmentError, "64 hexadecimal digits"),
        ({"node_key": line}, EnrolmentError, "P-384"),
        ({"node_key": "ssh-rsa rubbish"}, EnrolmentError, "cannot be read"),
    ]:
        value = {"name": "A", "node_key": keys.public.node, "sealing_key": keys.public.sealing, **change}
        with pytest.raises(error, match=said):
            request.read_request(armour.wrap(request.KIND, signed_document.signed(request.KIND, value, keys.node)))


def test_both_keys_are_in_the_fingerprint(keys: NodeKeys, tmp_path: Path) -> None:
    other = NodeKeys.create(tmp_path / "001").public
    prints = {
        one.fingerprint for one in (keys.public, PublicKeys(keys.public.node, other.sealing), PublicKeys(other.node, keys.public.sealing))
    }
    assert len(prints) == 3


def test_a_bundle_opens_for_its_site_alone(keys: NodeKeys, authority: Authority, tmp_path: Path) -> None:
    sent = a_bundle(keys, authority)
    text = bundle.seal(sent, keys.public, authority)
    assert bundle.unseal(text, keys, authority.fingerprint) == sent
    with pytest.raises(UntrustedError, match="does not open with this site's key"):
        bundle.unseal(text, NodeKeys.create(tmp_path / "001"))
    assert b"fed.example" not in armour.unwrap(bundle.KIND, text)


def test_a_bundle_of_another_authority_is_refused(keys: NodeKeys, authority: Authority, tmp_path: Path) -> None:
    impostor = Authority.create(tmp_path, "north", NOW)
    theirs = bundle.seal(a_bundle(keys, impostor), keys.public, impostor)
    with pytest.raises(UntrustedError, match="on the phone"):
        bundle.unseal(theirs, keys, authority.fingerprint)
    claimed = bundle.seal(a_bundle(keys, authority), keys.public, impostor)  # names the true authority, signed by another key
    with pytest.raises(UntrustedError, match="not signed by the authority that it names"):
        bundle.unseal(claimed, keys)


def test_a_bundle_handed_on_by_another_site_is_refused(keys: NodeKeys, authority: Authority, tmp_path: Path) -> None:
    other = NodeKeys.create(tmp_path / "001")
    handed_on = bundle.seal(a_bundle(other, authority), keys.public, authority)  # another's document, sealed anew to this site
    with pytest.raises(UntrustedError, match="made for another site's keys"):
        bundle.unseal(handed_on, keys, authority.fingerprint)


def test_a_bundle_of_another_make_is_refused(keys: NodeKeys, authority: Authority) -> None:
    sent = a_bundle(keys, authority)
    for change in ({"number": 0}, {"number": True}, {"settings": 3}, {"policy": []}, {"address": None}, {"authority": "no certificate"}):
        with pytest.raises(EnrolmentError):
            bundle.unseal(bundle.seal(dataclasses.replace(sent, **change), keys.public, authority), keys)  # type: ignore[arg-type]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_changed_bundle_opens(keys: NodeKeys, authority: Authority, place: int, change: int) -> None:
    sealed = bytearray(armour.unwrap(bundle.KIND, bundle.seal(a_bundle(keys, authority), keys.public, authority)))
    sealed[place % len(sealed)] ^= change
    # RFC 7748 ignores the top bit of an X25519 public key, but HPKE binds the key as sent: no change is ignored
    with pytest.raises(UntrustedError):
        bundle.unseal(armour.wrap(bundle.KIND, bytes(sealed)), keys, authority.fingerprint)


@given(st.binary(max_size=300))
def test_rubbish_never_opens(keys: NodeKeys, rubbish: bytes) -> None:
    with pytest.raises(EnrolmentError):
        bundle.unseal(armour.wrap(bundle.KIND, rubbish), keys)
