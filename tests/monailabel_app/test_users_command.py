"""`fedsca users`: as an administrator types it."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from monailabel_app import users
from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile

Run = Callable[..., tuple[int, str, str]]
PHRASE = "correct horse battery"


class Typed(io.StringIO):
    """The standard input; no terminal unless a test says so."""


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `fedsca users` in this process, with lines on the standard input: exit code, output, errors."""

    def run(*arguments: str, typed: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", Typed(typed))
        code = users.main([*arguments, "--users", str(tmp_path / "users.json")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_users_life(run: Run, tmp_path: Path) -> None:
    file = UserFile(tmp_path / "users.json")
    assert run("add", "Anna", typed=PHRASE + "\n") == (0, "", "")
    assert run("add", "bert", "--role", "admin", typed=PHRASE + "\n")[0] == 0
    assert run("list")[1].splitlines() == [f"{'anna':<24} user annotator", f"{'bert':<24} user annotator reviewer admin"]
    assert passwords.matches(file.table().users["anna"].password, PHRASE)
    assert run("password", "anna", typed="another long phrase\n")[0] == 0
    assert passwords.matches(file.table().users["anna"].password, "another long phrase")
    assert run("roles", "anna", "--role", "reviewer")[0] == 0
    assert run("remove", "bert")[0] == 0
    assert run("list")[1] == f"{'anna':<24} user annotator reviewer\n"
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["event"], line["user"]) for line in lines] == [
        ("user_added", "anna"),
        ("user_added", "bert"),
        ("password_changed", "anna"),
        ("roles_changed", "anna"),
        ("user_removed", "bert"),
    ]
    assert all(line["who"] for line in lines)
    everything = "".join(path.read_text(encoding="utf-8") for path in tmp_path.iterdir())
    assert PHRASE not in everything
    assert "another long phrase" not in everything


def test_refusals_are_sentences(run: Run) -> None:
    code, _, errors = run("add", "anna", typed="short\n")
    assert (code, errors) == (2, "fedsca: The password cannot be used: expected 12 to 256 characters on one line.\n")
    code, _, errors = run("add", "anna")
    assert code == 2
    assert "cannot be read" in run("list")[2]
    run("add", "anna", typed=PHRASE)
    assert "There is a user anna already" in run("add", "anna", typed=PHRASE)[2]
    assert "no user bert" in run("password", "bert", typed=PHRASE)[2]
    assert "no user bert" in run("remove", "bert")[2]


def test_a_password_is_never_taken_from_the_command_line(run: Run) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("add", "anna", PHRASE)
    assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        run("add", "anna", "--password", PHRASE)


def test_at_a_terminal_it_is_asked_for_twice(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([PHRASE, PHRASE + "x", PHRASE, PHRASE])
    monkeypatch.setattr("getpass.getpass", lambda _prompt: next(answers))
    monkeypatch.setattr(Typed, "isatty", lambda _self: True)
    assert "differ" in run("add", "anna")[2]
    assert run("add", "anna")[0] == 0
    assert passwords.matches(UserFile(tmp_path / "users.json").table().users["anna"].password, PHRASE)
