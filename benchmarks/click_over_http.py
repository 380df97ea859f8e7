"""Clicks as a radiologist's viewer sends them: over HTTP, to a real server, with prefetching, other users, a volume run and a tuning."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from benchmarks.clicks import Click, spread_clicks
from benchmarks.label_server import LabelServer
from benchmarks.timing import Timing, elapsed, measure
from sam_adapters.images import MedicalImage

QUIET_SECONDS = 120.0
CLICK_PAUSE = 0.3
ASK_PAUSE = 0.1
TUNING_SECONDS = 240.0


@dataclass(frozen=True)
class Viewer:
    """One viewer of one case on a server."""

    server: LabelServer
    case: str
    image: MedicalImage

    def click(self, click: Click, session: requests.Session | None = None) -> None:
        """Send a click and read the answer."""
        self.server.post("/fedsca/segment", click.body(self.case), session)

    def quiet(self) -> None:
        """Wait until nothing is prefetched any more; raises RuntimeError if that takes too long."""
        _until(lambda: not self.server.get("/fedsca/status")["prefetch"]["viewers"], QUIET_SECONDS, "prefetching to end")


def cold_slices(viewer: Viewer, count: int) -> Timing:
    """First clicks on slices far from each other, each when nothing else is going on."""
    times = []
    for click in spread_clicks(viewer.image, count, seed=2, first=0.05, last=0.95):
        viewer.quiet()
        times.append(elapsed(lambda click=click: viewer.click(click)))
    return Timing("HTTP: cold slice", tuple(times))


def warm_clicks(viewer: Viewer, count: int, name: str = "HTTP: warm click") -> Timing:
    """Further clicks on one slice."""
    clicks = _clicks_on_one_slice(viewer.image, count, seed=3)
    viewer.click(clicks[0])
    viewer.quiet()
    return measure(name, clicks, viewer.click)


def first_click_after_opening(viewer: Viewer, count: int, open_seconds: float = 5.0) -> Timing:
    """A case is opened at a slice, looked at for some seconds, then clicked on up to three slices further."""
    times = []
    for number, click in enumerate(spread_clicks(viewer.image, count, seed=4, first=0.08, last=0.92)):
        viewer.quiet()
        shown = click.index + (-3, 2, 0, 1, -1)[number % 5]
        viewer.server.post("/fedsca/prefetch", {"image": viewer.case, "axis": "k", "index": shown, "viewer": "opening"})
        time.sleep(open_seconds)
        viewer.server.session.close()  # plain MONAI Label closes a connection after 5 idle seconds: it might be just then
        times.append(elapsed(lambda click=click: viewer.click(click)))
        viewer.server.session.delete(viewer.server.address + "/fedsca/prefetch", params={"viewer": "opening"}, timeout=60)
    return Timing(f"HTTP: first click, case open for {open_seconds:g} s", tuple(times))


def users_at_once(viewer: Viewer, users: int, each: int) -> Timing:
    """Several users, each clicking on a slice of their own as fast as the answers come."""
    starts = spread_clicks(viewer.image, users, seed=5)
    times: list[float] = []
    barrier = threading.Barrier(users)

    def work(number: int) -> None:
        session = requests.Session()
        viewer.click(starts[number], session)
        barrier.wait(QUIET_SECONDS)
        if number == 0:
            viewer.quiet()
        barrier.wait(QUIET_SECONDS)
        for _ in range(each):
            times.append(elapsed(lambda: viewer.click(starts[number], session)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Timing(f"HTTP: warm click, {users} users at once", tuple(times))


def during_a_volume(viewer: Viewer, count: int) -> list[Timing]:
    """Warm clicks, and `GET /info/`, while a whole volume is segmented."""
    click = _clicks_on_one_slice(viewer.image, 1, seed=6)[0]
    viewer.click(click)
    viewer.quiet()
    job = viewer.server.post("/fedsca/volume", {"image": viewer.case, "axis": "k"})["job"]
    try:
        with information(viewer.server, "HTTP: GET /info/ during a volume run and clicks") as info:
            timing = _paced("HTTP: warm click during a volume run", viewer, click, count)
        state = viewer.server.get(f"/fedsca/jobs/{job}")["state"]
        if state not in ("queued", "running"):
            raise RuntimeError(f"The volume run ended ({state}) before the clicks did: take a larger case.")
    finally:
        viewer.server.session.delete(f"{viewer.server.address}/fedsca/jobs/{job}", timeout=60)
    return [timing, info()]


def during_a_tuning(viewer: Viewer, count: int) -> list[Timing]:
    """Warm clicks and cold slices without and with a tuning, which is stopped afterwards."""
    click = _clicks_on_one_slice(viewer.image, 1, seed=7)[0]
    viewer.click(click)
    viewer.quiet()
    without = _paced("HTTP: warm click, before the tuning", viewer, click, count)
    viewer.server.post("/train/sam", {})
    try:
        _until(lambda: _steps_done(viewer.server) >= 1, TUNING_SECONDS, "the tuning to begin")
        with information(viewer.server, "HTTP: GET /info/ during a tuning and clicks") as info:
            during = _paced("HTTP: warm click during a tuning", viewer, click, count)
        if not viewer.server.get("/fedsca/status")["tuning"]["running"]:
            raise RuntimeError("The tuning ended before the clicks did: give it more steps.")
    finally:
        viewer.server.session.delete(f"{viewer.server.address}/train/", timeout=60)
    return [without, during, info()]


@contextmanager
def information(server: LabelServer, name: str) -> Iterator[Callable[[], Timing]]:
    """Asks `GET /info/` again and again meanwhile; the yielded function gives the times afterwards."""
    stop, times = threading.Event(), []

    def ask() -> None:
        session = requests.Session()
        while not stop.wait(ASK_PAUSE):
            times.append(elapsed(lambda: session.get(server.address + "/info/", timeout=60).raise_for_status()))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield lambda: Timing(name, tuple(times))
    finally:
        stop.set()
        thread.join()


def _paced(name: str, viewer: Viewer, click: Click, count: int) -> Timing:
    """The same click again and again, as quickly as a person clicks: what else the server does goes on in between."""
    times = []
    for _ in range(count):
        times.append(elapsed(lambda: viewer.click(click)))
        time.sleep(CLICK_PAUSE)
    return Timing(name, tuple(times))


def _clicks_on_one_slice(image: MedicalImage, count: int, seed: int) -> list[Click]:
    first = spread_clicks(image, 3, seed=seed)[0]
    return [Click(first.axis, first.index, first.x + number % 7, first.y + number % 5, number % 2 == 1) for number in range(count)]


def _steps_done(server: LabelServer) -> int:
    progress = server.get("/fedsca/status")["tuning"]["progress"]
    return int(progress["step"]) if progress and progress.get("status") == "running" else 0


def _until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Waited {seconds:g} s for {what}.")
        time.sleep(0.1)
