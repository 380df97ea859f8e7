"""How long a radiologist waits for a click: in process and over HTTP, cold and warm, against PyTorch and against MONAI Label's way.

    fedsca bench click [--studies DIR --case NAME] [--json FILE]

Without --studies a virtual patient's CT of 512 x 512 x 300 voxels is made. The server is a real `monailabel start_server` with this app, on
loopback; with --conf it takes any of its settings. Run it on a machine that does nothing else: the load before it is recorded.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import click_over_http as http
from benchmarks.click_in_process import OWN, PLAIN, in_process
from benchmarks.label_server import label_server
from benchmarks.machine import machine
from benchmarks.timing import Timing
from benchmarks.virtual_volume import write_virtual_ct
from sam_adapters.image_names import image_extension
from sam_adapters.images import read_image
from sam_adapters.intensity_window import windowed
from sam_adapters.settings import SiteSettings

VIRTUAL_CASE = "virtual_ct"
TARGETS = {
    "HTTP: warm click": 80.0,
    "HTTP: cold slice": 600.0,
    "HTTP: warm click, 4 users at once": 250.0,
    "HTTP: GET /info/ during a volume run and clicks": 50.0,
    "HTTP: GET /info/ during a tuning and clicks": 50.0,
}
"""Largest p95 in ms on two cores without a GPU, LiteMedSAM at 256 px."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, show a table, write JSON."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    about = machine()
    with tempfile.TemporaryDirectory(prefix="fedsca-bench-") as scratch, _studies(options, Path(scratch)) as (studies, path):
        image = windowed(read_image(path), SiteSettings().window)
        case = path.name.removesuffix(image_extension(path) or "")
        console.print(f"{case}: {' x '.join(map(str, image.geometry.size))} voxels, network at {options.image_size} px")
        timings = in_process(image, SiteSettings(image_size=options.image_size), cold=options.cold, warm=options.warm, whole=options.whole)
        console.print("In process: measured. Starting the server.")
        conf = {"image_size": str(options.image_size), "tune_after": "0", "uncertainty": "false", "tune_steps": "500", **dict(options.conf)}
        with label_server(studies, Path(scratch) / "site", conf, Path(scratch) / "server.log") as server:
            compiled = server.wait_until_compiled()
            before = server.memory
            viewer = http.Viewer(server, case, image)
            timings.append(http.warm_clicks(viewer, options.warm))
            timings.append(http.cold_slices(viewer, options.cold))
            timings.append(http.first_click_after_opening(viewer, options.openings))
            timings.append(http.users_at_once(viewer, 4, options.warm))
            timings += http.during_a_volume(viewer, options.warm)
            if options.studies is None:
                timings += http.during_a_tuning(viewer, options.warm)
            status = server.get("/fedsca/status")
            memory = {"after_compiling": before, "at_the_end": server.memory}
    result = {
        "machine": about,
        "case": {"name": case, "size_ijk": list(image.geometry.size)},
        "image_size": options.image_size,
        "engine": status["engine"],
        "seconds_to_compile": round(compiled, 1),
        "memory_bytes": memory,
        "embeddings": status["embeddings"],
        "timings": [timing.to_dict() for timing in timings],
        "ratios": _ratios(timings),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _show(timings, result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedsca bench click", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, help="a MONAI Label datastore; left as it is (default: a virtual patient)")
    parser.add_argument("--case", help="its case to click on")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--image-size", type=int, default=256, help="side of the network's input (default: 256)")
    parser.add_argument("--cold", type=int, default=20, help="cold slices (default: 20)")
    parser.add_argument("--warm", type=int, default=60, help="warm clicks (default: 60)")
    parser.add_argument("--whole", type=int, default=8, help="clicks answered with a whole volume (default: 8)")
    parser.add_argument("--openings", type=int, default=10, help="openings of a case (default: 10)")
    parser.add_argument(
        "--conf", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"), help="setting of the server; may be repeated"
    )
    return parser


@contextmanager
def _studies(options: argparse.Namespace, scratch: Path) -> Iterator[tuple[Path, Path]]:
    """A studies folder that the server may write to, and the image in it."""
    studies = scratch / "studies"
    studies.mkdir()
    if options.studies is None:
        path = studies / f"{VIRTUAL_CASE}.nii"
        write_virtual_ct(path)
        _labelled_cases(studies)
        yield studies, path
        return
    found = [path for path in sorted(options.studies.iterdir()) if options.case and path.name.startswith(options.case + ".")]
    if not found:
        sys.exit(f"There is no case {options.case!r} in {options.studies}: name one with --case.")
    copy = studies / found[0].name
    shutil.copyfile(found[0], copy)
    yield studies, copy


def _labelled_cases(studies: Path, count: int = 8, side: int = 96) -> None:
    """Small labelled cases, so that there is something to tune on."""
    labels = studies / "labels" / "final"
    labels.mkdir(parents=True)
    rng = np.random.default_rng(0)
    k, j, i = np.mgrid[:6, :side, :side]
    for number in range(count):
        ball = (i - side / 2) ** 2 + (j - side / 2) ** 2 + 16 * (k - 3) ** 2 < rng.uniform(12, 30) ** 2
        voxels = (100 * ball + rng.normal(0, 20, ball.shape)).astype(np.int16).transpose()
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), studies / f"labelled_{number}.nii.gz")
        nib.save(nib.Nifti1Image(ball.astype(np.uint8).transpose(), np.eye(4)), labels / f"labelled_{number}.nii.gz")


def _ratios(timings: Sequence[Timing]) -> dict[str, float]:
    """How many times faster, by medians; and how much slower a tuning makes a click, by p95."""
    by_name = {timing.name: timing for timing in timings}
    engine = next(
        (name.removesuffix(": cold slice") for name in by_name if name.startswith("openvino") and name.endswith("cold slice")), None
    )
    whole = next(timing for name, timing in by_name.items() if name.startswith("MONAI Label's way"))
    ratios = {"MONAI Label's way / warm click over HTTP": whole.percentile(50) / by_name["HTTP: warm click"].percentile(50)}
    for torch_name in (PLAIN, OWN) if engine else ():
        for what in ("cold slice", "warm click"):
            if slower := by_name.get(f"{torch_name}: {what}"):
                ratios[f"{torch_name} / engine, {what}"] = slower.percentile(50) / by_name[f"{engine}: {what}"].percentile(50)
    if "HTTP: warm click during a tuning" in by_name:
        during, before = by_name["HTTP: warm click during a tuning"], by_name["HTTP: warm click, before the tuning"]
        ratios["warm click, with / without a tuning, p95"] = during.percentile(95) / before.percentile(95)
    return {name: round(value, 2) for name, value in ratios.items()}


def _show(timings: Sequence[Timing], result: dict[str, Any]) -> None:
    about = result["machine"]
    table = Table(title=f"{result['case']['name']}, {result['engine']}, {about['cores']} cores, load before {about['load_before'][0]}")
    for column in ("", "n", "p50 ms", "p95 ms", "max ms", "target p95"):
        table.add_column(column, justify="left" if not column else "right")
    for timing in timings:
        target = TARGETS.get(timing.name)
        shown = "" if target is None else f"{target:g} {'met' if timing.percentile(95) <= target else 'MISSED'}"
        values = [f"{timing.percentile(q):.0f}" for q in (50, 95, 100)]
        table.add_row(timing.name, str(len(timing.milliseconds)), *values, shown)
    Console().print(table)
    for name, value in result["ratios"].items():
        print(f"{name}: {value}")
    opened = next(timing for timing in timings if "first click" in timing.name)
    print(f"First click within 100 ms: {sum(value <= 100 for value in opened.milliseconds)} of {len(opened.milliseconds)}")
    print(f"Server's memory: {result['memory_bytes']['at_the_end'] / 2**20:.0f} MiB; embeddings {result['embeddings']}")


if __name__ == "__main__":
    main()
