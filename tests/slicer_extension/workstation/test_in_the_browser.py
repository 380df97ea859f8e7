"""The workstation in headless Chromium, against a real server of ours, with virtual patients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests

from sam_adapters.registry import Registry
from sam_adapters.site_directory import SiteDirectory
from tests.slicer_extension.widget.hospital import RunningHospital, box_around, largest_slice, make_hospital
from tests.slicer_extension.workstation.hands import LONG, Hands
from tests.slicer_extension.workstation.processes import browser, missing, workstation

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHospital]:
    made = make_hospital(tmp_path_factory.mktemp("hospital"))
    try:
        made.start()
        for case in made.drawn.split.val:
            made.save_truth(case)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def address(hospital: RunningHospital, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with workstation(tmp_path_factory.mktemp("workstation"), "--server", hospital.url) as found:
        yield found


@pytest.fixture(scope="module")
def hands(address: str) -> Iterator[Hands]:
    with browser() as page:
        page.goto(address)
        page.wait_for_selector("[data-connection=on]")
        yield Hands(page)


def test_only_the_first_browser_with_the_token_gets_in(hands: Hands, address: str) -> None:
    parts = urlsplit(address)
    assert requests.get(address, timeout=60).status_code == 403, "the token was used"
    assert requests.get(f"http://{parts.netloc}/index.html", timeout=60).status_code == 403
    assert requests.get(f"http://{parts.netloc}/ws", timeout=60).status_code == 403
    assert "token" not in hands.page.url


def test_a_case_from_the_click_to_the_rollback(hands: Hands, hospital: RunningHospital) -> None:
    page, case = hands.page, hospital.drawn.split.train[0]
    truth = hospital.truth(case)
    index = largest_slice(truth)
    hands.open(case)
    hands.go_to(index)
    assert hands.coloured() == 0

    # A box: the mask is seen in the picture, in the labelled structure.
    low, high = box_around(truth, index)
    hands.tool("b", "box")
    hands.drag((low[0], low[1]), (high[0], high[1]))
    boxed = hands.wait_for_colour("n > 300")

    # A point beside the structure, with its sign; undone, the picture is as before it.
    hands.tool("p", "point")
    page.keyboard.press("t")
    hands.click(low[0] + 2, low[1] + 2)
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 1")
    assert page.evaluate("fedsca.views.Red.shown().points[0]") == {
        "x": low[0] + 2, "y": low[1] + 2, "positive": False, "ijk": [low[0] + 2, low[1] + 2, index]
    }  # fmt: skip
    page.keyboard.press("Control+z")
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 0")
    hands.wait_for_colour(f"Math.abs(n - {boxed}) < {0.03 * boxed}")
    page.keyboard.press("t")

    # Paint by hand far from it, and take it back and paint it again.
    hands.tool("d", "paint")
    hands.drag((4, 4), (12, 4))
    painted = hands.wait_for_colour(f"n > {boxed} + 200")
    page.keyboard.press("Control+z")
    hands.wait_for_colour(f"n < {painted} - 200")
    page.keyboard.press("Control+y")
    hands.wait_for_colour(f"Math.abs(n - {painted}) < {0.03 * painted}")
    page.keyboard.press("Control+z")
    hands.wait_for_colour(f"Math.abs(n - {boxed}) < {0.03 * boxed}")
    for _ in range(10):
        page.keyboard.press("[")
    hands.drag((4, 4), (6, 4))  # a few pixels only: the tuning shall learn the box's mask
    hands.wait_for_colour(f"n > {1.005 * boxed}")

    # Submit: the server has exactly what is drawn, tunes, and serves a new version.
    page.keyboard.press("Control+Enter")
    hands.notice("Saved as")
    kept = hospital.label(case)
    assert set(np.unique(kept)) == {0, 1}
    assert kept[index, 4, 4:7].all(), "what was painted"
    assert not kept[index, 4, 8:12].any(), "what was undone"
    assert np.count_nonzero(kept[index]) == np.count_nonzero(kept), "other slices are empty"
    hands.notice("A new version serves", 4 * LONG)
    hands.wait("() => document.querySelector('.server dd[data-fact=version]').innerText.includes('tuned here')")
    active = requests.get(f"{hospital.url}/fedsca/status", timeout=60).json()["active"]
    assert hands.fact("version").startswith(active[:8])

    # Back to the base, from the list of versions.
    page.click("[data-do=versions]")
    page.click("[data-version=base] [data-do=activate]")
    hands.notice("serves now")
    hands.dismiss_notice()
    assert requests.get(f"{hospital.url}/fedsca/status", timeout=60).json()["active"] == "base"
    hands.wait("() => document.querySelector('.server dd[data-fact=version]').innerText.includes('base')")

    # A version that is turned away and learned from all the same is marked, and one click leaves it.
    with Registry(SiteDirectory.open(hospital.drawn.root)) as registry:
        registry.reject(active, reason="A little worse.", learn="Tunings and rounds go on from it all the same.")
    page.click("[data-do=versions]")
    hands.wait(f"() => document.querySelector('[data-version=\"{active}\"]').innerText.includes('learned from')")
    page.click("[data-version=base] [data-do=activate]")
    hands.notice("go on from it")
    assert requests.get(f"{hospital.url}/fedsca/adapters", timeout=60).json()["learnt_from"] == "base"


def test_propagation_fills_neighbours_and_is_one_step(hands: Hands, hospital: RunningHospital) -> None:
    case = hospital.drawn.split.train[1]
    truth = hospital.truth(case)
    index = largest_slice(truth)
    hands.open(case)
    hands.go_to(index)
    low, high = box_around(truth, index)
    hands.tool("b", "box")
    hands.drag((low[0], low[1]), (high[0], high[1]))
    hands.wait_for_colour("n > 300")
    hands.page.click("[data-do=propagate]:enabled")
    hands.notice("slices were filled")
    filled = int(hands.page.inner_text("[data-notice] span").split()[0])
    assert filled >= 1
    hands.page.keyboard.press("Control+z")
    other = index + 1 if truth[min(index + 1, len(truth) - 1)].any() and index + 1 < len(truth) else index - 1
    hands.go_to(other)
    hands.wait_for_colour("n === 0")


def test_wheel_window_zoom_and_views(hands: Hands, hospital: RunningHospital) -> None:
    page = hands.page
    hands.open(hospital.drawn.split.train[2])
    hands.go_to(2)
    x, y = hands.at(40, 40)
    page.mouse.move(x, y)
    page.mouse.wheel(0, 100)
    hands.wait("() => fedsca.views.Red.meta.index === 3")
    for _ in range(3):
        page.mouse.wheel(0, 15)  # a trackpad's small steps add up to one slice
    hands.wait("() => fedsca.views.Red.meta.index === 4")
    page.keyboard.press("ArrowDown")
    hands.wait("() => fedsca.views.Red.meta.index === 3")  # and not further: each step alone would have been a slice
    before = page.evaluate("fedsca.views.Red.meta.window")
    page.mouse.down(button="right")
    page.mouse.move(x + 120, y, steps=5)
    page.mouse.up(button="right")
    hands.wait("(width) => fedsca.views.Red.meta.window[0] > 1.1 * width", before[0])
    zoomed = page.evaluate("fedsca.views.Red.zoomed()")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    hands.wait("(was) => fedsca.views.Red.zoomed() > 1.3 * was", zoomed)
    assert page.evaluate("(place) => fedsca.views.Red.voxel(fedsca.views.Red.place(place))", [40, 40]) == [40, 40, 3]
    page.keyboard.press("2")
    page.wait_for_selector("[data-view=Green].large")
    hands.wait("() => fedsca.views.Green.meta.axis === 'j'")
    page.keyboard.press("1")
    page.wait_for_selector("[data-view=Red].large")
    hands.tool("w", "none")
    page.keyboard.down("Shift")
    hands.click(30, 55)
    page.keyboard.up("Shift")
    hands.wait("() => fedsca.views.Green.meta.index === 55 && fedsca.views.Yellow.meta.index === 30")


def test_locked_labels_stay_and_new_ones_get_a_value(hands: Hands, hospital: RunningHospital) -> None:
    page = hands.page
    hands.open(hospital.drawn.split.train[2])
    page.click("[data-label=lesion] [data-do=lock]")
    hands.tool("d", "paint")
    hands.drag((10, 10), (20, 10))
    hands.notice("locked")
    assert hands.coloured() == 0
    page.fill(".labels form input", "oedema")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-label=oedema].chosen")
    page.click(".views", position={"x": 5, "y": 5})
    page.evaluate("document.activeElement.blur()")
    hands.drag((10, 10), (20, 10))
    hands.wait_for_colour("n > 200")


@pytest.mark.slow
def test_the_server_is_gone_for_a_while(hands: Hands, hospital: RunningHospital) -> None:
    page, case = hands.page, hospital.drawn.split.train[1]
    truth = hospital.truth(case)
    index = largest_slice(truth)
    low, high = box_around(truth, index)
    hands.open(case)
    page.evaluate("document.activeElement.blur()")
    hands.go_to(index)
    hands.tool("d", "paint")
    hands.drag((4, 4), (12, 4))
    drawn = hands.wait_for_colour("n > 20")
    hospital.kill()
    hands.tool("b", "box")
    hands.drag((low[0], low[1]), (high[0], high[1]))
    page.wait_for_selector("[data-connection=lost]")
    hands.wait("() => fedsca.views.Red.shown()?.box")
    assert abs(hands.coloured() - drawn) <= 0.03 * drawn, "what was drawn is still there"
    hospital.start()
    page.wait_for_selector("[data-connection=on]", timeout=4 * LONG)
    hands.wait_for_colour(f"n > {drawn} + 300")  # the box is asked by itself


def test_no_request_leaves_the_origin_and_nothing_went_wrong(hands: Hands, address: str) -> None:
    page = hands.page
    own = urlsplit(address).netloc
    assert {urlsplit(url).netloc for url in page.requests if not url.startswith(("blob:", "data:"))} == {own}
    assert {urlsplit(url).scheme for url in page.requests} <= {"http", "ws", "blob", "data"}
    icon = page.evaluate("document.querySelector('link[rel=icon]').href")
    assert icon.endswith("workstation/favicon.svg")
    assert page.title() == "FedSCA Workstation"
    known = "405"  # trame's client asks for a launcher (POST /paraview/) before it opens its own socket
    assert [text for text in page.problems if known not in text] == []


def test_a_right_click_takes_a_point_away(hands: Hands, hospital: RunningHospital) -> None:
    hands.open(hospital.drawn.split.train[2])
    hands.go_to(2)
    hands.tool("p", "point")
    hands.click(40, 40)
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 1")
    hands.click(40, 40, button="right")
    hands.wait("() => fedsca.views.Red.shown()?.points.length === 0")


def test_an_image_of_my_own_is_uploaded_once(hands: Hands, hospital: RunningHospital, tmp_path: Path) -> None:
    mine = tmp_path / "my own.nii.gz"
    mine.write_bytes(hospital.drawn.images[hospital.drawn.split.train[0]].read_bytes())
    before = set(requests.get(f"{hospital.url}/datastore/?output=all", timeout=60).json()["objects"])
    shown = hands.image()
    hands.list_cases()
    hands.page.set_input_files("input[type=file]", str(mine))
    hands.wait("() => document.querySelector('.case h2').innerText.includes('my')")
    hands.wait_for_new_image(shown)
    new = set(requests.get(f"{hospital.url}/datastore/?output=all", timeout=60).json()["objects"]) - before
    assert new == {hands.page.inner_text(".case h2")}
    hands.go_to(2)
    hands.tool("b", "box")
    hands.drag((30, 30), (60, 60))
    hands.wait_for_colour("n > 100")
