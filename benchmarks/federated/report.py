"""Tables and plots of benchmark results.

    fedsca bench report F.json [G.json …] [--out DIR [--pictures WORK --root HOSPITALS]]

Several files of one budget and the same hospitals are put together (say, the experiments main and rules). Without --out the tables go to
the terminal; with it to DIR/<first file's name>.md, with the plots beside it as SVG. --pictures draws example masks of every hospital into
DIR/pictures, with the adapters that the run left in its work folder. They show patients: keep them where the data is.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.federated.configuration import MAIN
from benchmarks.federated.curves import FALL, reached, steadiness
from benchmarks.federated.statistics import (
    Unit,
    by_site_and_seed,
    bytes_by_round,
    compare,
    gap_closed,
    last_rounds,
    spread,
)
from benchmarks.federated.variations import variations
from sam_adapters.errors import FedscaError

NAMES = {
    "filled": "box filled, no network",
    "base": "base, untuned",
    "local": "local only",
    "pooled": "pooled (upper reference)",
    "fedavg-all": "FedAvg, all adapters",
    "fedavg-shared": "FedAvg, shared only",
    "fedavg-top-10": "FedAvg, shared only, the tenth of the values that changed most",
    "fedavg-low": "FedAvg, half of the encoder's bytes nearest the pixels",
    "fedavg-high": "FedAvg, half of the encoder's bytes farthest from them",
    "fedprox": "FedProx, all adapters",
    "fedbn": "FedBN-like, layer norms local",
    "heurfedamp": "HeurFedAMP",
    "pfedgraph": "pFedGraph",
    "cosine-chi2": "cosine of B, χ² prior",
    "flap-sam": "FLAP-SAM-like",
    "fedsca": "**FedSCA**, without gate",
    "fedsca-gate": "**FedSCA**, with gate",
}
OURS = ("fedsca", "fedsca-gate")
KIND_NAMES = {"box": "box", "point": "one point", "none": "no prompt"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read results, write tables and plots."""
    parser = argparse.ArgumentParser(prog="fedsca bench report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="results of `fedsca bench federated`")
    parser.add_argument("--out", type=Path, help="folder for tables and plots (default: tables to the terminal)")
    parser.add_argument("--pictures", type=Path, metavar="WORK", help="work folder of the run: also draw example masks (for your eyes)")
    parser.add_argument("--root", type=Path, help="the folder of hospitals, for --pictures")
    parser.add_argument("--seed", type=int, default=0, help="whose adapters are pictured (default: 0)")
    options = parser.parse_args(arguments)
    if options.pictures and not (options.out and options.root):
        parser.error("--pictures needs --out, where the pictures go, and --root, the folder of hospitals")
    try:
        result = merged([json.loads(path.read_text(encoding="utf-8")) for path in options.results])
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{', '.join(map(str, options.results))} cannot be reported: {error}")
    if options.out is None:
        print(markdown(result))
        return
    from benchmarks.federated.plots import write_plots

    options.out.mkdir(parents=True, exist_ok=True)
    stem = options.results[0].stem
    plots = write_plots(result, options.out, stem)
    text = markdown(result) + "".join(f"\n![{title}]({path.name})\n" for title, path in plots.items())
    (options.out / f"{stem}.md").write_text(text, encoding="utf-8")
    print(f"{options.out / stem}.md and {len(plots)} plots.")
    if options.pictures:
        _draw(options.root, options.pictures, options.out / "pictures", options.seed)


def _draw(root: Path, work: Path, folder: Path, seed: int) -> None:
    from benchmarks.federated.pictures import write_pictures

    try:
        written = write_pictures(root.resolve(), work.resolve(), folder, seed=seed)
    except FedscaError as error:
        sys.exit(f"{error}")
    print(f"{len(written)} pictures in {folder}. They show patients: keep them where the data is.")


def merged(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of several; the first one's description stands.

    Raises:
        ValueError: other hospitals or another budget.
    """
    first = results[0]
    for other in results[1:]:
        if (other["configuration"], other["sites"]) != (first["configuration"], first["sites"]):
            raise ValueError("the files are of different hospitals or budgets: report each on its own.")
    machines = [machine for result in results for machine in machines_of(result)]
    units = {}
    before = 0
    for result in results:
        for unit in result["units"]:
            units[unit["arm"], unit["method"], unit["seed"], unit["round"]] = {**unit, "machine": before + unit.get("machine", 0)}
        before += len(machines_of(result))
    return {
        **first,
        "machines": machines,
        "complete": all(result["complete"] for result in results),
        "arms": {name: arm for result in results for name, arm in result["arms"].items()},
        "units": list(units.values()),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """Every table."""
    parts = [f"# {result['root']}, preset {result['preset']}\n", _about(result)]
    parts += [_variations(result, kind) for kind in result["configuration"]["kinds"]]
    for arm in sorted(dict.fromkeys(unit["arm"] for unit in result["units"]), key=lambda name: name != MAIN):
        parts.append(f"\n## {arm}\n")
        kinds = result["configuration"]["kinds"]
        for kind in kinds:
            parts += [_scores_table(result, arm, kind, "dice"), _scores_table(result, arm, kind, "hd95")]
        parts += [_tests(result["units"], arm, kinds), _gap(result, arm, kinds), _over_rounds(result["units"], arm, kinds)]
        parts.append(_verdicts(result["units"], arm))
    return "\n".join(part for part in parts if part) + "\n"


def _about(result: Mapping[str, Any]) -> str:
    wanted = result["configuration"]
    used = {unit.get("machine", 0) for unit in result["units"]}
    machines = dict.fromkeys(
        f"{one['processor']}, {one['cores']} cores, GPU: {one['gpu'] or 'none'}; commit {one['commit']}"
        for number, one in enumerate(machines_of(result))
        if number in used
    )
    seeds = sorted({unit["seed"] for unit in result["units"]})
    sites = "; ".join(f"{site}: {one['train']} train, {one['test']} test" for site, one in result["sites"].items())
    complete = "" if result["complete"] else " **Not complete yet.**"
    return (
        f"{wanted['image_size']} px, {wanted['rounds']} rounds of {wanted['steps']} steps of {wanted['batch_size']} slices a site, "
        f"seeds {', '.join(map(str, seeds))}. Cases: {sites}. At most {wanted['test_slices'] or 'all'} slices of a test case.\n"
        f"{'. '.join(machines)}.{complete}\n"
    )


def machines_of(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The machines of a result; files of schema 1 have one."""
    return list(result.get("machines") or [result["machine"]])


def methods_of(units: Iterable[Unit], arm: str) -> list[str]:
    """Methods of an arm, in the tables' order."""
    there = {unit["method"] for unit in units if unit["arm"] == arm}
    return [method for method in NAMES if method in there]


def _variations(result: Mapping[str, Any], kind: str) -> str:
    """Every arm and method in one table; nothing where there is one arm."""
    lines = []
    for one in variations(result, kind, methods_of):
        mean = f"{one.mean:.3f} ± {one.deviation:.3f}" if one.seeds > 1 else f"{one.mean:.3f}"
        usual = ["", ""] if one.unvaried is None else [f"{one.unvaried.difference:+.3f}", f"{one.unvaried.permutation:.2f}"]
        odd = "" if one.odd is None else f"{one.odd[1]:+.3f} ({one.odd[0]})"
        lines.append(table_row([one.arm, NAMES[one.method], mean, str(one.seeds), *usual, odd, f"{one.kilobytes:.0f}"]))
    if not lines:
        return ""
    head = [
        "variation",
        "method",
        "mean of sites",
        "seeds",
        "against nothing varied",
        "p (permutation)",
        "the odd site - local",
        "kB a site and round",
    ]
    return (
        "\n".join([f"\n## All variations, Dice, {KIND_NAMES[kind]}\n", table_row(head), table_row(["---", "---", *["---:"] * 6]), *lines])
        + "\n"
    )


def _scores_table(result: Mapping[str, Any], arm: str, kind: str, metric: str) -> str:
    sites, units = list(result["sites"]), result["units"]
    title = f"{'Dice' if metric == 'dice' else 'HD95 (mm; pixels for pictures)'}, {KIND_NAMES[kind]}: mean ± standard deviation over seeds"
    lines = [f"### {title}\n", table_row(["", *sites, "mean of sites", "worst site - local", "kB a site and round"])]
    lines.append(table_row(["---", *["---:"] * (len(sites) + 3)]))
    local = by_site_and_seed(last_rounds(units, arm, "local"), kind, metric)
    rows: list[tuple[str, str]] = [(method, kind) for method in methods_of(units, arm)]
    if kind == "box":
        rows = [("filled", "filled"), *rows]
    for method, key in rows:
        last = last_rounds(units, arm, "base" if method == "filled" else method)
        found = by_site_and_seed(last, key, metric)
        if found:
            lines.append(table_row([NAMES[method], *cells(found, sites, metric), _worst(found, local, sites, metric), _kilobytes(last)]))
    return "\n".join(lines) + "\n"


def cells(found: Mapping[tuple[str, int], float], sites: Sequence[str], metric: str) -> list[str]:
    """Mean and deviation over seeds, of each site and last of the sites' mean; found: (site, seed) -> value."""
    digits = 3 if metric == "dice" else 1
    seeds = sorted({seed for _, seed in found})
    each = [[found[site, seed] for seed in seeds if (site, seed) in found] for site in sites]
    overall = [float(np.mean([found[site, seed] for site in sites])) for seed in seeds]
    if len(seeds) == 1:
        return [f"{np.mean(values):.{digits}f}" for values in (*each, overall)]
    return [f"{mean:.{digits}f} ± {sd:.{digits}f}" for mean, sd in (spread(values) for values in (*each, overall))]


def _worst(found: Mapping[tuple[str, int], float], local: Mapping[tuple[str, int], float], sites: Sequence[str], metric: str) -> str:
    """The smallest gain of a site over local only, seeds averaged; for distances, less is a gain."""
    sign = 1 if metric == "dice" else -1
    gains = []
    for site in sites:
        common = [pair for pair in found if pair[0] == site and pair in local]
        if common:
            gains.append((sign * float(np.mean([found[pair] - local[pair] for pair in common])), site))
    if not gains:
        return "-"
    gain, site = min(gains)
    return f"{sign * gain:+.3f} ({site})" if metric == "dice" else f"{sign * gain:+.1f} ({site})"


def _kilobytes(units: Sequence[Unit]) -> str:
    return f"{bytes_by_round(units) / 1000:.0f}"


def _tests(units: Sequence[Unit], arm: str, kinds: Sequence[str]) -> str:
    """FedSCA against every other method."""
    lines = []
    for ours in OURS:
        for kind in kinds:
            mine = by_site_and_seed(last_rounds(units, arm, ours), kind)
            for other in methods_of(units, arm):
                found = compare(mine, by_site_and_seed(last_rounds(units, arm, other), kind)) if other != ours else None
                if found is not None:
                    p = f"{found.wilcoxon:.3f}", f"{found.permutation:.3f}"
                    worse = ", ".join(found.worse) or "none"
                    names = NAMES[ours], NAMES[other], KIND_NAMES[kind]
                    lines.append(table_row([*names, f"{found.difference:+.3f}", str(found.pairs), *p, worse]))
    if not lines:
        return ""
    head = table_row(["", "against", "prompt", "Dice difference", "pairs", "p (Wilcoxon)", "p (permutation)", "sites that are worse"])
    return "\n".join(["### Paired over sites and seeds\n", head, table_row(["---"] * 3 + ["---:"] * 4 + ["---"]), *lines]) + "\n"


def _gap(result: Mapping[str, Any], arm: str, kinds: Sequence[str]) -> str:
    """How much of the way from local only to pooled the smallest site goes; nothing where all sites have as many cases."""
    units, made_small = result["units"], result["arms"].get(arm, {}).get("small_site")
    if not made_small and len({one["train"] for one in result["sites"].values()}) == 1:
        return ""
    smallest = made_small or min(result["sites"], key=lambda site: result["sites"][site]["train"])
    lines = []
    for kind in kinds:
        means = {}
        for method in methods_of(units, arm):
            values = [value for (site, _), value in by_site_and_seed(last_rounds(units, arm, method), kind).items() if site == smallest]
            if values:
                means[method] = float(np.mean(values))
        if {"local", "pooled"} <= set(means):
            for method in (method for method in means if method not in ("base", "local", "pooled")):
                closed = gap_closed(means[method], means["local"], means["pooled"])
                lines.append(table_row([NAMES[method], KIND_NAMES[kind], "no gap" if closed is None else f"{100 * closed:.0f} %"]))
    if not lines:
        return ""
    return "\n".join(
        [f"### Gap from local only to pooled closed at the smallest site, {smallest}\n", table_row(["", "prompt", "closed"])]
    ) + ("\n" + "\n".join([table_row(["---", "---", "---:"]), *lines]) + "\n")


def _over_rounds(units: Sequence[Unit], arm: str, kinds: Sequence[str]) -> str:
    """How steady every method is, and when it is as good as local only in the end."""
    lines = []
    for kind in kinds:
        local = by_site_and_seed(last_rounds(units, arm, "local"), kind)
        for method in methods_of(units, arm):
            steady = steadiness(units, arm, method, kind)
            if steady is None:
                continue
            seeds = "-" if steady.over_seeds is None else f"{steady.over_seeds:.3f}"
            soon = reached(units, arm, method, kind, float(np.mean(list(local.values())))) if local else None
            when = [str(soon.round), f"{soon.kilobytes:.0f}", f"{soon.seconds:.0f}"] if soon else ["not reached", "-", "-"]
            lines.append(
                table_row([NAMES[method], KIND_NAMES[kind], seeds, f"{steady.over_rounds:.3f}", f"{100 * steady.falls:.0f} %", *when])
            )
    if not lines:
        return ""
    head = ["", "prompt", "deviation over seeds", "change a round", f"rounds in which a site loses > {FALL:g}"]
    head += ["as good as local only in the end: round", "kB a site", "tuning seconds a site"]
    return "\n".join(["### Over rounds and seeds\n", table_row(head), table_row(["---", "---", *["---:"] * 6]), *lines]) + "\n"


def _verdicts(units: Sequence[Unit], arm: str) -> str:
    """What the gate decided."""
    counts: dict[str, dict[str, int]] = {"tuning": {}, "mixture": {}}
    for unit in units:
        if unit["arm"] == arm and unit["method"] == "fedsca-gate":
            for verdict in unit["verdicts"].values():
                for what, said in verdict.items():
                    counts[what][said] = counts[what].get(said, 0) + 1
    said = [f"{what}: " + ", ".join(f"{count} {name}" for name, count in sorted(one.items())) for what, one in counts.items() if one]
    refused = [one for unit in units if unit["arm"] == arm for one in unit.get("refusals", ())]
    if refused:
        who = ", ".join(sorted({f"{one['site']} ({one['phase']})" for one in refused}))
        said.append(f"refused or declined in the product's rounds: {len(refused)} times, {who}")
    return f"Verdicts of gate and server. {'; '.join(said)}.\n" if said else ""


def table_row(texts: Sequence[str]) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(texts) + " |"


if __name__ == "__main__":
    main()
