"""Tokens of a Keycloak-style realm: which are believed, and what happens when keys change or the realm falls silent."""

import asyncio
from collections.abc import Iterator

import pytest

from monailabel_app.realm_keys import FRESH_SECONDS, KEPT_SECONDS, PAUSE_SECONDS, RealmKeys
from monailabel_app.realm_login import RealmLogin, TokenFields
from sam_adapters.errors import AuthorityError, CredentialsError
from sam_adapters.login.authority import SignedIn
from tests.monailabel_app.fake_realm import PHRASE, FakeRealm, new_key, running_realm

ANNA = SignedIn("anna", ("monailabel-user", "monailabel-annotator"), None, "Anna A.")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def realm() -> Iterator[FakeRealm]:
    with running_realm() as running:
        yield running


def login_at(realm: FakeRealm, clock: Clock | None = None) -> RealmLogin:
    return RealmLogin(RealmKeys(realm.url, deadline=10, clock=clock or Clock()), "monailabel-app", TokenFields(), deadline=10)


def who(login: RealmLogin, token: str) -> SignedIn:
    return asyncio.run(login.signed_in(token))


def refused(login: RealmLogin, token: str) -> bool:
    try:
        who(login, token)
    except CredentialsError:
        return True
    return False


@pytest.mark.parametrize("discovery", [True, False])
def test_a_token_of_the_realm_is_believed(realm: FakeRealm, discovery: bool) -> None:
    realm.discovery = discovery
    login = login_at(realm)
    assert who(login, realm.token()) == ANNA
    assert who(login, realm.token(kid=None)) == ANNA
    assert who(login, realm.token(realm_access=None)).roles == ()
    assert who(login, realm.token(realm_access={"roles": "monailabel-admin"})).roles == ()


@pytest.mark.parametrize("discovery", [True, False])
def test_all_others_are_refused(realm: FakeRealm, discovery: bool) -> None:
    realm.discovery = discovery
    login = login_at(realm)
    forged = {
        "expired": realm.token(exp=1_700_000_000),
        "no expiry": realm.token(exp=None),
        "not yet": realm.token(nbf=4_000_000_000),
        "unsigned": realm.token(key="", algorithm="none"),
        "public key as secret": realm.token(key=b"0" * 32 + realm.public_pem().replace(b"-", b""), algorithm="HS256"),
        "another algorithm of the right key": realm.token(key=realm.key, algorithm="RS512"),
        "another key": realm.token(key=new_key()),
        "another key by name": realm.token(key=new_key(), kid="other"),
        "nobody": realm.token(preferred_username=None),
        "no text": realm.token(preferred_username=7),
        "control characters": realm.token(preferred_username="anna\n"),
        "identity token": realm.token(typ="ID"),
        "no token": "abc",
    }
    if discovery:
        forged["another realm"] = realm.token(iss="http://127.0.0.1/realms/other")
    believed = [what for what, token in forged.items() if not refused(login, token)]
    assert believed == []


def test_made_up_keys_do_not_become_requests(realm: FakeRealm) -> None:
    clock = Clock()
    login = login_at(realm, clock)
    who(login, realm.token())
    before = len(realm.asked)
    for number in range(5):
        with pytest.raises(CredentialsError):
            who(login, realm.token(kid=f"made-up-{number}"))
    assert len(realm.asked) == before


def test_a_new_key_is_fetched_and_the_old_one_ends(realm: FakeRealm) -> None:
    clock = Clock()
    login = login_at(realm, clock)
    old = realm.token()
    assert who(login, old) == ANNA
    realm.key, realm.kid = new_key(), "second"
    clock.now += PAUSE_SECONDS
    assert who(login, realm.token()) == ANNA
    with pytest.raises(CredentialsError):
        who(login, old)


def test_a_realm_that_falls_silent_is_believed_for_a_while(realm: FakeRealm) -> None:
    clock = Clock()
    login = login_at(realm, clock)
    token = realm.token()
    assert who(login, token) == ANNA
    realm.broken = True
    clock.now += FRESH_SECONDS + 1
    assert who(login, token) == ANNA
    clock.now += KEPT_SECONDS
    with pytest.raises(AuthorityError, match="does not answer"):
        who(login, token)
    realm.broken = False
    clock.now += PAUSE_SECONDS
    assert who(login, token) == ANNA


def test_a_realm_that_never_answered(realm: FakeRealm) -> None:
    realm.broken = True
    login = login_at(realm)
    for _ in range(2):
        with pytest.raises(AuthorityError):
            who(login, realm.token())
        with pytest.raises(AuthorityError):
            login.token("anna", PHRASE)


def test_passwords_are_handed_to_the_realm(realm: FakeRealm) -> None:
    login = login_at(realm)
    reply = login.token("anna", PHRASE)
    assert (reply["token_type"], reply["expires_in"]) == ("bearer", 600)
    assert who(login, str(reply["access_token"])) == ANNA
    with pytest.raises(CredentialsError, match="not right"):
        login.token("anna", "wrong")
    realm.broken = True
    with pytest.raises(AuthorityError):
        login.token("anna", PHRASE)
