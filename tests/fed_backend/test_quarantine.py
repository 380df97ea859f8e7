"""Strikes, quarantine and the way out; the file; the operator's commands; rounds in which it matters."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fed_backend import quarantine, server_state
from fed_backend.cli.quarantine import quarantine_app
from fed_backend.errors import ServerStateError
from fed_backend.quarantine import TrustBook
from fed_backend.wire import UpdateMessage
from tests.fed_backend.toys import SCHEMA, toy_state


def struck(*rounds: int) -> TrustBook:
    book = TrustBook()
    for number in rounds:
        book = quarantine.with_strike(book, "A", number, "Why.")
    return book


def test_the_second_refusal_within_ten_rounds_begins_a_quarantine() -> None:
    assert struck(3).of("A").since is None
    assert struck(3, 12).of("A").since == 12
    assert struck(3, 13).of("A").since is None
    assert struck(3, 3).of("A").since is None, "a repeated round counts once"


def test_three_plausible_updates_in_a_row_end_it() -> None:
    book = struck(1, 2)
    for number in (3, 4, 4):
        book = quarantine.with_plausible(book, "A", number, [1.0])
    assert book.of("A").good == (3, 4)
    assert "1 more" in quarantine.notice(book.of("A"))
    assert quarantine.with_strike(book, "A", 5, "Again.").of("A").good == ()
    book = quarantine.with_plausible(book, "A", 5, [1.0])
    assert (book.of("A").since, book.of("A").strikes) == (None, ())


def test_what_is_withheld() -> None:
    assert struck(3).withheld({"A": 3, "B": 3}) == {"A"}, "what the server has is what was refused"
    assert struck(3).withheld({"A": 2}) == frozenset(), "what it gave before stays"
    assert struck(3, 4).withheld({"A": 2}) == {"A"}
    assert quarantine.released(struck(3, 4), "A").withheld({"A": 4}) == frozenset()


def test_going_back_to_earlier_adapters_is_seen() -> None:
    book = TrustBook()
    for number, memory in enumerate(([1.0, 0.0], [0.0, 1.0], [0.0, 1.0]), start=1):
        book = quarantine.with_plausible(book, "A", number, memory)
    assert book.of("A").first_seen([1.0, 0.0]) == 1
    assert book.of("A").first_seen([0.0, 1.0]) is None, "a site that has not tuned since says the same again"
    assert book.of("A").first_seen([1.0, 1.0]) is None


def test_adapters_that_come_back_are_as_old_as_they_are() -> None:
    state = server_state.new_state(SCHEMA)
    state = server_state.with_update(state, UpdateMessage("A", 1, 4, toy_state(1.0)))
    state = server_state.with_update(state, UpdateMessage("A", 9, 4, toy_state(1.0)), first_seen=1)
    assert state.sites["A"].last_round == 1


def test_the_file_keeps_everything(tmp_path: Path) -> None:
    assert quarantine.load(tmp_path) == TrustBook()
    book = quarantine.with_sent(quarantine.with_plausible(struck(1, 2), "A", 3, [0.5, -1e-9]), "B", [2.0])
    quarantine.change(tmp_path, lambda _: book)
    assert quarantine.load(tmp_path) == book


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "sites": {}}', '{"format": 1, "sites": {"A": {}}}'])
def test_a_damaged_file_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / quarantine.QUARANTINE_FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ServerStateError, match="move it away"):
        quarantine.load(tmp_path)


def test_the_operator_lists_and_releases(tmp_path: Path) -> None:
    quarantine.change(tmp_path, lambda _: struck(1, 2))
    runner, where = CliRunner(), ["--state", str(tmp_path)]
    listed = runner.invoke(quarantine_app, ["list", *where])
    assert listed.exit_code == 0
    assert "since round 2" in listed.output
    assert runner.invoke(quarantine_app, ["release", "A", *where]).exit_code == 0
    assert "Nobody" in runner.invoke(quarantine_app, ["list", *where]).output
    assert "quarantine_released" in (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    assert runner.invoke(quarantine_app, ["release", "A", *where]).exit_code != 0


def test_withheld_sites_enter_nothing() -> None:
    state = server_state.new_state(SCHEMA)
    for name, value in (("A", 1.0), ("B", 2.0), ("C", 9.0)):
        state = server_state.with_update(state, UpdateMessage(name, 1, 4, toy_state(value)))
    np.testing.assert_allclose(server_state.common_state_of(state, 1, withheld={"C"}).to_vector(), 1.5)
    plan = server_state.plan_mixtures(state, 1, ["A", "B"], withheld={"C"})
    assert all("C" not in row for row in plan.weights.values())
    assert server_state.plan_mixtures(state, 1, ["A"], withheld={"A", "B", "C"}).mixtures == {}
