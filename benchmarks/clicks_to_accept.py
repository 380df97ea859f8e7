"""How many clicks a radiologist needs: Dice after a box and after 1, 3 and 5 corrective clicks, and clicks until Dice 0.85.

    fedsca bench clicks-to-accept --studies DIR [--version FOLDER] [--studies DIR --version FOLDER ...] [--test] [--json FILE]

Each target (a label value of a case) is worked on where it is largest along k, as one would begin a case. A box around the target, off by
up to a tenth of its size as drawn boxes are (seeded), gives the first mask; then each click goes into the middle of the largest wrong
region, with the mask before as prompt where the server would use it, and box and all clicks together are sent again. Beside it: the same
with clicks only, and the box filled, which is what the box alone is worth. The base and, with --version, a tuned version (a PEFT folder)
work on the same slices with the same boxes.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine
from monailabel_app.segment_request import learns_from_masks
from sam_adapters.adapter_files import read_schema
from sam_adapters.dice import dice
from sam_adapters.errors import FedscaError
from sam_adapters.image_names import image_extension
from sam_adapters.images import read_image, read_label
from sam_adapters.intensity_window import windowed
from sam_adapters.loading import load_segmenter
from sam_adapters.openvino_runner import OpenVinoRunner, openvino_installed
from sam_adapters.prompts import SlicePrompts, tight_box
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import PROMPT_KINDS, SiteSettings
from sam_adapters.simulated_prompts import apply_box_jitter, corrective_click, draw_box_jitter

ACCEPTED = 0.85
MOST_CLICKS = 10
SHOWN = (0, 1, 3, 5)
LEAST_PIXELS = 20


@dataclass(frozen=True)
class Target:
    """One structure of one case, on the slice where it is largest. `site` is the folder that holds the studies."""

    site: str
    case: str
    value: int
    index: int
    pixels: NDArray[np.generic]
    mask: NDArray[np.bool_]


@dataclass(frozen=True)
class Work:
    """What a version made of one target.

    Attributes:
        start: `box` or `click`, what the work begins with.
        dice: after the box (or first click) and after each further click; as many as were given.
        clicks: clicks until Dice 0.85; None if `MOST_CLICKS` did not do it. A box counts as none.
        filled: Dice of the box filled.
    """

    site: str
    case: str
    value: int
    index: int
    version: str
    start: str
    dice: tuple[float, ...]
    clicks: int | None
    filled: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Work on every target with every version; table and JSON."""
    options = _parser().parse_args(arguments)
    if options.version and len(options.version) != len(options.studies):
        sys.exit(f"{len(options.studies)} --studies with {len(options.version)} --version: give each its own, or none.")
    works: list[Work] = []
    for studies, version in zip(options.studies, options.version or [None] * len(options.studies), strict=True):
        targets = list(_targets(studies, _wanted(studies, options), options.value))
        if not targets:
            sys.exit(f"No labelled case in {studies}: expected <case>.<ext> with labels/final/<case>.<ext>.")
        for name, folder in {"base": None, **({"tuned": version} if version else {})}.items():
            works += _work_on_all(name, folder, targets, options)
    if options.json:
        value = {"machine": machine(), "image_size": options.image_size, "seed": options.seed, "works": [asdict(work) for work in works]}
        options.json.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    _show(works)


def _work_on_all(name: str, folder: Path | None, targets: Sequence[Target], options: argparse.Namespace) -> list[Work]:
    segmenter = load_segmenter(_settings(folder, options.image_size), folder, name)
    if segmenter.device.type == "cpu" and openvino_installed():
        segmenter.runner = OpenVinoRunner(segmenter.adapted.network)
    shown = track(targets, description=f"{name}, {segmenter.engine_name}", console=Console(stderr=True))
    return [work_on(segmenter, target, start, options.seed) for target in shown for start in ("box", "click")]


def _settings(version: Path | None, image_size: int) -> SiteSettings:
    """Settings with the layout of a version, whatever is usual today."""
    if version is None:
        return SiteSettings(image_size=image_size)
    schema = read_schema(version)
    return SiteSettings(image_size=image_size, rank=schema.rank, shared_depth=schema.shared_depth, shared_decoder=schema.shared_decoder)


def _wanted(studies: Path, options: argparse.Namespace) -> list[str]:
    """Names of the cases to work on; empty for all."""
    if not options.test:
        return list(options.case)
    split = studies.parent / "split.json"
    if not split.exists():
        sys.exit(f"--test wants {split} with a list of test cases: there is none.")
    return [str(case) for case in json.loads(split.read_text(encoding="utf-8"))["test"]]


def work_on(segmenter: Segmenter, target: Target, start: str, seed: int) -> Work:
    """Give prompts until the mask is good or patience ends."""
    # the same box for every version, whatever the order of the work
    rng = np.random.default_rng([seed, target.index, target.value, *target.case.encode()])
    box = apply_box_jitter(tight_box(target.mask), draw_box_jitter(rng), target.mask.shape)  # type: ignore[arg-type]
    embedding = segmenter.encode(target.pixels)
    masks = learns_from_masks(segmenter.base, segmenter.version, PROMPT_KINDS)  # as the server does
    points: list[tuple[float, float, int]] = []
    reached: list[float] = []
    decoded = None
    for number in range(MOST_CLICKS + 1):
        if number or start == "click":
            before = np.zeros_like(target.mask) if decoded is None else decoded.mask
            click = corrective_click(before, target.mask)
            if click is None:
                break
            points.append((float(click[0]), float(click[1]), click[2]))
        prompts = SlicePrompts(tuple(points), box if start == "box" else None, decoded.low_res if decoded is not None and masks else None)
        decoded = segmenter.decode(embedding, prompts)
        reached.append(dice(decoded.mask, target.mask))
    needed = next((number for number, value in enumerate(reached) if value >= ACCEPTED), None)
    if needed is not None and start == "click":
        needed += 1
    filled = np.zeros_like(target.mask)
    x0, y0, x1, y1 = (round(side) for side in box)
    filled[y0 : y1 + 1, x0 : x1 + 1] = True
    rounded = tuple(round(value, 4) for value in reached)
    return Work(
        target.site, target.case, target.value, target.index, segmenter.version, start, rounded, needed, round(dice(filled, target.mask), 4)
    )


def _targets(studies: Path, cases: Sequence[str], value: int) -> Iterator[Target]:
    for path in sorted((studies / "labels" / "final").iterdir()):
        case = path.name.removesuffix(image_extension(path) or "")
        images = [image for image in sorted(studies.glob(f"{case}.*")) if image_extension(image)]
        if (cases and case not in cases) or not images:
            continue
        try:
            image = windowed(read_image(images[0]), SiteSettings().window)
            label = read_label(path, like=image)
        except FedscaError as error:
            print(f"{case} is left out: {error}", file=sys.stderr)
            continue
        values = [number for number in np.unique(label).tolist() if number and (not value or number == value)]
        for number in values:
            mask = label == number
            index = int(np.argmax(mask.sum(axis=(1, 2))))
            if mask[index].sum() >= LEAST_PIXELS:
                yield Target(studies.parent.name, case, int(number), index, image.array[index], mask[index])


def _show(works: Sequence[Work]) -> None:
    table = Table(title=f"Mean Dice over targets; clicks: mean of the targets that reached {ACCEPTED} with at most {MOST_CLICKS}")
    for column in ("", "version", "begins with", "n", "box filled", *(f"+{number}" for number in SHOWN), f"reached {ACCEPTED}", "clicks"):
        table.add_column(column, justify="left" if column in ("", "version", "begins with") else "right")
    sites = list(dict.fromkeys(work.site for work in works))
    for site in [*sites, "all"] if len(sites) > 1 else sites:
        for version in dict.fromkeys(work.version for work in works):
            for start in ("box", "click"):
                chosen = [work for work in works if work.version == version and work.start == start and site in (work.site, "all")]
                if chosen:
                    table.add_row(site, version, start, *_row(chosen))
        table.add_section()
    Console(width=140).print(table)


def _row(works: Sequence[Work]) -> list[str]:
    means = [np.mean([work.dice[min(number, len(work.dice) - 1)] for work in works]) for number in SHOWN]
    reached = [work.clicks for work in works if work.clicks is not None]
    filled = f"{np.mean([work.filled for work in works]):.3f}" if works[0].start == "box" else ""
    clicks = f"{np.mean(reached):.1f}" if reached else "-"
    return [str(len(works)), filled, *(f"{value:.3f}" for value in means), f"{len(reached)} of {len(works)}", clicks]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedsca bench clicks-to-accept", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--studies", type=Path, action="append", required=True, help="a MONAI Label datastore with labels in labels/final; may be repeated"
    )
    parser.add_argument("--case", action="append", default=[], help="only this case; may be repeated")
    parser.add_argument("--value", type=int, default=0, help="only this label value (default: each value is a target of its own)")
    parser.add_argument(
        "--version", type=Path, action="append", help="folder of a tuned version, compared with the base; one for each --studies"
    )
    parser.add_argument("--test", action="store_true", help="only the test cases of the split.json beside the studies")
    parser.add_argument("--image-size", type=int, default=256, help="side of the network's input (default: 256)")
    parser.add_argument("--seed", type=int, default=0, help="draws the boxes (default: 0)")
    parser.add_argument("--json", type=Path, help="write every target's work to this file")
    return parser


if __name__ == "__main__":
    main()
