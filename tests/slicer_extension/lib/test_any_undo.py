"""Whatever a person does, undo goes back to exactly what was there, prompts and masks, and redo forwards again."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from FedSCALib.prompts import PromptSet
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slicer_extension.lib.bench import Bench
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
        bench = Bench(Path(folder), server)
        bench.open()
        yield bench, server
        assert bench.annotator.close(60)


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=14))
def test_undo_and_redo_are_exact(bench_and_server: tuple[Bench, ScriptedServer], actions: list[tuple[Any, ...]]) -> None:
    bench, server = bench_and_server
    bench.annotator.open_case("case1", "")
    bench.settle()
    bench.annotator.set_mode("replace")
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
            bench.settle()
            if len(history.done) > before:
                looks, place = [*looks[: place + 1], look(bench)], place + 1
        bench.settle()
        same(look(bench), looks[place])
    while bench.state.can_undo:
        bench.annotator.undo()
        bench.settle()
    same(look(bench), looks[0])


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(st.tuples(ACTIONS, st.sampled_from(["go on", "answer some", "wait"])), max_size=12))
def test_undo_of_everything_is_the_beginning_however_late_answers_come(
    bench_and_server: tuple[Bench, ScriptedServer], actions: list[tuple[tuple[Any, ...], str]]
) -> None:
    bench, server = bench_and_server
    bench.annotator.open_case("case1", "")
    bench.settle()
    bench.annotator.set_mode("replace")
    beginning = look(bench)
    for action, then in actions:
        if action in (("undo",), ("redo",)):
            getattr(bench.annotator, action[0])()
        else:
            act(bench, server, *action)
        if then == "answer some":
            bench.annotator.deliver()
        elif then == "wait":
            bench.settle()
    while bench.state.can_undo:
        bench.annotator.undo()
    bench.settle()
    same(look(bench), beginning)
