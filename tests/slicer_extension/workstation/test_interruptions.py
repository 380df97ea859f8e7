"""What is cut, hangs, is cancelled or ended in the middle of the work: in headless Chromium, against a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from tests.monailabel_app.server_process import wait_until
from tests.slicer_extension.widget.hospital import RunningHospital, box_around, largest_slice, make_hospital
from tests.slicer_extension.workstation.cable import Cable, cable
from tests.slicer_extension.workstation.hands import Hands
from tests.slicer_extension.workstation.processes import browser, missing, workstation

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

AWAY, BACK = "[data-link]", "() => !document.querySelector('[data-link]')"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHospital]:
    made = make_hospital(tmp_path_factory.mktemp("hospital"), tune="false")
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workstation")


@pytest.fixture(scope="module")
def start(hospital: RunningHospital, folder: Path) -> Iterator[Callable[[], str]]:
    """Start the workstation, after ending the one from before; gives the new page's address."""
    with ExitStack() as running:

        def start() -> str:
            running.close()
            return running.enter_context(workstation(folder, "--server", hospital.url))

        yield start


@pytest.fixture(scope="module")
def tunnel(start: Callable[[], str]) -> Iterator[tuple[Cable, str]]:
    with cable(start()) as made:
        yield made


@pytest.fixture(scope="module")
def line(tunnel: tuple[Cable, str]) -> Cable:
    return tunnel[0]


@pytest.fixture(scope="module")
def hands(tunnel: tuple[Cable, str]) -> Iterator[Hands]:
    with browser() as page:
        page.goto(tunnel[1])
        page.wait_for_selector("[data-connection=on]")
        yield Hands(page)


def box_on_largest_slice(hands: Hands, hospital: RunningHospital, case: str) -> tuple[int, int]:
    """Open a case and draw a box; gives the slice's index and the number of coloured pixels."""
    truth = hospital.truth(case)
    index = largest_slice(truth)
    hands.open(case)
    hands.go_to(index)
    low, high = box_around(truth, index)
    hands.tool("b", "box")
    hands.drag((low[0], low[1]), (high[0], high[1]))
    return index, hands.wait_for_colour("n > 300")


def test_a_stroke_over_a_cut_is_whole_and_the_page_comes_back_by_itself(hands: Hands, hospital: RunningHospital, line: Cable) -> None:
    page = hands.page
    _, boxed = box_on_largest_slice(hands, hospital, hospital.drawn.split.train[0])
    hands.tool("d", "paint")
    page.keyboard.press("]")
    page.mouse.move(*hands.at(4, 4))
    page.mouse.down()
    page.mouse.move(*hands.at(14, 4), steps=4)
    hands.wait_for_colour(f"n > {boxed} + 200")
    line.cut()
    page.wait_for_selector("[data-link=trying]")
    page.mouse.move(*hands.at(40, 4), steps=4)
    page.mouse.up()
    page.keyboard.press("Control+z")  # not taken: nobody would see what it does
    line.mend()
    hands.wait(BACK)
    painted = hands.wait_for_colour(f"n > {boxed} + 1000")
    assert page.input_value(".prompting input[type=range]") == "6", "the brush as it was chosen"
    assert page.evaluate("fedsca.views.Red.shown().box") is not None
    page.keyboard.press("Control+z")  # the stroke is one step
    hands.wait_for_colour(f"Math.abs(n - {boxed}) < {0.03 * boxed}")
    page.keyboard.press("Control+y")
    hands.wait_for_colour(f"Math.abs(n - {painted}) < {0.03 * painted}")


@pytest.mark.parametrize("there", [False, True], ids=["the call is lost", "the answer is lost"])
def test_what_was_done_during_a_cut_is_done_once(hands: Hands, hospital: RunningHospital, line: Cable, there: bool) -> None:
    hands.open(hospital.drawn.split.train[0])
    hands.go_to(1)
    line.hang(there=there)
    hands.page.keyboard.press("ArrowUp")
    line.cut()
    line.mend()
    hands.wait(BACK)
    hands.wait("() => fedsca.views.Red.meta.index === 2 && fedsca.views.Red.meta.exact")
    hands.page.keyboard.press("ArrowUp")
    hands.wait("() => fedsca.views.Red.meta.index === 3")  # 4 if it had been done twice


def test_a_tunnel_that_hangs_is_noticed_and_after_a_while_told(hands: Hands, hospital: RunningHospital, line: Cable) -> None:
    page = hands.page
    hands.open(hospital.drawn.split.train[0])
    usual = page.evaluate("Object.assign({}, fedsca.times)")
    hands.go_to(1)
    page.evaluate("Object.assign(fedsca.times, { look: 100, alive: 500, probe: 500, long: 1500 })")
    line.hang()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # somebody looks at the page again
    page.wait_for_selector("[data-link=trying]")
    page.wait_for_selector("[data-link=long]")
    assert "SSH tunnel" in page.inner_text(AWAY)
    page.click(f"{AWAY} button")
    line.mend()
    hands.wait(BACK)
    page.evaluate("(usual) => Object.assign(fedsca.times, usual)", usual)
    page.keyboard.press("ArrowUp")
    hands.wait("() => fedsca.views.Red.meta.index === 2")


def test_a_cancelled_propagation_fills_nothing_and_the_next_one_works(hands: Hands, hospital: RunningHospital) -> None:
    page, case = hands.page, hospital.drawn.split.train[1]
    index, _ = box_on_largest_slice(hands, hospital, case)
    page.wait_for_selector("[data-do=propagate]:enabled")
    os.kill(hospital.process.pid, signal.SIGSTOP)  # a server that takes its time
    try:
        page.keyboard.press("g")
        page.wait_for_selector(".toast.busy")
        page.click(".toast.busy button")
        hands.notice("Cancelled")
        assert page.query_selector(".toast.busy") is None
    finally:
        os.kill(hospital.process.pid, signal.SIGCONT)

    def rests() -> bool:
        jobs = requests.get(f"{hospital.url}/fedsca/status", timeout=60).json()["jobs"]
        return jobs["queued"] == jobs["running"] == 0

    wait_until(rests, 60, what="the server to end the job")
    neighbour = index + 1 if index + 1 < len(hospital.truth(case)) else index - 1
    hands.go_to(neighbour)
    hands.wait_for_colour("n === 0")
    hands.go_to(index)
    hands.wait_for_colour("n > 300")
    page.wait_for_selector("[data-connection=on]")
    page.keyboard.press("g")
    hands.notice("slices were filled")


def test_work_that_was_not_submitted_is_taken_up_in_the_next_workstation(
    hands: Hands, hospital: RunningHospital, line: Cable, start: Callable[[], str]
) -> None:
    page, case = hands.page, hospital.drawn.split.train[2]
    index, boxed = box_on_largest_slice(hands, hospital, case)
    hands.tool("d", "paint")
    hands.drag((4, 4), (30, 4))
    hands.wait_for_colour(f"n > {boxed} + 500")
    address = start()
    page.wait_for_selector(AWAY)
    line.target = int(address.rsplit(":", 1)[1].split("/")[0])
    page.wait_for_selector("[data-link=other]")
    assert "started again" in page.inner_text(AWAY)
    page.goto(f"http://127.0.0.1:{line.port}/?token={address.split('token=')[1]}")
    page.wait_for_selector("[data-connection=on]")
    hands.open(case)
    hands.wait("() => document.querySelector('[data-notice] [data-do=notice]')")
    page.click("[data-notice] [data-do=notice]")
    hands.go_to(index)
    hands.wait_for_colour(f"n > {boxed} + 500")
    hands.wait("() => fedsca.views.Red.shown()?.box")
    page.keyboard.press("Control+Enter")
    hands.notice("Saved as")
    label = hospital.label(case)
    assert label[index, 4, 4:31].all(), "the stroke"
    low, high = box_around(hospital.truth(case), index)
    assert label[index, low[1] : high[1] + 1, low[0] : high[0] + 1].any(), "the box's mask"
