"""`fedsca server init|start|check-config|now|pause|resume|status` with a configuration file, and `fedsca site status`."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fed_backend import launch, schema_cache
from fed_backend.cli import federation
from fed_backend.cli.federation import server_app, site_app
from fed_backend.enrolment.authority import Authority
from fed_backend.errors import ConfigurationError, ScheduleError, ServerStateError
from fed_backend.schedule import book as books
from fed_backend.schedule.configuration import load_configuration
from fed_backend.schedule.supervisor import LOCK_FILE
from sam_adapters.federation_news import FederationNews
from sam_adapters.file_lock import locked
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.fed_backend.toys import SCHEMA


class StartedError(Exception):
    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__()
        self.argv = list(argv)


@pytest.fixture(autouse=True)
def _no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(argv: Sequence[str], environment: Mapping[str, str]) -> None:
        raise StartedError(argv, environment)

    monkeypatch.setattr(federation, "_become", become)
    monkeypatch.setattr(schema_cache, "_read", lambda *_: SCHEMA)  # the layout, as if it had been worked out before: without torch
    monkeypatch.setenv("COLUMNS", "200")


def call(*arguments: str | Path, app: object = server_app) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def configured(folder: Path, text: str = "") -> Path:
    (folder / "federation.toml").write_text(text, encoding="utf-8")
    return folder / "federation.toml"


def test_init_writes_a_configuration_that_is_in_order_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    said = call("init", "--state", tmp_path / "s", "--host", "fed.example", "--port", "9500", "--name", 'north "1"').output
    file = tmp_path / "s" / "federation.toml"
    assert str(file) in said.replace("\n", "")
    found = load_configuration(file)
    assert (found.host, found.port, found.settings.federation, found.state) == ("0.0.0.0", 9500, 'north "1"', tmp_path / "s")  # noqa: S104
    assert Authority.load(tmp_path / "s").fingerprint in said
    (tmp_path / "t").mkdir()
    configured(tmp_path / "t", "# mine")
    call("init", "--state", tmp_path / "t", "--host", "fed.example")
    assert (tmp_path / "t" / "federation.toml").read_text(encoding="utf-8") == "# mine"


def test_start_becomes_the_supervisor_where_there_is_a_configuration(tmp_path: Path) -> None:
    file = configured(tmp_path)
    for arguments in (["--state", tmp_path], ["--config", file], ["--state", tmp_path, "--config", file]):
        with pytest.raises(StartedError) as started:
            call("start", *arguments)
        assert started.value.argv == [sys.executable, "-m", "fed_backend.schedule.supervisor", str(file)]


def test_the_operator_is_told_what_a_privacy_rule_leaves(tmp_path: Path) -> None:
    def said(file: Path) -> str:
        result = CliRunner().invoke(server_app, ["start", "--config", str(file)])
        assert isinstance(result.exception, StartedError)
        return result.output

    assert "privacy rule" not in said(configured(tmp_path))
    file = configured(tmp_path, "[privacy]\nnoise = 2.0\nclip = 4.0")
    assert "updates leave with norm 4 at most, and noise of norm 39.2 is added in 6 values: mostly noise leaves" in said(file)  # 16 √6


def test_no_config_starts_the_superlink_alone(tmp_path: Path) -> None:
    configured(tmp_path)
    port = launch.free_port()
    with pytest.raises(StartedError) as started:
        call("start", "--state", tmp_path, "--no-config", "--port", port)
    assert started.value.argv == launch.superlink_argv(port=port, database=tmp_path / "superlink.sqlite")


def test_what_stands_in_the_file_cannot_be_given_beside_it(tmp_path: Path) -> None:
    file = configured(tmp_path)
    with pytest.raises(ConfigurationError, match="--min-sites, --port cannot be given"):
        call("start", "--state", tmp_path, "--port", "9500", "--min-sites", "3")
    with pytest.raises(ConfigurationError, match="give --state, or --config"):
        call("start")
    with pytest.raises(ConfigurationError, match="give one of them"):
        call("start", "--config", file, "--no-config")
    with pytest.raises(ConfigurationError, match="leave --state out"):
        call("start", "--config", file, "--state", tmp_path / "another")
    configured(tmp_path, "[rounds]\nmin_sites = 0")
    with pytest.raises(ConfigurationError, match="line 2: min_sites is 0"):
        call("start", "--state", tmp_path)


def test_start_refuses_a_state_of_another_layout(tmp_path: Path) -> None:
    (tmp_path / "server.safetensors").write_bytes(b"damaged")
    configured(tmp_path)
    with pytest.raises(ServerStateError, match="damaged"):
        call("start", "--state", tmp_path)


def test_check_config_names_mistakes_and_prints_due_times(tmp_path: Path) -> None:
    file = configured(tmp_path, '[schedule]\ncron = "0 2 * * *"\ntime_zone = "Europe/Berlin"')
    assert call("check-config", file, "--times", "3").output.count(" 02:00 CE") == 3
    assert "is in order" in call("check-config", "--state", tmp_path).output
    assert "Nothing is scheduled" in call("check-config", configured(tmp_path)).output
    with pytest.raises(ConfigurationError, match="line 1: nmae is no key"):
        call("check-config", configured(tmp_path, "federation.nmae = 1"))


def test_pause_now_and_resume_change_the_book_and_are_logged(tmp_path: Path) -> None:
    call("pause", "--state", tmp_path, "--reason", "Holidays.")
    with pytest.raises(ScheduleError, match="No supervised server runs"):
        call("now", "--state", tmp_path)
    with locked(tmp_path / LOCK_FILE):
        call("now", "--state", tmp_path)
    book = books.load(tmp_path)
    assert book.paused is not None
    assert book.asked is not None
    call("resume", "--state", tmp_path)
    assert books.load(tmp_path).paused is None
    events = [json.loads(line)["event"] for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert events == ["schedule_paused", "round_asked", "schedule_resumed"]


def test_waiting_for_a_round_has_a_deadline_and_tells_what_came_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with locked(tmp_path / LOCK_FILE):
        with pytest.raises(ScheduleError, match=r"has not ended after 0\.01 s"):
            call("now", "--state", tmp_path, "--wait", "0.01")
        monkeypatch.setattr(books.Book, "ask", lambda book, now, by: book.begin(1, "asked", None, now).end("given up", "No luck.", moment))
        books.edit(tmp_path, lambda _: books.Book())
        with pytest.raises(ScheduleError, match=r"Round 1 was given up: No luck\."):
            call("now", "--state", tmp_path, "--wait", "30")


def test_status_tells_schedule_and_certificates(tmp_path: Path) -> None:
    call("init", "--state", tmp_path, "--host", "fed.example", "--name", "north")
    due = datetime.now(UTC) + timedelta(hours=3)
    books.edit(tmp_path, lambda book: book.plan(due).begin(4, "schedule", due, due).try_again())
    output = call("status", "--state", tmp_path).output
    assert "No supervised server runs here" in output
    assert "Round 4 runs since" in output
    assert "attempt 2" in output
    assert "The certificate of the server is good for" in output
    with locked(tmp_path / LOCK_FILE):
        assert f"Next round: {due.astimezone():%Y-%m-%d %H:%M}." in call("status", "--state", tmp_path).output
        books.edit(tmp_path, lambda book: book.end("skipped", "Too few.", due).pause(due, "Kim", "Holidays."))
        output = call("status", "--state", tmp_path).output
        assert "by Kim. Holidays." in output
        assert "round 4, skipped" in output
        told = json.loads(call("status", "--state", tmp_path, "--json").output)
    assert (told["federation"], told["supervised"], told["schedule"]["paused"]["by"]) == ("north", True, "Kim")
    assert {life["what"] for life in told["certificates"]} == {"server", "authority"}


def test_a_site_tells_when_its_server_was_heard_and_the_next_round(tmp_path: Path) -> None:
    site = SiteDirectory.open(tmp_path / "site")
    SiteSettings(name="clinic-A").save(site.settings_file)
    assert "Nothing was heard" in call("status", "--site", site.root, app=site_app).output
    due = datetime.now(UTC) + timedelta(hours=3)
    FederationNews("north", 7, "2026-01-01T11:00:00+00:00", due.isoformat()).save(site)
    output = call("status", "--site", site.root, app=site_app).output
    assert "in round 7, next round " + f"{due.astimezone():%Y-%m-%d %H:%M}" in output
