"""Rounds, sites and words: what is taken from the files, and what of a damaged one."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fed_backend.errors import LaunchError, RoundError
from fed_backend.page import wording
from fed_backend.page.metrics import exposition
from fed_backend.page.page_options import PageOptions, read_token
from fed_backend.page.round_facts import parse_round
from fed_backend.page.site_facts import site_facts
from fed_backend.page.state_reader import StateReader
from fed_backend.page.view import WINDOW, evenly, page_context, window_of
from tests.fed_backend.page.round_files import facts, line, report, verdict
from tests.fed_backend.page.virtual_federation import NEXT, ROUNDS, make_state_folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_state_folder(tmp_path_factory.mktemp("virtual") / "state")


@pytest.mark.parametrize(
    "changes",
    [
        {"sites": 5},
        {"sites": {"A": {"cases": -1}}},
        {"sites": {"A": {"cases": True}}},
        {"status": "done"},
        {"weights": {"A": {"B": 7.0}}},
        {"weights": {"A": {"B": float("nan")}}},
        {"givers": ["A"], "distance": [[0.0, 1.0]]},
        {"started": "yesterday"},
        {"bytes": {"A": {"update": 10**400}}},
        {"refusals": [{"site": 1, "phase": "update", "reason": ""}]},
        {"verdicts": []},
        {"round": "1"},
    ],
)
def test_reports_built_otherwise_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RoundError, match="not built as expected"):
        parse_round(report(**changes))


@pytest.mark.parametrize("overall", [None, 3, {}, {"active": "0.5"}, {"active": 1.5, "candidate": True, "base": float("inf")}])
def test_a_sites_figures_that_are_no_dice_are_left_out(overall: object) -> None:
    one = facts(verdicts={"A": {**verdict("promoted", 0, 0, 0), "figures": {"overall": overall}}})
    assert one.verdicts["A"].dice.before is None
    assert one.verdicts["A"].after is None


def test_damaged_files_are_skipped_and_told(tmp_path: Path) -> None:
    folder = make_state_folder(tmp_path / "state", rounds=3)
    rounds = folder / "rounds"
    (rounds / "round-0002.json").write_text('{"format": 1, "round"', encoding="utf-8")
    (rounds / "round-0004.json").write_text(json.dumps(report(3)), encoding="utf-8")
    (rounds / "round-0005.json").write_text("[" * 100_000, encoding="utf-8")
    (folder / "schedule.json").write_text("[]", encoding="utf-8")
    (folder / "server.safetensors").write_bytes(b"no state")
    (folder / "federation.json").write_text('{"rank": "many"}', encoding="utf-8")
    reader = StateReader(folder)
    found = reader.read()
    assert [one.number for one in found.rounds] == [1, 3]
    assert found.damaged == 3
    told = "\n".join(found.problems)
    for name in ("round-0002.json", "round-0004.json", "round-0005.json", "schedule.json", "server.safetensors", "federation.json"):
        assert name in told
    (rounds / "round-0002.json").write_text(json.dumps(report(2)), encoding="utf-8")
    assert [one.number for one in reader.read().rounds] == [1, 2, 3], "a file that was mended is read again"


def test_an_empty_folder_is_a_page_too(tmp_path: Path) -> None:
    found = StateReader(tmp_path).read()
    context = page_context(found, NEXT, until=None, chosen=7, who="olga")
    assert (found.rounds, found.sites, context["timeline"], context["matrices"]) == ((), (), None, None)
    assert b"fedsca_sites 0.0" in exposition(found)


def test_many_may_read_at_once(state: Path) -> None:
    reader, found = StateReader(state), []
    threads = [threading.Thread(target=lambda: found.append(len(reader.read().rounds))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [ROUNDS] * 6


def test_sites_lines(state: Path) -> None:
    found = StateReader(state).read()
    lines = {site.name: site for site in site_facts(found)}
    assert list(lines) == ["Alder", "Birch", "Cedar", "Dogwood", "Elm"]
    assert (lines["Alder"].missed, lines["Alder"].freshness, lines["Alder"].cases) == (0, "fresh", 24 + ROUNDS)
    assert (lines["Dogwood"].last_round, lines["Dogwood"].missed, lines["Dogwood"].freshness) == (11, ROUNDS - 11, "stale")
    assert lines["Birch"].refusals == 1
    assert lines["Cedar"].privacy is None
    assert lines["Alder"].privacy == (pytest.approx(0.35 * ROUNDS**0.5, abs=1e-3), 1e-5)
    assert found.next_round == NEXT


def test_the_window_of_rounds() -> None:
    rounds = [facts(number) for number in range(1, 71)]
    assert [window_of(rounds, None)[0].number, window_of(rounds, None)[-1].number] == [71 - WINDOW, 70]
    assert [one.number for one in window_of(rounds, 2)] == [1, 2]
    assert [one.number for one in window_of(rounds, 0)] == [1]
    assert evenly(range(100), 3) == [0, 50, 99]
    assert evenly([1, 2], 3) == [1, 2]


def test_metrics_can_be_read_by_prometheus(state: Path) -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(StateReader(state).read()).decode())}
    rounds = {sample.labels["status"]: sample.value for sample in families["fedsca_rounds"].samples}
    assert rounds == {"finished": ROUNDS - 1, "skipped": 1}
    assert families["fedsca_rounds"].type == "counter"
    assert families["fedsca_last_round"].samples[0].value == ROUNDS
    assert families["fedsca_next_round_timestamp_seconds"].samples[0].value == NEXT.timestamp()
    sent = [sample for sample in families["fedsca_site_payload_bytes"].samples if sample.labels["direction"] == "sent"]
    assert {sample.labels["kind"] for sample in sent} == {"update", "probe_reply"}
    assert all(sample.name == "fedsca_site_payload_bytes_total" for sample in sent)
    dice = {(sample.labels["site"], sample.labels["version"]): sample.value for sample in families["fedsca_site_dice_ratio"].samples}
    assert dice["Alder", "base"] == 0.71


def test_hostile_names_do_not_break_the_metrics() -> None:
    name = 'a"} 1\nfedsca_rounds_total 9\\'
    found = StateReader(Path("/nonexistent-state")).read()
    one = facts(sites={name: line()})
    text = exposition(type(found)(**{**vars(found), "rounds": (one,)})).decode()
    cases = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fedsca_site_training_cases"
    ]
    assert [sample.labels["site"] for sample in cases] == [name]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.25, "0.2 s"), (59, "59 s"), (100, "1 min 40 s"), (3600, "1 h"), (3725, "1 h 2 min"), (90_000, "1 d 1 h")]
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert wording.span(seconds) == words


def test_words() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert wording.ago(None, now) == "never"
    assert wording.ago(now - timedelta(seconds=20), now) == "just now"
    assert wording.ago(now - timedelta(minutes=125, seconds=7), now) == "2 h 5 min ago"
    assert wording.ago(now + timedelta(days=1, hours=3), now) == "in 1 d 3 h"
    assert [wording.size(count) for count in (12, 1500, 105_984, 2.5e9)] == ["12 B", "1.5 kB", "106 kB", "2.5 GB"]
    assert [wording.figure(value) for value in (0, 0.5, 0.0123, 0.0051, 1e-5, 1.456, 12345)] == [
        "0", "0.50", "0.01", "0.005", "1e-5", "1.46", "1e4"
    ]  # fmt: skip
    assert wording.short("a\u202eb\x1b" + "c" * 20, 6) == "a\ufffdb\ufffdc…"


def test_another_address_demands_tls(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="--ssl-cert and --ssl-key"):
        PageOptions(tmp_path, "0.0.0.0")  # noqa: S104 - it is refused
    with pytest.raises(LaunchError, match="TLS needs both"):
        PageOptions(tmp_path, certificate=tmp_path / "cert.pem")
    assert PageOptions(tmp_path, "::1").url == "http://[::1]:9190/"
    assert PageOptions(tmp_path, "page.example", certificate=tmp_path / "c", key=tmp_path / "k").url == "https://page.example:9190/"


def test_the_metrics_token_is_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("f" * 64 + "\n", encoding="utf-8")
    path.chmod(0o644)
    with pytest.raises(LaunchError, match="chmod 600"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path) == "f" * 64
    path.write_text("short", encoding="utf-8")
    with pytest.raises(LaunchError, match="32 characters"):
        read_token(path)
    with pytest.raises(LaunchError, match="cannot be read"):
        read_token(tmp_path / "none")
    assert read_token(None) == ""
