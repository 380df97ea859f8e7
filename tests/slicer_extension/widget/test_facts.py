"""The short texts at the top of the panel."""

from datetime import UTC, datetime

import pytest
from FedSCALib import facts
from FedSCALib.packets import Round, Status, Tuning, Versions

STATUS = {"site": "riverside", "active": "7f3a9c21d0e4", "base": {"name": "litemedsam", "sha256": "a3" * 32}, "device": "cpu"}
VERSIONS = {
    "active": "7f3a9c21d0e4",
    "versions": [
        {"id": "aaaa0000bbbb", "state": "retired", "kind": "local", "parents": [], "created": "2026-03-01T10:00:00+00:00", "cases": 5},
        {"id": "7f3a9c21d0e4", "state": "active", "kind": "mixture", "round": 4, "created": "2026-03-02T10:00:00+00:00"},
    ],
    "decisions": [
        {
            "number": 1,
            "action": "activated",
            "version": "7f3a9c21d0e4",
            "figures": {"overall": {"active": 0.712, "candidate": 0.843}},
            "reason": "Better.",
            "by": "gate",
        },
        {"number": 2, "action": "rolled back", "version": "7f3a9c21d0e4", "figures": {}, "reason": "Leaks.", "by": "anna"},
    ],
}


def tuning(**told: object) -> facts.Fact:
    return facts.tuning_fact(Tuning.from_json(told))


def test_the_time_of_today_is_an_hour_and_of_another_day_a_date() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    noon = now.astimezone().strftime("%H:%M")
    assert facts.local_time("2026-03-02T12:00:00Z", now) == noon
    assert facts.local_time("2026-02-20T12:00:00+00:00", now) == "20 Feb"
    assert facts.local_time("soon", now) == "soon"


def test_the_active_version_says_where_it_came_from() -> None:
    status, versions = Status.from_json(STATUS), Versions.from_json(VERSIONS)
    assert facts.version_fact(status, versions).text == "7f3a9c21 · round 4"
    assert facts.version_fact(status, None).text == "7f3a9c21"
    assert facts.version_fact(Status.from_json({**STATUS, "active": "base"}), versions).text == "base, not tuned"


def test_tuning_in_a_few_words() -> None:
    assert tuning(running=True, progress={"step": 6, "steps": 24, "stage": "training"}).text == "running, 25 %"
    assert tuning(running=True, progress={"step": 24, "steps": 24}).text == "comparing Dice"
    assert tuning(waiting=1).text == "waiting to start"
    waits = tuning(next="1 labelled training case of the 3 needed.")
    assert (waits.text, waits.detail) == ("waits for labels", "1 labelled training case of the 3 needed.")
    assert tuning(last={"id": 1, "status": "failed"}, progress={"error": "no memory"}).detail == "no memory"


@pytest.mark.parametrize(
    ("last", "upcoming", "text"),
    [
        (None, None, "none yet"),
        ({"round": 4, "at": "2020-02-20T12:00:00+00:00"}, None, "#4 20 Feb"),
        ({"round": 4, "at": "2020-02-20T12:00:00+00:00"}, "2020-02-27T12:00:00+00:00", "#4 20 Feb · next 27 Feb"),
    ],
)
def test_rounds_in_a_few_words(last: object, upcoming: object, text: str) -> None:
    assert facts.round_fact(Round.from_json(last), Round.from_json(upcoming)).text == text


def test_the_list_of_versions_is_newest_first_with_what_the_gate_measured() -> None:
    rows = facts.version_rows(Versions.from_json(VERSIONS))
    assert [(row.name, row.dice, row.active) for row in rows] == [
        ("7f3a9c21", "0.71 → 0.84", True),
        ("aaaa0000", "", False),
        ("base", "", False),
    ]
    assert rows[0].origin.startswith("round 4")
    assert rows[1].origin.startswith("tuned here")
    assert "anna: rolled back. Leaks." in rows[0].detail
    assert "5 labelled cases" in rows[1].detail
    assert [row.use for row in rows] == ["", "Use aaaa0000", "Use base"]
    assert not any("learned from" in row.origin for row in rows)


def test_a_version_that_is_learned_from_and_does_not_serve_is_marked_and_can_be_left() -> None:
    rows = facts.version_rows(Versions.from_json({**VERSIONS, "learnt_from": "aaaa0000bbbb"}))
    assert [(row.active, "learned from" in row.origin, row.use) for row in rows] == [
        (True, False, "Go on from 7f3a9c21"),
        (False, True, "Use aaaa0000"),
        (False, False, "Use base"),
    ]
    assert "go on from aaaa0000, not from this version" in rows[0].detail
    assert rows[1].origin.endswith("learned from")
    assert "does not serve, but tunings and rounds go on from it" in rows[1].detail
    base = facts.version_rows(Versions.from_json({**VERSIONS, "active": "base", "learnt_from": "aaaa0000bbbb"}))[-1]
    assert (base.active, base.use) == (True, "Go on from base")
