"""The user file and its tokens: what is taken, who may read it, when a token ends."""

import asyncio
import json
import stat
import threading
from pathlib import Path

import jwt
import pytest

from sam_adapters.errors import AuthorityError, CredentialsError, UserFileError
from sam_adapters.login import passwords
from sam_adapters.login.authority import SignedIn
from sam_adapters.login.user_file import ROLES, UserFile, implied_roles
from sam_adapters.login.user_file_login import UserFileLogin

PHRASE = "correct horse battery"
HASH = passwords.hashed(PHRASE)
ROLE_NAMES = {role: f"monailabel-{role}" for role in ROLES}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    made = UserFile(tmp_path / "site" / "users.json")
    made.add("Anna", HASH, ["annotator"])
    return made


def who(login: UserFileLogin, token: str) -> SignedIn:
    return asyncio.run(login.signed_in(token))


def token_of(login: UserFileLogin, name: str = "anna") -> str:
    return str(login.token(name, PHRASE)["access_token"])


def test_the_file_is_private_and_holds_no_password(file: UserFile) -> None:
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert PHRASE not in file.path.read_text(encoding="utf-8")
    assert file.table().users["anna"].password.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_file_that_others_may_read_is_refused(file: UserFile) -> None:
    file.path.chmod(0o640)
    with pytest.raises(UserFileError, match="chmod 600"):
        file.table()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": 2}', b'{"format": 1, "secret": "ab", "users": {}}', b"\xff"])
def test_a_damaged_file_lets_nobody_in(file: UserFile, content: bytes) -> None:
    login = UserFileLogin(file, ROLE_NAMES)
    token = token_of(login)
    file.path.write_bytes(content)
    with pytest.raises(UserFileError, match="damaged"):
        file.table()
    with pytest.raises(AuthorityError, match="cannot be read"):
        who(login, token)
    with pytest.raises(AuthorityError):
        login.token("anna", PHRASE)


def test_names_and_roles_are_checked(file: UserFile) -> None:
    for name in ("", "a b", "-a", "a" * 65, "ä", "a\n"):
        with pytest.raises(UserFileError, match="User name"):
            file.add(name.replace("a\n", "a\nb"), HASH, ["user"])
    with pytest.raises(UserFileError, match="Roles 'root'"):
        file.add("bert", HASH, ["root"])
    with pytest.raises(UserFileError, match="already"):
        file.add("ANNA", HASH, ["user"])
    with pytest.raises(UserFileError, match="no user bert"):
        file.remove("bert")


def test_a_role_has_what_is_below_it() -> None:
    assert implied_roles(["admin"]) == ("user", "annotator", "reviewer", "admin")
    assert implied_roles(["annotator"]) == ("user", "annotator")
    assert implied_roles([]) == ()


@pytest.mark.parametrize("password", ["short", "x" * 257, "with a \n line break", "anna anna an", ""])
def test_weak_passwords_are_refused_and_not_shown(password: str) -> None:
    with pytest.raises(UserFileError) as refused:
        passwords.checked_password(password, "anna")
    assert not password or password not in str(refused.value)


def test_a_password_is_the_same_on_every_keyboard() -> None:
    kept = passwords.hashed(passwords.checked_password("Gru\u0308ne Wiese 12", "anna"))
    assert passwords.matches(kept, "Gr\u00fcne Wiese 12")
    assert not passwords.matches(kept, "Grune Wiese 12")
    assert not passwords.matches(None, "nobody has this password")
    assert not passwords.matches("no hash", "Grune Wiese 12")


def test_many_changes_at_once_are_all_kept(file: UserFile) -> None:
    threads = [threading.Thread(target=UserFile(file.path).add, args=(f"u{number}", HASH, ["user"])) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(file.table().users) == {"anna", *(f"u{number}" for number in range(8))}


def test_a_token_says_who_and_nothing_secret(file: UserFile) -> None:
    login = UserFileLogin(file, ROLE_NAMES)
    token = token_of(login)
    assert who(login, token) == SignedIn("anna", ("monailabel-user", "monailabel-annotator"))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert set(claims) == {"iss", "sub", "credential", "iat", "exp"}


def test_a_token_ends_in_time(file: UserFile) -> None:
    clock = Clock()
    login = UserFileLogin(file, ROLE_NAMES, minutes=30, clock=clock)
    token = token_of(login)
    clock.now += 30 * 60 - 1
    assert who(login, token).username == "anna"
    clock.now += 1
    with pytest.raises(CredentialsError, match="expired"):
        who(login, token)


def test_a_token_ends_with_its_user_or_password_and_follows_the_roles(file: UserFile) -> None:
    login, office = UserFileLogin(file, ROLE_NAMES), UserFile(file.path)
    token = token_of(login)
    office.set_roles("anna", ["user"])
    assert who(login, token).roles == ("monailabel-user",)
    office.set_password("anna", HASH)
    with pytest.raises(CredentialsError, match="no longer valid"):
        who(login, token)
    token = token_of(login)
    office.remove("anna")
    office.add("anna", HASH, ["admin"])  # another person of that name
    with pytest.raises(CredentialsError, match="no longer valid"):
        who(login, token)


def test_tokens_of_other_making_are_refused(file: UserFile) -> None:
    login = UserFileLogin(file, ROLE_NAMES)
    claims = jwt.decode(token_of(login), options={"verify_signature": False})
    secret = bytes.fromhex(json.loads(file.path.read_text(encoding="utf-8"))["secret"])
    forged = [
        jwt.encode(claims, "x" * 32, algorithm="HS256"),
        jwt.encode(claims, None, algorithm="none"),
        jwt.encode(claims, secret * 2, algorithm="HS512"),
        jwt.encode({**claims, "iss": "other"}, secret, algorithm="HS256"),
        jwt.encode({key: value for key, value in claims.items() if key != "exp"}, secret, algorithm="HS256"),
        jwt.encode({**claims, "exp": "9999999999"}, secret, algorithm="HS256"),
        jwt.encode({**claims, "sub": "bert"}, secret, algorithm="HS256"),
        "a.b.c",
        "",
        "x" * 5000,
    ]
    for token in forged:
        with pytest.raises(CredentialsError):
            who(login, token)
    assert who(login, jwt.encode(claims, secret, algorithm="HS256")).username == "anna"


def test_wrong_and_unknown_are_told_alike(file: UserFile) -> None:
    login = UserFileLogin(file, ROLE_NAMES)
    sentences = set()
    for name, password in (("anna", "wrong wrong wrong"), ("nobody", PHRASE), ("", "")):
        with pytest.raises(CredentialsError) as refused:
            login.token(name, password)
        sentences.add(str(refused.value))
    assert sentences == {"User name or password is not right."}
    assert login.known_name("ANNA ") == "anna"
    assert login.known_name(PHRASE) == "(unknown)"


def test_an_unknown_user_costs_a_hash_too(file: UserFile, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(passwords, "matches", lambda kept, _password: bool(asked.append(kept)))
    login = UserFileLogin(file, ROLE_NAMES)
    for name in ("anna", "nobody"):
        with pytest.raises(CredentialsError):
            login.token(name, PHRASE)
    assert asked == [HASH, None]
