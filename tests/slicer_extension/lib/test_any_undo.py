"""Whatever a person does, undo goes back to exactly what was there, prompts and masks, and redo forwards again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FedSCALib.prompts import PromptSet
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.slicer_extension.lib.bench import Bench
from tests.slicer_extension.lib.hand_jobs import HandJobs
from tests.slicer_extension.lib.scripted_server import SIZE, ScriptedServer

COLUMN, ROW, SLICE = st.integers(0, SIZE[0] - 1), st.integers(0, SIZE[1] - 1), st.integers(2, 3)
ACTIONS = st.one_of(
    st.tuples(st.just("point"), COLUMN, ROW, SLICE, st.booleans()),
    st.tuples(st.just("box"), COLUMN, ROW, COLUMN, ROW, SLICE),
    st.tuples(st.just("paint"), COLUMN, ROW, SLICE, st.booleans()),
    st.tuples(st.just("across"), COLUMN, ROW, SLICE, st.booleans()),
    st.tuples(st.just("remove"), SLICE),
    st.tuples(st.just("reset"), SLICE),
    st.tuples(st.just("label"), st.sampled_from(["tumour", "organ"])),
    st.tuples(st.just("mode"), st.sampled_from(["replace", "add", "subtract"])),
    st.just(("expire",)),
    st.just(("undo",)),
    st.just(("redo",)),
)
Masks = dict[str, NDArray[np.bool_]]
Look = tuple[dict[str, Any], dict[tuple[str, int], Any]]


def act(bench: Bench, server: ScriptedServer, what: str, *values: Any) -> None:
    annotator = bench.annotator
    if what == "point":
        annotator.add_point((values[0], values[1], values[2]), "k", values[3])
    elif what == "box":
        annotator.set_box("k", values[4], values[:4])
    elif what == "paint":
        i, j, k, erase = values
        annotator.paint("k", k, (i, j, i, j), np.ones((1, 1), bool), erase=erase)
    elif what == "across":  # the same voxel, painted in another view
        i, j, k, erase = values
        annotator.paint("j", j, (i, k, i, k), np.ones((1, 1), bool), erase=erase)
    elif what == "remove":
        for point in annotator.prompts_on("k", values[0]).points[:1]:
            annotator.remove_point(point.ijk, "k")
    elif what == "reset":
        annotator.view_slice("k", values[0])
        annotator.reset_prompts()
    elif what == "label":
        annotator.select_label(values[0])
    elif what == "mode":
        annotator.set_mode(values[0])
    else:
        server.results.clear()


def plain(prompts: PromptSet) -> Any:
    return prompts.points, prompts.box


def look(bench: Bench) -> Look:
    names = list(bench.canvas.masks)
    prompts = {(name, index): plain(bench.annotator.prompts_on("k", index, name)) for name in names for index in (2, 3)}
    return {name: bench.canvas.masks[name].copy() for name in names}, prompts


def same(found: Look, expected: Look) -> None:
    assert found[1] == expected[1]
    for name, mask in expected[0].items():
        np.testing.assert_array_equal(found[0][name], mask, err_msg=name)


@pytest.fixture(scope="module")
def bench_and_server() -> Iterator[tuple[Bench, ScriptedServer]]:
    with tempfile.TemporaryDirectory() as folder:
        server = ScriptedServer(Path(folder))
        bench = Bench(Path(folder), server, jobs=HandJobs())
        bench.open()
        yield bench, server
        assert bench.annotator.close(60)


def begin(bench: Bench) -> HandJobs:
    """Open the case anew, with something drawn in both labels that no undo may touch; returns its jobs."""
    jobs = bench.jobs
    assert isinstance(jobs, HandJobs)
    bench.annotator.open_case("case1", "")
    jobs.answer_all()
    bench.annotator.set_mode("replace")
    for name, column in (("tumour", 0), ("organ", 10)):
        bench.canvas.masks[name][2:4, 4:12, column : column + 10] = True
    return jobs


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=14))
def test_undo_and_redo_are_exact(bench_and_server: tuple[Bench, ScriptedServer], actions: list[tuple[Any, ...]]) -> None:
    bench, server = bench_and_server
    jobs = begin(bench)
    history = bench.annotator._prompting.history
    looks, place = [look(bench)], 0
    for action in actions:
        if action == ("undo",):
            bench.annotator.undo()
            place = max(place - 1, 0)
        elif action == ("redo",):
            bench.annotator.redo()
            place = min(place + 1, len(looks) - 1)
        else:
            before = len(history.done)
            act(bench, server, *action)
            jobs.answer_all()
            if len(history.done) > before:
                looks, place = [*looks[: place + 1], look(bench)], place + 1
        jobs.answer_all()
        same(look(bench), looks[place])
    while bench.state.can_undo:
        bench.annotator.undo()
        jobs.answer_all()
    same(look(bench), looks[0])


LATE = st.lists(st.tuples(ACTIONS, st.lists(st.integers(0, 3), max_size=3)), max_size=12)
"""Actions, and after each one which of the answers that are on their way come then."""


@settings(max_examples=80, deadline=None)
@given(actions=LATE)
@example([(("point", 0, 0, 2, False), []), (("paint", 0, 0, 2, False), [0])])  # the answer would wipe the stroke out
@example(  # one label's late answer takes a voxel of which the other label was freed since
    [(("label", "organ"), []), (("point", 8, 7, 3, True), []), (("label", "tumour"), []), (("paint", 8, 7, 3, True), [0])]
)
def test_undo_of_everything_is_the_beginning_however_late_answers_come(
    bench_and_server: tuple[Bench, ScriptedServer], actions: list[tuple[tuple[Any, ...], list[int]]]
) -> None:
    bench, server = bench_and_server
    jobs = begin(bench)
    beginning = look(bench)
    for action, answers in actions:
        if action in (("undo",), ("redo",)):
            getattr(bench.annotator, action[0])()
        else:
            act(bench, server, *action)
        for number in answers:
            clicks = jobs.clicks()
            if clicks:
                jobs.answer(clicks[number % len(clicks)])
    while bench.state.can_undo:
        bench.annotator.undo()
    jobs.answer_all()
    same(look(bench), beginning)


STROKE = st.tuples(st.sampled_from(["paint", "across", "segment editor"]), COLUMN, ROW, SLICE, st.booleans())


@settings(max_examples=80, deadline=None)
@given(actions=st.lists(st.tuples(st.one_of(STROKE, ACTIONS), st.lists(st.integers(0, 3), max_size=3)), max_size=12))
@example([(("point", 8, 7, 3, True), []), (("segment editor", 8, 7, 3, True), [0])])
@example([(("point", 8, 7, 3, True), []), (("paint", 0, 15, 3, False), [0])])
@example([(("point", 8, 7, 3, True), []), (("point", 9, 7, 3, True), []), (("segment editor", 9, 7, 3, True), [0, 0])])
@example([(("point", 8, 7, 3, True), [0]), (("point", 9, 7, 3, True), []), (("expire",), []), (("segment editor", 9, 7, 3, True), [0, 0])])
def test_no_answer_changes_what_a_person_painted_since_it_was_asked_for(
    bench_and_server: tuple[Bench, ScriptedServer], actions: list[tuple[tuple[Any, ...], list[int]]]
) -> None:
    bench, server = bench_and_server
    jobs = begin(bench)
    asked: dict[str, Masks] = {}  # what was drawn when the oldest click of a slice was asked that has no answer
    strokes: dict[str, Masks] = {}  # where strokes went since then
    for action, answers in actions:
        before = masks(bench)
        if action in (("undo",), ("redo",)):
            getattr(bench.annotator, action[0])()
        elif action[0] == "segment editor":  # draws past the annotator, and lets it know only that something was drawn
            i, j, k, erase = action[1:]
            bench.canvas.write(bench.state.label, "k", k, (i, j, i, j), np.ones((1, 1), bool), "subtract" if erase else "add")
            bench.annotator.edited()
        else:
            act(bench, server, *action)
        if action[0] in ("paint", "across", "segment editor"):
            for stroke in strokes.values():
                for name, mask in masks(bench).items():
                    stroke[name] |= mask != before[name]
        note(jobs, bench, asked, strokes)
        for number in answers:
            clicks = jobs.clicks()
            if clicks:
                ticket = clicks[number % len(clicks)]
                before, stood, stroke = masks(bench), asked[ticket.kind], strokes[ticket.kind]
                jobs.answer(ticket)
                for name, mask in masks(bench).items():
                    theirs = stroke[name] & (before[name] != stood[name])
                    np.testing.assert_array_equal(mask[theirs], before[name][theirs], err_msg=name)
                note(jobs, bench, asked, strokes)
    jobs.answer_all()


def note(jobs: HandJobs, bench: Bench, asked: dict[str, Masks], strokes: dict[str, Masks]) -> None:
    """Which slices wait for an answer now, and what was drawn when that began."""
    waiting = {ticket.kind for ticket in jobs.clicks()}
    for kind in asked.keys() - waiting:
        del asked[kind], strokes[kind]
    for kind in waiting - asked.keys():
        asked[kind] = masks(bench)
        strokes[kind] = {name: np.zeros_like(mask) for name, mask in asked[kind].items()}


def masks(bench: Bench) -> Masks:
    return {name: mask.copy() for name, mask in bench.canvas.masks.items()}
