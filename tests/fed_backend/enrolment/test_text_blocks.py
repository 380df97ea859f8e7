"""Blocks in mails, fingerprints on the phone, signed documents."""

import contextlib
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from fed_backend.enrolment import armour, signed_document
from fed_backend.enrolment.fingerprint import fingerprint, same_fingerprint
from fed_backend.errors import EnrolmentError, UntrustedError

KEY, OTHER = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
DOCUMENT = signed_document.signed("SITE REQUEST", {"name": "A"}, KEY)


@given(st.binary(max_size=600), st.sampled_from(["\n", "\r\n", "\n> ", "\n   "]), st.text(max_size=40))
def test_a_block_survives_mail(document: bytes, newline: str, around: str) -> None:
    block = armour.wrap("SITE REQUEST", document)
    assert max(map(len, block.splitlines())) <= 64
    assert armour.unwrap("SITE REQUEST", around + "\n" + block.replace("\n", newline) + around) == document


def test_blocks_that_cannot_be_read_are_refused_with_a_sentence() -> None:
    block = armour.wrap("SITE REQUEST", b"some bytes")
    for text, said in [
        ("", "holds 0 blocks"),
        (block + block, "holds 2 blocks"),
        (block.replace("END", "FIN"), "holds 0 blocks"),
        (block.replace("c29t", "c2?t"), "is damaged"),
        (armour.wrap("SITE BUNDLE", b"some bytes"), "holds 0 blocks of kind SITE REQUEST"),
        (block + " " * armour.MAX_TEXT, "at most"),
    ]:
        with pytest.raises(EnrolmentError, match=said):
            armour.unwrap("SITE REQUEST", text)


def test_a_fingerprint_is_half_of_sha256_in_groups() -> None:
    digits = hashlib.sha256(b"key").hexdigest()[:32].upper()
    assert fingerprint(b"key").replace(" ", "") == digits
    assert [len(group) for group in fingerprint(b"key").split(" ")] == [4] * 8


def test_fingerprints_are_compared_as_people_write_them_and_never_shortened() -> None:
    shown = fingerprint(b"key")
    assert same_fingerprint(shown.lower().replace(" ", ":"), shown)
    assert not same_fingerprint(shown[:-1], shown)
    assert not same_fingerprint("", "")
    assert not same_fingerprint(shown[:4], shown[:4])
    assert not same_fingerprint(fingerprint(b"kez"), shown)
    assert not same_fingerprint("é" * 32, shown)


def test_a_signature_holds_for_one_key_one_kind_and_these_bytes() -> None:
    document = signed_document.signed("SITE REQUEST", {"name": "A"}, KEY)
    assert signed_document.verified("SITE REQUEST", document, KEY.public_key(), "A")["name"] == "A"
    with pytest.raises(UntrustedError, match="not signed by A"):
        signed_document.verified("SITE REQUEST", document, OTHER.public_key(), "A")
    with pytest.raises(UntrustedError):
        signed_document.verified("SITE REQUEST", document.replace(b'\\"A\\"', b'\\"B\\"'), KEY.public_key(), "A")
    renamed = document.replace(b"SITE REQUEST", b"SITE BUNDLE")
    with pytest.raises(UntrustedError):
        signed_document.verified("SITE BUNDLE", renamed, KEY.public_key(), "A")
    with pytest.raises(EnrolmentError, match="expected a SITE BUNDLE"):
        signed_document.verified("SITE BUNDLE", document, KEY.public_key(), "A")
    newer = document.replace(b'\\"format\\":1', b'\\"format\\":2')
    with pytest.raises(EnrolmentError, match="format 2, this software knows 1"):
        signed_document.verified("SITE REQUEST", newer, KEY.public_key(), "A")


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_no_damaged_document_says_anything_else(place: int, change: int) -> None:
    document = bytearray(DOCUMENT)
    document[place % len(document)] ^= change
    said = "A"  # most changes are refused; the rest, in the writing of the outer JSON, must not change what is said
    with contextlib.suppress(EnrolmentError):
        said = signed_document.verified("SITE REQUEST", bytes(document), KEY.public_key(), "A")["name"]
    assert said == "A"


@given(
    st.binary(max_size=200) | st.sampled_from([b"[]", b"{}", b"[" * 100_000, b'{"body":1,"signature":2}', b'{"body":"[]","signature":""}'])
)
def test_rubbish_is_refused(document: bytes) -> None:
    with pytest.raises(EnrolmentError):
        signed_document.unverified("SITE REQUEST", document)
