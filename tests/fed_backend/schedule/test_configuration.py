"""federation.toml: what it means, and that every mistake is named with its line."""

import dataclasses
import datetime
from pathlib import Path

import pytest

from fed_backend.errors import ConfigurationError
from fed_backend.launch import ServerTls
from fed_backend.run_config import FederationSettings
from fed_backend.schedule.agreed_keys import abouts, place_of
from fed_backend.schedule.blackout import WeeklyBlackout
from fed_backend.schedule.configuration import load_configuration
from fed_backend.schedule.example import example
from fed_backend.schedule.server_keys import all_keys
from fed_backend.schedule.toml_lines import key_lines

REPOSITORY = Path(__file__).parents[3]


def written(folder: Path, text: str) -> Path:
    path = folder / "federation.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as raised:
        load_configuration(written(folder, text))
    return str(raised.value)


def test_the_example_is_in_order_and_says_the_defaults(tmp_path: Path) -> None:
    found = load_configuration(written(tmp_path, example()))
    assert found.settings == FederationSettings()
    assert found == dataclasses.replace(load_configuration(written(tmp_path, "")), path=found.path)
    assert (found.state, found.host, found.tls, found.catch_up) == (tmp_path, "127.0.0.1", None, datetime.timedelta(hours=12))
    assert found.page is not None
    assert (found.page.host, found.page.port) == ("127.0.0.1", 9190)


def test_a_file_of_before_the_decoder_could_be_shared_means_what_it_meant(tmp_path: Path) -> None:
    older = "\n".join(line for line in example().splitlines() if not line.startswith("shared_decoder"))
    assert load_configuration(written(tmp_path, example())).settings.shared_decoder
    assert not load_configuration(written(tmp_path, older)).settings.shared_decoder


def test_the_deployed_example_is_the_one_that_init_writes() -> None:
    assert (REPOSITORY / "deploy" / "federation.example.toml").read_text(encoding="utf-8") == example()


def test_the_commented_blackouts_are_in_order_too(tmp_path: Path) -> None:
    lines = example().splitlines()
    first = next(index for index, line in enumerate(lines) if "[[schedule.blackout]]" in line)
    last = next(index for index, line in enumerate(lines) if "2026-12-27" in line)
    lines[first : last + 1] = [line.removeprefix("# ").removeprefix("#") for line in lines[first : last + 1]]
    found = load_configuration(written(tmp_path, "\n".join(lines)))
    assert len(found.timetable.blackouts) == 2
    assert found.timetable.blackouts[0] == WeeklyBlackout(frozenset(range(5)), datetime.time(7), datetime.time(19))


def test_every_setting_of_the_federation_has_a_key_and_a_word() -> None:
    fields = {field.name for field in dataclasses.fields(FederationSettings)}
    assert {key.field for key in all_keys() if key.field} == fields
    assert set(abouts()) == fields
    assert all(key.about for key in all_keys())
    assert len({(key.section, key.name) for key in all_keys()}) == len(all_keys())
    assert [place_of(name) for name in ("federation", "rank", "min_sites", "privacy_noise")] == [
        *(("federation", "name"), ("federation", "rank"), ("rounds", "min_sites"), ("privacy", "noise"))
    ]


def test_values_are_taken(tmp_path: Path) -> None:
    for name in ("ca.pem", "server.pem", "server.key", "token"):
        (tmp_path / name).touch()
    text = """
[federation]
name = "north"
rank = 4
[rounds]
join_seconds = 90
[privacy]
noise = 1.5
[schedule]
cron = "30 2 * * sun"
time_zone = "Europe/Berlin"
catch_up_hours = 0
[[schedule.blackout]]
from = 07:00:00
until = 19:00:00
[server]
state = "kept"
host = "0.0.0.0"
port = 9500
ssl_ca = "ca.pem"
ssl_cert = "server.pem"
ssl_key = "server.key"
[page]
metrics_token = "token"
"""
    found = load_configuration(written(tmp_path, text))
    assert found.settings == FederationSettings(federation="north", rank=4, join_seconds=90.0, privacy_noise=1.5)
    assert found.state == tmp_path / "kept"
    assert found.tls == ServerTls(tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key")
    assert (found.port, found.page_token, found.catch_up) == (9500, tmp_path / "token", datetime.timedelta())
    moment = datetime.datetime(2026, 7, 1, tzinfo=datetime.UTC)
    assert found.timetable.next_after(moment) == datetime.datetime(2026, 7, 5, 0, 30, tzinfo=datetime.UTC)
    (tmp_path / "off").mkdir()
    assert load_configuration(written(tmp_path / "off", "[page]\nenabled = false")).page is None


def test_all_mistakes_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = """[federation]
rnak = 4
base = "resnet"
cron = "0 2 * * *"
[rounds]
min_sites = "two"
join_seconds = 0
[schedule]
cron = "0 25 * * *"
time_zone = "Europe/Nowhere"
[[schedule.blackout]]
from = "07:00"
until = "19:00"
[[schedule.blackout]]
from = "07:00"
to = "19:00"
[server]
host = "0.0.0.0"
port = 99999
ssl_cert = "nowhere.pem"
[pages]
"""
    told = problems(tmp_path, text).splitlines()[1:]
    expected = [
        "line 2: rnak is no key of [federation]: perhaps rank was meant.",
        "line 3: base is 'resnet', expected litemedsam or",
        "line 4: cron is no key of [federation]: it belongs to [schedule].",
        "line 6: min_sites is 'two', expected a whole number.",
        "line 7: join_seconds is 0.0, expected above 0",
        "line 9: cron cannot be used: ",
        "line 10: 'Europe/Nowhere' is no time zone",
        "line 14: this blackout cannot be used: until is None",
        "line 16: to is no key of a blackout",
        "line 19: port is 99999, expected 1 to 65535.",
        "line 20: TLS needs all three",
        "line 20: ssl_cert is 'nowhere.pem', expected a file that exists",
        "line 21: [pages] is no section of this file: perhaps page was meant.",
    ]
    assert len(told) == len(expected)
    for line, start in zip(sorted(told, key=_line), expected, strict=True):
        assert line.strip().startswith(start)


def _line(text: str) -> tuple[int, str]:
    return int(text.split()[1].rstrip(":")), text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[federation\nname = 1", "no TOML file"),
        ("name = north", "no TOML file"),
        ("server = 3", "expected a section"),
        ('[server]\nhost = "0.0.0.0"', "line 2: without TLS only 127.0.0.1"),
        ("[server]\nnode_authentication = true", "line 2: node_authentication needs TLS"),
        ('[page]\nhost = "0.0.0.0"', "could be read on the way"),
        ("[page]\nport = 9092", "line 2: port is 9092, expected another one than the server's"),
        ("[federation]\nrank = true", "line 2: rank is True, expected a whole number"),
        ('[schedule]\ncron = "0 2 30 2 *"', "no round would ever run"),
        ("[schedule]\nblackout = 3", "needs two brackets"),
        ("[schedule]\ncatch_up_hours = -1", "0 to 336"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in problems(tmp_path, text)


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="fedsca server init"):
        load_configuration(tmp_path / "federation.toml")
    (tmp_path / "federation.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no TOML file"):
        load_configuration(tmp_path / "federation.toml")


def test_lines_are_found_in_sections_and_arrays() -> None:
    lines = key_lines("# head\n[a]\nx = 1\n[[b.c]]\ny = 2\n[[b.c]] # second\ny = 3\n[a.d]\nx = 4")
    assert lines == {
        ("a", 0, ""): 2,
        ("a", 0, "x"): 3,
        ("b.c", 0, ""): 4,
        ("b.c", 0, "y"): 5,
        ("b.c", 1, ""): 6,
        ("b.c", 1, "y"): 7,
        ("a.d", 0, ""): 8,
        ("a.d", 0, "x"): 9,
    }
