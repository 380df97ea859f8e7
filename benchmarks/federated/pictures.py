"""Example masks of a benchmark, for the eye: each hospital's first test cases, the target and what the methods made of them.

They show patients, so they are for whoever has the data, and no part of a result file.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.federated.configuration import MAIN, Configuration
from benchmarks.federated.hospitals import Hospital, find_hospitals, image_spacing, scored_cases
from benchmarks.federated.product_round import active_folder
from benchmarks.federated.report import KIND_NAMES, NAMES
from benchmarks.federated.scoring import Mask, TestSlice, read_test_case
from benchmarks.federated.work_folder import read_configuration, trial_folder
from benchmarks.federated.workbench import site_settings, with_adapters
from sam_adapters.errors import SettingError
from sam_adapters.loading import load_adapted
from sam_adapters.prompts import SlicePrompts
from sam_adapters.segmenter import Segmenter
from sam_adapters.site_directory import SiteDirectory

METHODS = ("base", "local", "fedavg-all", "fedsca", "fedsca-gate", "pooled")
"""Shown, where the work folder has them; all of one layout of adapters."""
CASES = 3
AROUND = 0.5
"""How much of the target's larger side is shown around it."""


def write_pictures(root: Path, work: Path, folder: Path, *, seed: int = 0) -> list[Path]:
    """One PNG a hospital and kind of prompt, with the adapters of the last finished round of one seed.

    Args:
        root: folder of hospitals.
        work: work folder of a run of `fedsca bench federated`.
        folder: where the pictures go.

    Raises:
        SettingError: it is no work folder, or has no finished round of that seed.
    """
    configuration = read_configuration(work)
    trials = {method: _last_round(trial_folder(work, MAIN, seed, method)) for method in METHODS}
    there = {method: place for method, place in trials.items() if place is not None}
    if not there:
        raise SettingError(f"{work} has no finished round of seed {seed} in its arm {MAIN}: run the benchmark first, or name another seed.")
    return [path for hospital in find_hospitals(root) for path in _of_hospital(hospital, there, configuration, seed, folder)]


def _last_round(trial: Path) -> Path | None:
    rounds = sorted(trial.glob("round-*"), key=lambda one: int(one.name.removeprefix("round-"))) if trial.is_dir() else []
    return rounds[-1] if rounds else None


def _of_hospital(hospital: Hospital, trials: dict[str, Path], configuration: Configuration, seed: int, folder: Path) -> list[Path]:
    settings = site_settings(configuration, hospital.name, seed)
    cases = [
        read_test_case(
            case,
            image_spacing(case, hospital),
            kinds=configuration.kinds,
            slices=1,
            label_value=configuration.label_value,
            window=settings.window,
            seed=seed,
            inverted=hospital.name == configuration.inverted_site,
        )
        for case in scored_cases(hospital, configuration, seed)[:CASES]
    ]
    slices = {case.name: case.slices[0] for case in cases if case.slices}
    adapted = load_adapted(settings)
    masks: dict[tuple[str, str, str], Mask] = {}
    for method, place in trials.items():
        with_adapters(adapted, _adapters(method, place, hospital.name))
        segmenter = Segmenter(adapted, version=method, device=settings.device)
        for name, one in slices.items():
            embedding = segmenter.encode(one.pixels)
            for kind in configuration.kinds:
                masks[method, name, kind] = np.asarray(segmenter.decode(embedding, one.prompts[kind]).logits > 0)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in configuration.kinds:
        path = folder / f"masks-{hospital.name}-{kind}.png"
        shown = {name: {method: masks[method, name, kind] for method in trials} for name in slices}
        figure = _figure(f"{hospital.name}, {KIND_NAMES[kind]}, seed {seed}", slices, shown, kind)
        FigureCanvasAgg(figure).print_png(str(path))
        written.append(path)
    return written


def _adapters(method: str, place: Path, site: str) -> Path | None:
    if method == "base":
        return None
    if method == "pooled":
        return place / "pooled"
    if method.startswith("fedsca"):
        return active_folder(SiteDirectory.open(place / "federation" / site))
    return place / site


def _figure(title: str, slices: dict[str, TestSlice], masks: dict[str, dict[str, Mask]], kind: str) -> Figure:
    """A row a case, a column a method: the target's outline green, the method's mask orange, the prompt white."""
    methods = list(next(iter(masks.values())))
    figure = Figure(figsize=(2.2 * len(methods), 2.4 * len(slices) + 0.4), layout="constrained")
    grid = figure.subplots(len(slices), len(methods), squeeze=False)
    for row, (name, one) in zip(grid, slices.items(), strict=True):
        for axis, method in zip(row, methods, strict=True):
            axis.imshow(_grey(one.pixels), cmap="gray", interpolation="nearest")
            axis.contour(one.target, [0.5], colors=["#00c853"], linewidths=0.9)
            mask = masks[name][method]
            if mask.any() and not mask.all():
                axis.contour(mask, [0.5], colors=["#ff9100"], linewidths=0.9)
            _draw_prompt(axis, one.prompts[kind])
            overlap = 2 * np.count_nonzero(mask & one.target) / max(1, np.count_nonzero(mask) + np.count_nonzero(one.target))
            axis.set_title(f"{NAMES[method].replace('**', '')}: {overlap:.2f}", fontsize=6)
            _look_at(axis, one)
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name, fontsize=6)
    figure.suptitle(f"{title}: target green, mask orange", fontsize=8)
    return figure


def _look_at(axis: Any, one: TestSlice) -> None:
    """Show the target with some of what is around it; rows run downwards."""
    rows, columns = np.nonzero(one.target)
    margin = AROUND * max(np.ptp(rows), np.ptp(columns)) + 2
    height, width = one.target.shape
    axis.set_xlim(max(-0.5, columns.min() - margin), min(width - 0.5, columns.max() + margin))
    axis.set_ylim(min(height - 0.5, rows.max() + margin), max(-0.5, rows.min() - margin))


def _draw_prompt(axis: Any, prompts: SlicePrompts) -> None:
    if prompts.box is not None:
        x0, y0, x1, y1 = prompts.box
        axis.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", linewidth=0.6, linestyle=":")
    for x, y, _ in prompts.points:
        axis.plot([x], [y], marker="+", color="white")


def _grey(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """Grey as it is; colours as bytes."""
    return pixels if pixels.ndim == 2 else np.clip(pixels, 0, 255).astype(np.uint8)
