"""`fedsca audit`: what it says, and its exit code."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fed_backend.audit_anchors import server_log
from fed_backend.cli.audit import audit_app
from sam_adapters.audit import AuditLog
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

runner = CliRunner()


@pytest.fixture(name="site")
def _site(tmp_path: Path) -> SiteDirectory:
    site = SiteDirectory.open(tmp_path / "site")
    SiteSettings(name="A").save(site.settings_file)
    for who in ("anna", "bert", "cleo"):
        AuditLog(site.audit_file).record("login", who=who)
    return site


def said(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(audit_app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.output.split())


def test_a_whole_log(site: SiteDirectory) -> None:
    code, text = said("verify", "--site", site.root)
    head = AuditLog(site.audit_file).head()
    assert (code, f"3 lines, all as written. Head: {head}" in text) == (0, True)
    assert said("head", "--site", site.root) == (0, head)


def test_an_altered_line_is_named(site: SiteDirectory) -> None:
    site.audit_file.write_bytes(site.audit_file.read_bytes().replace(b"bert", b"Bert"))
    code, text = said("verify", "--site", site.root)
    assert (code, "Line 2 does not fit the lines above it" in text) == (1, True)


def test_a_cut_log_is_found_with_the_other_sides_log(site: SiteDirectory, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    head = AuditLog(site.audit_file).head()
    server_log(state).record("site_anchor", site="A", anchor=head, round=1)
    server_log(state).record("site_anchor", site="B", anchor="d" * 64, round=1)  # another site's: not looked for here
    told = ("--told", state / "audit.jsonl")
    assert said("verify", "--site", site.root, *told)[0] == 0
    site.audit_file.write_bytes(b"".join(site.audit_file.read_bytes().splitlines(keepends=True)[:2]))
    assert said("verify", "--site", site.root)[0] == 0
    code, text = said("verify", "--site", site.root, *told)
    assert (code, "1 of 1 chain values that were told are no longer in it" in text) == (1, True)
    assert said("verify", "--site", site.root, "--anchor", head)[0] == 1
    assert said("verify", "--state", state)[0] == 0


def test_older_lines_are_said(site: SiteDirectory) -> None:
    site.audit_file.write_bytes(b'{"event":"login"}\n')
    assert "none with a chain" in said("verify", "--site", site.root)[1]
    AuditLog(site.audit_file).record("login")
    code, text = said("verify", "--site", site.root)
    assert (code, "The chain begins at line 2" in text) == (0, True)


@pytest.mark.parametrize("arguments", [[], ["--site", "a", "--state", "b"], ["--site", "a", "--anchor", "xyz"]])
def test_arguments_that_make_no_sense(arguments: list[str]) -> None:
    assert said("verify", *arguments)[0] == 2
