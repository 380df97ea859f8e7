"""From the click in the browser to the mask on its screen: real server, real workstation, headless Chromium.

    python -m benchmarks.workstation_click                          # a virtual CT of 512 x 512 x 120
    python -m benchmarks.workstation_click --volume FILE.nii.gz     # a volume of your own

On one slice (encoded ahead, as it is when somebody looks at it) a box is drawn, then a point is clicked in it, both are undone, and so on
at other places. The time is taken until pixels of the view's picture have changed and the browser has drawn them, all on the browser's own
clock: from the moment at which the box is complete (`pointerup`) or the point is clicked (`pointerdown`) to the animation frame after the
picture with the new mask was put on the canvas. A click that changes no pixel has no time: the same prompts are then sent to the server
once more, and what it answers is told in `why` (the untuned base may find nothing in a box, or keep its mask at a point).
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.label_server import LabelServer, label_server
from benchmarks.machine import machine
from benchmarks.virtual_volume import write_virtual_ct
from tests.slicer_extension.workstation.hands import Hands
from tests.slicer_extension.workstation.processes import browser, missing, workstation

# Watches the pictures of a view: what changed since the pointer went down, and when it was on the screen.
WATCH = """() => {
  const view = fedsca.views.Red, canvas = view.$refs.image, found = (window.measured = { down: 0, shown: 0, before: null });
  const look = () => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const surface = canvas.parentElement;
  const begin = () => { Object.assign(found, { down: performance.now(), shown: 0 }); };
  surface.addEventListener("pointerdown", begin, true);
  surface.addEventListener("pointerup", () => { if (view.panel.tool === "box") begin(); }, true);
  const draw = view.draw.bind(view);
  window.measured.rest = () => { found.before = look(); };
  fedsca.watch("Red", (bitmap, meta) => {
    draw(bitmap, meta);
    if (!found.down || found.shown || !found.before) return;
    const now = look(), was = found.before;
    let changed = 0;
    for (let n = 0; n < now.length; n += 4) changed += Math.abs((now[n] - now[n + 2]) - (was[n] - was[n + 2])) > 24;
    if (changed > 12) requestAnimationFrame(() => { found.shown = performance.now(); });
  });
}"""
MASK_SECONDS = 2.0  # a mask that is not there by then is late, or there is no change; which of the two, the answer tells
ANSWER_SECONDS = 60.0
WARM = 3  # rounds that are not counted
SIDE = 45  # half the box's side, pixels of the slice; on small slices a sixth of them


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volume", type=Path, help="a volume instead of the virtual one")
    parser.add_argument("--index", type=int, help="slice (k); by default the middle")
    parser.add_argument("--side", type=int, help="half the box's side in pixels; by default 45, on small slices a sixth of them")
    parser.add_argument("--clicks", type=int, default=50, help="boxes, and as many points")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    if missing():
        raise SystemExit(missing())
    before = machine()  # its load is that of others: nothing of ours runs yet
    with tempfile.TemporaryDirectory(prefix="fedsca-click-") as name:
        folder = Path(name)
        studies = folder / "studies"
        studies.mkdir()
        target = studies / "case1.nii.gz"
        if options.volume:
            shutil.copy(options.volume, target)
        else:
            write_virtual_ct(target, (512, 512, 120))
        conf = {"image_size": str(options.image_size), "tune": "false", "uncertainty": "false"}
        with label_server(studies, folder / "site", conf, folder / "server.log") as server:
            server.get("/fedsca/status")
            with workstation(folder / "workstation", "--server", server.address) as address, browser() as page:
                figures = {"machine": before, **measure(page, address, server, options)}
    print(json.dumps({name: value for name, value in figures.items() if name != "ms"}, indent=1))
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(page: Any, address: str, server: LabelServer, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one volume."""
    page.goto(address)
    page.wait_for_selector("[data-connection=on]")
    hands = Hands(page)
    began = time.monotonic()
    hands.open("case1")
    opened = time.monotonic() - began
    count = page.evaluate("fedsca.views.Red.meta.count")
    index = options.index if options.index is not None else count // 2
    page.evaluate("(index) => fedsca.gesture('Red', 'slice', index)", index)
    hands.wait("(n) => fedsca.views.Red.meta.index === n", index)
    page.evaluate(WATCH)
    server.wait_until_compiled()
    _settle(server)
    waits: dict[str, list[float]] = {"box": [], "point": []}
    without = {"box": 0, "point": 0}
    why: list[str] = []
    columns, rows = page.evaluate("[fedsca.views.Yellow.meta.count, fedsca.views.Green.meta.count]")
    side = options.side or min(SIDE, min(columns, rows) // 6)
    for number, (column, row) in enumerate(_places(columns, rows, options.clicks + WARM)):
        for tool, key in (("box", "b"), ("point", "p")):
            hands.tool(key, tool)
            page.wait_for_function("fedsca.views.Red.meta.exact")  # the view rests
            page.evaluate("window.measured.rest()")
            point = (column + (side // 2) * (number % 2), row)
            if tool == "box":
                hands.drag((column - side, row - side), (column + side, row + side))
            else:
                hands.click(*point)
            time_ms = _time_to_mask(page)
            if number >= WARM and time_ms is None:
                without[tool] += 1
                why.append(_why(server, (columns, rows), index, (column, row), side, point if tool == "point" else None))
            elif number >= WARM:
                waits[tool].append(time_ms)
        for _ in range(2):
            page.keyboard.press("Control+z")
        page.wait_for_function("!fedsca.views.Red.shown()?.points.length && !fedsca.views.Red.shown()?.box")
    return {
        "volume": page.evaluate("[fedsca.views.Yellow.meta.count, fedsca.views.Green.meta.count, fedsca.views.Red.meta.count]"),
        "picture": page.evaluate("fedsca.views.Red.size"),
        "box_side": 2 * side + 1,
        "image_size": options.image_size,
        "open_seconds": round(opened, 2),
        **{tool: _summary(times, without[tool]) for tool, times in waits.items()},
        "all": _summary([*waits["box"], *waits["point"]], sum(without.values())),
        "why": why,
        "render_ms": page.evaluate("fedsca.views.Red.meta.rendered"),
        "engine": server.get("/fedsca/status").get("engine"),
        "ms": waits,
    }


def _why(server: LabelServer, size: tuple[int, int], index: int, middle: tuple[int, int], side: int, point: tuple[int, int] | None) -> str:
    """What the server answers to the same prompts: why a click changed no pixel."""
    ends = [(max(place - side, 0), min(place + side, count - 1)) for place, count in zip(middle, size, strict=True)]
    roi = [*ends[0], *ends[1], index, index]
    prompts: dict[str, Any] = {"image": "case1", "index": index, "roi": roi}
    box = server.post("/fedsca/segment", prompts)
    if point is None:
        return f"box: the answer has {box['area']} pixels"
    after = server.post("/fedsca/segment", {**prompts, "foreground": [[*point, index]], "previous": box["result"]})
    changed = "changed" if after["change"] else "is the same"
    return f"point: the mask has {box['area']} pixels before and {after['area']} after, and {changed}"


def _time_to_mask(page: Any) -> float | None:
    """Milliseconds, None where the answer came and changed nothing. An answer that is late is waited for: it must count as slow."""
    from playwright.sync_api import TimeoutError as Late  # late: the benchmark says first what is missing

    for condition, seconds in (("false", MASK_SECONDS), ("!fedsca.views.Red.panel.busy", ANSWER_SECONDS), ("false", 1.0)):
        with contextlib.suppress(Late):
            page.wait_for_function(f"window.measured.shown > 0 || {condition}", timeout=1000 * seconds)
        if page.evaluate("window.measured.shown > 0"):
            return float(page.evaluate("window.measured.shown - window.measured.down"))
        if condition != "false" and page.evaluate("fedsca.views.Red.panel.busy"):
            raise SystemExit(f"No answer within {ANSWER_SECONDS:.0f} s.")
    return None


def _summary(times: list[float], without: int) -> dict[str, Any]:
    """Percentiles in ms."""
    ordered = np.array(times or [np.nan])
    figures = {"p50_ms": np.percentile(ordered, 50), "p95_ms": np.percentile(ordered, 95), "worst_ms": ordered.max()}
    return {"count": len(times), "without_change": without, **{name: round(float(value), 1) for name, value in figures.items()}}


def _places(columns: int, rows: int, count: int) -> list[tuple[int, int]]:
    """Pixels of the slice, spread over its middle."""
    rng = np.random.default_rng(0)
    places = rng.uniform((0.28, 0.3), (0.66, 0.66), (count, 2)) * (columns, rows)
    return [(int(column), int(row)) for column, row in places]


def _settle(server: LabelServer) -> None:
    """Until the slices around the one in view are encoded and the server rests."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if server.get("/fedsca/status")["prefetch"]["queued"] == 0:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
