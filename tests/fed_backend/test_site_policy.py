"""What a hospital's policy lets out, and that a broken one lets out nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fed_backend.errors import PolicyError
from fed_backend.site_policy import HEADER_ALLOWANCE, SitePolicy, read_consent, read_policy

NIGHT = {"from": "20:00", "to": "06:00", "zone": "Europe/Berlin"}


def policy(tmp_path: Path, **values: object) -> SitePolicy:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return read_policy(path)


def test_without_a_file_what_was_agreed_on_may_leave(tmp_path: Path) -> None:
    found = read_policy(tmp_path / "policy.json")
    found.check_now(datetime.now(UTC))
    found.check_tensors(["a.b"])
    found.check_message("update", 10**8, 10**8, {"probe_reply": 10**8})
    found.check_probe()
    assert (found.too_few_cases(0), found.figures) == (None, True)


@pytest.mark.parametrize(
    ("hour", "allowed"),
    [  # UTC; Berlin is two hours ahead in July
        ("2026-07-01T17:59", False),
        ("2026-07-01T18:00", True),
        ("2026-07-02T03:59", True),
        ("2026-07-02T04:00", False),
        ("2026-01-01T18:00", False),  # one hour in January
        ("2026-01-01T19:00", True),
    ],
)
def test_hours_are_those_of_the_zone_over_midnight(tmp_path: Path, hour: str, allowed: bool) -> None:
    hours = policy(tmp_path, hours=NIGHT).hours
    assert hours is not None
    assert hours.allow(datetime.fromisoformat(hour).replace(tzinfo=UTC)) is allowed


def test_outside_the_hours_it_says_when(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"from 20:00 to 06:00 \(Europe/Berlin\) only"):
        policy(tmp_path, hours=NIGHT).check_now(datetime(2026, 7, 1, 12, tzinfo=UTC))


def test_every_tensor_of_the_layout_must_be_allowed(tmp_path: Path) -> None:
    found = policy(tmp_path, tensors=["layers.0.*", "layers.1.mlp"])
    found.check_tensors(["layers.0.qkv", "layers.1.mlp"])
    with pytest.raises(PolicyError, match=r"2 of the federation's shared tensors leave, layers\.1\.qkv among them"):
        found.check_tensors(["layers.0.qkv", "layers.1.qkv", "layers.10.mlp"])


def test_bits_are_counted_on_the_bytes_that_leave(tmp_path: Path) -> None:
    found = policy(tmp_path, bits=8)
    found.check_message("update", 1000 + HEADER_ALLOWANCE, 1000, {})
    with pytest.raises(PolicyError, match="8 bits a value leave, this update has 9"):
        found.check_message("update", 1001 + HEADER_ALLOWANCE, 1000, {})


def test_bytes_are_those_of_the_round_and_a_repetition_counts_once(tmp_path: Path) -> None:
    found = policy(tmp_path, bytes_per_round=150)
    found.check_message("update", 100, 100, {"update": 100})
    found.check_message("probe_reply", 50, 100, {"update": 100})
    with pytest.raises(PolicyError, match="150 bytes a round leave, with this probe reply it would be 151"):
        found.check_message("probe_reply", 51, 100, {"update": 100})


def test_too_few_cases_and_no_probe(tmp_path: Path) -> None:
    found = policy(tmp_path, minimum_cases=5, probe=False)
    assert found.too_few_cases(5) is None
    assert "wants 5 labelled training cases before an update leaves, it has 4" in str(found.too_few_cases(4))
    with pytest.raises(PolicyError, match="no gradient probe"):
        found.check_probe()


def test_every_case_needs_every_tag_and_none_is_named(tmp_path: Path) -> None:
    found = policy(tmp_path, consent=["research", "sharing"])
    tags = {"smith": ["research", "sharing", "x"], "jones": ["research"]}
    found.check_consent(["smith"], tags)
    with pytest.raises(PolicyError, match="2 of its 3 training cases lack a consent tag") as caught:
        found.check_consent(["smith", "jones", "nobody"], tags)
    assert "jones" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"bit": 8}',
        '{"bits": 0}',
        '{"bits": true}',
        '{"bits": "8"}',
        '{"bytes_per_round": -1}',
        '{"bytes_per_round": null}',
        '{"minimum_cases": 1.5}',
        '{"tensors": []}',
        '{"tensors": "a"}',
        '{"consent": [1]}',
        '{"probe": 1}',
        '{"figures": "no"}',
        '{"hours": "20-6"}',
        '{"hours": {"from": "20:00", "to": "06:00"}}',
        '{"hours": {"from": "25:00", "to": "06:00", "zone": "UTC"}}',
        '{"hours": {"from": 20, "to": "06:00", "zone": "UTC"}}',
        '{"hours": {"from": "20:00", "to": "06:00", "zone": "Mars/Base"}}',
        '{"hours": {"from": "20:00", "to": "06:00", "zone": "../etc/passwd"}}',
        '{"hours": {"from": "20:00", "to": "20:00", "zone": "UTC"}}',
    ],
)
def test_a_policy_that_is_not_understood_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PolicyError, match=r"policy\.json"):
        read_policy(path)


def test_a_policy_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "policy.json").mkdir()
    with pytest.raises(PolicyError, match="cannot be read"):
        read_policy(tmp_path / "policy.json")


def test_consent_is_read_and_a_broken_file_refused(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    assert read_consent(path) == {}
    path.write_text('{"smith": ["research"]}', encoding="utf-8")
    assert read_consent(path) == {"smith": ("research",)}
    path.write_text('{"smith": "research"}', encoding="utf-8")
    with pytest.raises(PolicyError, match=r"consent\.json"):
        read_consent(path)
