"""Plots of a benchmark result, as SVG whose bytes depend on the figures alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.federated.configuration import MAIN
from benchmarks.federated.curves import curve
from benchmarks.federated.report import KIND_NAMES, NAMES, OURS, methods_of
from benchmarks.federated.statistics import by_site_and_seed, bytes_by_round, last_rounds, spread

STYLES = ("-", "--", ":", "-.")
SETTINGS = {"svg.hashsalt": "fedsca", "font.size": 8, "axes.grid": True, "grid.alpha": 0.3}


def write_plots(result: Mapping[str, Any], folder: Path, stem: str) -> dict[str, Path]:
    """Title -> file, for every plot that there are figures for."""
    there = list(dict.fromkeys(unit["arm"] for unit in result["units"]))
    arm = MAIN if MAIN in there or not there else there[0]
    figures: dict[str, Figure] = {}
    with mpl.rc_context(SETTINGS):
        for kind in result["configuration"]["kinds"]:
            figures[f"Dice over rounds, {KIND_NAMES[kind]}"] = over_rounds(result, arm, kind)
            figures[f"Dice against bytes, {KIND_NAMES[kind]}"] = against_bytes(result, arm, kind)
        similarity = similarity_over_rounds(result, arm)
        if similarity is not None:
            figures["Own weight in the mixture and distances over rounds"] = similarity
        return {title: _save(figure, folder / f"{stem}-{_slug(title)}.svg") for title, figure in figures.items()}


def over_rounds(result: Mapping[str, Any], arm: str, kind: str) -> Figure:
    """One panel a site, one line a method; mean over seeds. The base, far below, stands in the title."""
    sites, units = list(result["sites"]), result["units"]
    figure = Figure(figsize=(3 * len(sites), 3.4), layout="constrained")
    axes = figure.subplots(1, len(sites), sharey=True, squeeze=False)[0]
    for axis, site in zip(axes, sites, strict=True):
        title = site
        for number, method in enumerate(methods_of(units, arm)):
            curves = [dice for (one, _), dice in curve(units, arm, method, kind).items() if one == site]
            rounds = sorted({number for dice in curves for number in dice})
            values = [float(np.mean([dice[number] for dice in curves if number in dice])) for number in rounds]
            if method == "base":
                title += f" (base {values[0]:.3f})" if values else ""
                continue
            style = {"color": f"C{number % 10}", "linewidth": 2.4 if method in OURS else 1.0}
            axis.plot(rounds, values, STYLES[number % len(STYLES)], marker=".", label=_plain(method), **style)
        axis.set(title=title, xlabel="round")
        axis.set_xticks(range(1, result["configuration"]["rounds"] + 1))
    axes[0].set_ylabel(f"Dice, {KIND_NAMES[kind]}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


def against_bytes(result: Mapping[str, Any], arm: str, kind: str) -> Figure:
    """Mean Dice over sites against what a site sends and receives in all rounds; bars: standard deviation over seeds. Without the base."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.subplots()
    for number, method in enumerate(methods_of(result["units"], arm)):
        last = last_rounds(result["units"], arm, method)
        found = by_site_and_seed(last, kind)
        means = [np.mean([value for (_, one), value in found.items() if one == seed]) for seed in sorted({seed for _, seed in found})]
        if means and method != "base":
            size = bytes_by_round(last) * result["configuration"]["rounds"] / 1000
            marker = "D" if method in OURS else "o"
            axis.errorbar(size, np.mean(means), yerr=spread(means)[1], fmt=marker, color=f"C{number % 10}", label=_plain(method), capsize=3)
    axis.set(xlabel="kB of a site, all rounds, both ways", ylabel=f"mean Dice over sites, {KIND_NAMES[kind]}")
    figure.legend(loc="outside right center")
    return figure


def similarity_over_rounds(result: Mapping[str, Any], arm: str) -> Figure | None:
    """FedSCA's weight of each site in its own mixture, and the distances that it measured; mean over seeds."""
    units = [unit for unit in result["units"] if unit["arm"] == arm and unit["method"] == "fedsca" and unit.get("distance")]
    if not units:
        return None
    figure = Figure(figsize=(8, 3), layout="constrained")
    weights, distances = figure.subplots(1, 2)
    rounds = sorted({unit["round"] for unit in units})
    for site in result["sites"]:
        own = [np.mean([unit["weights"][site].get(site, 0.0) for unit in units if unit["round"] == one]) for one in rounds]
        weights.plot(rounds, own, marker=".", label=site)
    for first, second in _pairs(units[0]["givers"]):
        values = [_mean_distance([unit for unit in units if unit["round"] == one], first, second) for one in rounds]
        distances.plot(rounds, values, marker=".", label=f"{first} - {second}")
    weights.set(title="own weight in the mixture", xlabel="round", ylim=(0, 1.02))
    distances.set(title="distance D of the gradients", xlabel="round")
    for axis in (weights, distances):
        axis.set_xticks(rounds)
        axis.legend(fontsize=6)
    return figure


def _mean_distance(units: Sequence[Mapping[str, Any]], first: str, second: str) -> float:
    values = []
    for unit in units:
        if first in unit["givers"] and second in unit["givers"]:
            value = unit["distance"][unit["givers"].index(first)][unit["givers"].index(second)]
            values.append(np.nan if value is None else value)
    return float(np.mean(values)) if values else float("nan")


def _pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    return [(first, second) for number, first in enumerate(names) for second in names[number + 1 :]]


def _plain(method: str) -> str:
    return NAMES[method].replace("**", "")


def _slug(title: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in title.lower()).split())


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    return path
