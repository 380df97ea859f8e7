"""The charts: what lies where, by hand, and that foreign names are only ever text."""

import xml.etree.ElementTree as ElementTree

import pytest
from markupsafe import Markup

from fed_backend.page.dice_chart import BOTTOM, HEIGHT, TOP, Places, dice_chart, floor_of
from fed_backend.page.heat_map import (
    colour_scale,
    distance_matrix,
    heat_map,
    largest_distance,
    most_help,
    small_map,
    step_of,
    weight_matrix,
)
from fed_backend.page.privacy_chart import privacy_chart
from fed_backend.page.svg import column_width, picture, text
from fed_backend.page.timeline_chart import bar_height, presence, timeline
from fed_backend.page.traffic_chart import bar_length, traffic_chart
from tests.fed_backend.page.round_files import facts, line, verdict

HOSTILE = "<script>alert(1)</script>\"' onload=x {row} \u202egnirts\x00"


def parsed(markup: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(markup))  # noqa: S314 - our own drawing: it has to be well-formed


def classes(markup: Markup, name: str) -> list[ElementTree.Element]:
    return [one for one in parsed(markup).iter() if name in one.get("class", "").split()]


def test_a_rounds_bar_is_as_tall_as_the_round_was_long() -> None:
    assert bar_height(100.0, 200.0) == 25.0
    assert bar_height(200.0, 200.0) == 50.0
    assert bar_height(0.1, 200.0) == 3.0, "it can still be seen"
    assert bar_height(None, 0.0) == 3.0


def test_the_time_line_shows_who_was_there() -> None:
    one = facts(1, sites={"A": line(), "B": line(newcomer=True)}, refusals=[{"site": "C", "phase": "update", "reason": "Late."}])
    assert [presence(one, site) for site in "ABCD"] == ["heard", "newcomer", "refused", "silent"]
    two = facts(2, status="skipped", reason="Nobody came.")
    chart = timeline([one, two], ["A", "B", "C", "D"])
    assert len(classes(chart.plot, "column")) == 2
    assert [one.get("class") for one in classes(chart.plot, "bar")] == ["bar finished", "bar skipped"]
    assert len(classes(chart.plot, "silent")) == 1 + 4
    assert "Nobody came." in "".join(parsed(chart.plot).itertext())


def test_columns_share_the_width() -> None:
    assert [column_width(count) for count in (0, 1, 30, 300)] == [38.0, 38.0, 32.0, 26.0]


def test_dice_lies_between_the_axes_ends() -> None:
    assert floor_of([0.71, 0.93]) == pytest.approx(0.7)
    assert floor_of([0.7]) == pytest.approx(0.7)
    assert floor_of([1.0]) == 0.9
    places = Places(3, 0.5)
    assert places.y(1.0) == TOP
    assert places.y(0.5) == HEIGHT - BOTTOM
    assert places.y(0.75) == (TOP + HEIGHT - BOTTOM) / 2
    assert places.x(1) == (places.x(0) + places.x(2)) / 2


def test_dice_follows_what_is_active_not_what_was_tried() -> None:
    one = facts(1, verdicts={"A": verdict("promoted", 0.6, 0.8, 0.5)})
    two = facts(2, verdicts={"A": verdict("rejected", 0.8, 0.7, 0.5)})
    assert [item.verdicts["A"].after for item in (one, two)] == [0.8, 0.8]
    chart = dice_chart("A", [one, two])
    assert chart is not None
    assert len(classes(chart, "tried")) == 1
    heights = {point.split(",")[1] for point in classes(chart, "after")[0].get("points", "").split()}
    assert len(heights) == 1, "the rejected candidate changed nothing"
    assert "0.800" in "".join(parsed(chart).itertext())
    assert dice_chart("B", [one, two]) is None


def test_weights_keep_their_shape_over_rounds() -> None:
    one = facts(1, weights={"A": {"A": 0.75, "B": 0.25}, "B": {"B": 1.0}})
    matrix = weight_matrix(one, ["A", "B", "C"])
    assert matrix is not None
    assert matrix.cells == ((0.75, 0.25, 0.0), (0.0, 1.0, 0.0), (None, None, None))
    assert most_help(one, 3) == [("B", "A", 0.25)]
    assert weight_matrix(facts(2), ["A"]) is None
    drawn = heat_map("Weights", matrix, "{column} gives {row}: {value}")
    assert [cell.get("class") for cell in classes(drawn, "own")] == ["h h7 own", "h h9 own", "h none own"]
    assert "B gives A: 0.25" in "".join(parsed(drawn).itertext())
    squares = {one.get("class"): one.get("d", "").count("M") for one in classes(small_map("small", matrix), "h")}
    assert squares == {"h h7": 1, "h h2": 1, "h h0": 3, "h h9": 1, "h none": 3}
    assert len(classes(colour_scale("scale"), "h")) == 10


def test_distances_are_put_into_the_sites_order() -> None:
    one = facts(1, givers=["B", "A"], noise=[0.1, 0.1], distance=[[0.0, 2.0], [None, 0.0]])
    matrix = distance_matrix(one, ["A", "B", "C"], largest_distance([one]))
    assert matrix is not None
    assert matrix.cells == ((0.0, None, None), (2.0, 0.0, None), (None, None, None))
    assert matrix.top == 2.0
    assert distance_matrix(facts(2), ["A"], 1.0) is None
    assert largest_distance([facts(2)]) == 1.0


def test_colours_are_ten_equal_steps() -> None:
    assert [step_of(value, 2.0) for value in (0.0, 0.19, 0.2, 1.0, 1.99, 2.0, 9.0)] == [0, 0, 1, 5, 9, 9, 9]
    assert step_of(1.0, 0.0) == 0


def test_bytes_go_up_and_down() -> None:
    one = facts(1, bytes={"A": {"update": 100, "probe_reply": 20, "mixture": 30, "probe_request": 30}})
    assert one.bytes_of("A") == (120, 60)
    assert one.bytes_of("B") == (0, 0)
    assert [bar_length(count, 120) for count in (0, 1, 60, 120)] == [0.0, 1.0, 12.5, 25.0]
    chart = traffic_chart([one], ["A", "B"])
    assert classes(chart.plot, "up")[0].get("height") == "25"
    assert classes(chart.plot, "down")[0].get("height") == "12.5"


def test_privacy_is_shown_where_it_is_told() -> None:
    one = facts(1, privacy={"A": {"epsilon": 1.0, "delta": 1e-5}})
    two = facts(2, privacy={"A": {"epsilon": 2.0, "delta": 1e-5}, "B": {"epsilon": 0.5, "delta": 1e-5}})
    chart = privacy_chart([one, two], ["A", "B", "C"])
    assert chart is not None
    assert [bar.get("height") for bar in classes(chart.plot, "spent")] == ["20", "40", "10"]
    assert "ε 2" in "".join(parsed(chart.labels).itertext())
    assert privacy_chart([facts(1)], ["A"]) is None


def test_hostile_names_are_text_in_every_chart() -> None:
    one = facts(
        1,
        sites={HOSTILE: line()},
        weights={HOSTILE: {HOSTILE: 1.0}},
        givers=[HOSTILE],
        noise=[0.1],
        distance=[[0.0]],
        bytes={HOSTILE: {"update": 1}},
        verdicts={HOSTILE: {**verdict(HOSTILE, 0.1, 0.2, 0.1), "reason": HOSTILE}},
        privacy={HOSTILE: {"epsilon": 1.0, "delta": 0.1}},
        refusals=[{"site": HOSTILE, "phase": HOSTILE, "reason": HOSTILE}],
    )
    matrix, distance = weight_matrix(one, [HOSTILE]), distance_matrix(one, [HOSTILE], 1.0)
    dice, privacy = dice_chart(HOSTILE, [one]), privacy_chart([one], [HOSTILE])
    assert matrix is not None
    assert distance is not None
    assert dice is not None
    assert privacy is not None
    pairs = (timeline([one], [HOSTILE]), traffic_chart([one], [HOSTILE]), privacy)
    drawn = [heat_map(HOSTILE, matrix, "{column}: {value}"), heat_map("d", distance, "{row}"), small_map(HOSTILE, matrix), dice]
    for chart in [*drawn, *(part for pair in pairs for part in (pair.labels, pair.plot))]:
        tree = parsed(chart)
        assert not [one for one in tree.iter() if one.tag == "script" or "onload" in one.attrib]
        assert "\u202e" not in str(chart)
        assert "\x00" not in str(chart)


def test_numbers_and_attributes_are_written_plainly() -> None:
    assert str(picture(10.0, 5, 'a "b"', [text(1.25, 2, "<&>")])) == (
        '<svg class="chart" width="10" height="5" viewBox="0 0 10 5" role="img" aria-label="a &#34;b&#34;">'
        '<text x="1.2" y="2">&lt;&amp;&gt;</text></svg>'
    )
