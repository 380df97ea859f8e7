"""`fedsca server users` and `fedsca server page`."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fed_backend.cli.federation import server_app
from fed_backend.errors import LaunchError
from fed_backend.page.page_options import USERS_FILE
from sam_adapters.errors import UserFileError
from sam_adapters.login import passwords
from sam_adapters.login.user_file import UserFile

PHRASE = "a long virtual phrase"


def run(*arguments: str, text: str = "") -> str:
    result = CliRunner().invoke(server_app, list(arguments), input=text)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_users_are_added_changed_listed_and_removed(tmp_path: Path) -> None:
    state = ("--state", str(tmp_path))
    run("users", "add", "Olga", *state, text=PHRASE + "\n")
    run("users", "add", "jan", *state, text=PHRASE + "\n")
    assert run("users", "list", *state).split() == ["jan", "olga"]
    run("users", "password", "olga", *state, text="another long phrase\n")
    run("users", "remove", "jan", *state)
    kept = UserFile(tmp_path / USERS_FILE).table().users
    assert list(kept) == ["olga"]
    assert passwords.matches(kept["olga"].password, "another long phrase")
    assert stat.S_IMODE((tmp_path / USERS_FILE).stat().st_mode) == 0o600
    text = (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    events = [json.loads(one)["event"] for one in text.splitlines()]
    assert events == ["page_user_added", "page_user_added", "page_password_changed", "page_user_removed"]
    assert "phrase" not in text
    with pytest.raises(UserFileError, match="fedsca server users list"):
        run("users", "remove", "jan", *state)


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="There is no folder"):
        run("page", "--state", str(tmp_path / "none"))
    with pytest.raises(LaunchError, match="--ssl-cert and --ssl-key"):
        run("page", "--state", str(tmp_path), "--host", "192.0.2.1")
    with pytest.raises(LaunchError, match="1 to 1440"):
        run("page", "--state", str(tmp_path), "--minutes", "0")
    with pytest.raises(LaunchError, match="There is no folder"):
        run("users", "list", "--state", str(tmp_path / "none"))
