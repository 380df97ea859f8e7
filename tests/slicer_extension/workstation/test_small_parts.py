"""Geometry of pictures, brightness, options, the door and what the page may ask: without a browser."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("slicer", reason="slicer-core is not installed")

from FedSCALib.canvas import Segment
from FedSCALib.errors import FedSCAError
from FedSCALib.prompts import Point, PromptSet
from FedSCALib.state import State
from workstation import actions, gestures, panel, settings
from workstation.door import Door
from workstation.geometry import brush, direction_letter, edge_letters, picture_to_ijk
from workstation.window import dragged, looks_like_ct


def test_a_picture_pixel_is_the_voxel_that_slicer_draws_there() -> None:
    # 100 x 50 pixels of 2 mm; Slicer's y runs upwards from the lowest row, voxels of 1 mm begin at RAS (-100, -50, 7)
    xy_to_ras = np.array([[2.0, 0, 0, -100], [0, 2, 0, -50], [0, 0, 1, 7], [0, 0, 0, 1]])
    ijk_to_ras = np.array([[1.0, 0, 0, -100], [0, 1, 0, -50], [0, 0, 1, 7], [0, 0, 0, 1]])
    matrix = picture_to_ijk(xy_to_ras, ijk_to_ras, 50)
    assert matrix @ [0.5, 49.5, 1] == pytest.approx([0, 0, 0])  # centre of the lowest left pixel
    assert matrix @ [99.5, 0.5, 1] == pytest.approx([198, 98, 0])  # of the uppermost right one


def test_letters_say_what_lies_at_the_picture_s_edges() -> None:
    radiological = np.array([[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])  # to the right is the patient's left
    assert edge_letters(radiological) == {"right": "L", "left": "R", "top": "A", "bottom": "P"}
    assert direction_letter([0.1, -0.2, 0.9]) == "S"


def test_a_brush_paints_a_disc_and_stays_inside() -> None:
    found = brush([[5, 5]], 1.0, (20, 20))
    assert found is not None
    box, mask = found
    assert box == (4, 4, 6, 6)
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert brush([[-30, 5]], 3.0, (20, 20)) is None


@given(
    points=st.lists(st.tuples(st.floats(-30, 60), st.floats(-30, 60)), min_size=1, max_size=8),
    radius=st.floats(0.1, 9),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
)
def test_a_stroke_never_leaves_the_slice_and_is_no_wider_than_the_brush(
    points: list[tuple[float, float]], radius: float, rows: int, columns: int
) -> None:
    found = brush(points, radius, (rows, columns))
    assume(found is not None)
    assert found is not None
    (x0, y0, x1, y1), mask = found
    assert 0 <= x0 <= x1 < columns
    assert 0 <= y0 <= y1 < rows
    assert mask.shape == (y1 - y0 + 1, x1 - x0 + 1)
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    y, x = np.nonzero(mask)
    reach = max(radius, 0.75)
    assert (x + x0 >= low[0] - reach).all()
    assert (x + x0 <= high[0] + reach).all()
    assert (y + y0 >= low[1] - reach).all()
    assert (y + y0 <= high[1] + reach).all()


def test_dragging_to_the_right_widens_the_window_and_downwards_raises_its_centre() -> None:
    assert dragged((400, 40), 0.5, 0.25, 4000) == pytest.approx((800, 240))
    assert dragged((400, 40), -5, 0, 4000)[0] == pytest.approx(4.0)  # never nothing
    assert looks_like_ct(-1024, 3071)
    assert not looks_like_ct(0, 1200)


def test_only_this_computer_may_be_listened_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert settings.read(["--no-browser", "--port", "0"]).host == "127.0.0.1"
    for wrong in (["--host", "192.168.1.5"], ["--port", "70000"], ["--studies", "/nowhere"], ["--server", "a", "--studies", "/tmp"]):
        with pytest.raises(SystemExit):
            settings.read(wrong)
    assert "SSH tunnel" in capsys.readouterr().err


def test_a_port_in_use_is_told_before_anything_is_started() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(FedSCAError, match=f"Port {port} cannot be used"):
            settings.check_port(settings.Settings(port=port))
    settings.check_port(settings.Settings(port=port))


def test_the_door_opens_once_and_only_here() -> None:
    door = Door()

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text="inside")

    async def try_it() -> None:
        app = web.Application(middlewares=[door.middleware()])
        app.router.add_get("/index.html", index)
        async with TestClient(TestServer(app, host="127.0.0.1")) as browser:
            assert (await browser.get("/index.html")).status == 403
            assert (await browser.get("/?token=wrong")).status == 403
            evil = {"Host": "evil.example"}
            assert (await browser.get(f"/?token={door.token}", headers=evil)).status == 403
            assert (await browser.get("/index.html", headers={"Origin": "http://evil.example"})).status == 403
            entered = await browser.get(f"/?token={door.token}")
            assert (await entered.text()) == "inside"
            assert "connect-src 'self'" in entered.headers["Content-Security-Policy"]
            assert (await browser.get("/index.html")).status == 200
            async with TestClient(TestServer(app, host="127.0.0.1")) as other:
                assert (await other.get(f"/?token={door.token}")).status == 403

    asyncio.run(try_it())


def test_the_page_s_values_are_checked() -> None:
    assert gestures.voxel([[1, 2, 3]], 0) == (1, 2, 3)
    for wrong in ([], [None], ["x"], [float("nan")], [True], [1e9]):
        with pytest.raises(actions.BadRequestError):
            gestures.number(wrong, 0)
    with pytest.raises(actions.BadRequestError):
        gestures.stroke([[]], 0)
    with pytest.raises(actions.BadRequestError):
        actions.text(["x" * 5000], 0)


def test_the_panel_is_made_of_plain_values() -> None:
    state = State(labels=(Segment("lesion", 1, (0.5, 0.0, 1.0)),), label="lesion", connection="on")
    shown = panel.panel(state)
    assert shown["labels"] == [{"name": "lesion", "value": 1, "color": "rgb(128, 0, 255)", "locked": False, "visible": True}]
    drawn = panel.prompts("j", 4, PromptSet(points=(Point((3, 4, 9), True),)))
    assert drawn["points"] == [{"x": 3, "y": 9, "positive": True, "ijk": [3, 4, 9]}]


def test_every_text_of_the_page_is_ours() -> None:
    """The page's scripts take their texts from `texts`: each name that they use is there."""
    import re

    from workstation.page import ASSETS
    from workstation.texts import texts

    used = {name for script in Path(ASSETS).glob("*.js") for name in re.findall(r"\btexts\.(\w+)", script.read_text(encoding="utf-8"))}
    assert used <= set(texts())
