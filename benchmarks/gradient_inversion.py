"""How much a site's update or gradient probe tells about a picture: attempts to invert it and to recognise it, with and without noise.

    python -m benchmarks.gradient_inversion [--quick] [--work FOLDER] [--json FILE]

The attacker is the server, and gets more help than it would have: it knows the network, the common state, the projection, the target
masks and prompts, and owns pictures of other patients from the same scanner. Patients are drawn (`fed_backend.demo.virtual_hospitals`).

    controls         the same attack on a perceptron, whose gradient gives its input away: it must succeed
    reconstruction   the picture of one case is solved for (`inversion.solver`), beside what the attacker's prior gives without any attack
    identification   which of N candidate pictures were in it? Each candidate's gradient against what was seen, one by one (cosine), and
                     all together (ridge regression)

Reconstruction: `shared` is the gradient of the shared B, the encoder's blocks nearest the pixels, before projection; `all` that of the B
of all blocks; `projected` 4,096 numbers, what a probe sends; `half of 4` a probe's half of four cases, three of them unknown; `rule` is
`projected` with the noise of a privacy rule of multiplier 1. `few` attacks a picture that has no more than 8 unknowns, by search: the
easiest there is, and the control on this very network. The others attack the real picture: `search` for 8 unknowns, the rest solve for 64,
`near` from a start near the truth.

Everything that takes long is kept in the folder `--work`; a run that was stopped goes on there. `--only` names settings of the
reconstruction; without `--json` it computes nothing else, so that several processes can share them out.
Some 3,600 gradients, of 0.2 to 0.4 s each on one core; `--quick` shows in a minute or two that everything works.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inversion import pictures, reconstruction, site
from benchmarks.inversion.identification import Identified, identified, mean_of, one_by_one, together, unit
from benchmarks.inversion.kept import Kept
from benchmarks.inversion.pictures import Prior
from benchmarks.inversion.reconstruction import PROBE_SIGMA, UPDATE_SIGMA, Setting
from benchmarks.inversion.views import View, views
from benchmarks.machine import machine
from sam_adapters import atomic
from sam_adapters.adapters import AdaptedNetwork
from sam_adapters.cases import LabelledCase
from sam_adapters.tuning_slices import TrainingSlice

SEED = 0
NOISES = (0.0, 0.01, 0.1, 1.0)
DRAWS = 200
RIDGE = 1e-3


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        size: side of the network's input.
        candidates: N.
        pictures: how many of them are attacked.
        own: pictures of the attacker that are tried as start.
        components: unknowns of a picture.
        calls: gradients that one attack may compute.
        searched: unknowns of a search.
        search_calls: gradients that a search may compute.
        halves: cases in a probe's half.
        updates: (steps, cases, trials) of the tunings.
        local_steps: steps of the tuning that gives the site local adapters of its own; 0 leaves that out.
        copies: PSNR in dB of the copies that an attacker may hold.
    """

    size: int = 64
    candidates: int = 32
    pictures: int = 1
    own: int = 30
    components: int = 64
    calls: int = 140
    searched: int = 8
    search_calls: int = 361
    halves: tuple[int, ...] = (1, 2, 4, 8, 16)
    updates: tuple[tuple[int, int, int], ...] = ((1, 2, 4), (4, 4, 3), (24, 7, 2))
    local_steps: int = 24
    copies: tuple[int, ...] = (60, 50, 40, 30)


QUICK = Scale(
    candidates=6,
    own=4,
    components=6,
    calls=8,
    searched=3,
    search_calls=7,
    halves=(1, 2),
    updates=((1, 2, 1),),
    local_steps=0,
    copies=(40,),
)


class Measurement:
    """The patients, what is known of them, and the measurements on them."""

    def __init__(self, scale: Scale, folder: Path, kept: Kept) -> None:
        """`folder` is for the patients' files."""
        self.scale, self.kept = scale, kept
        self.cases: list[LabelledCase] = pictures.labelled_patients(folder, scale.candidates, seed=SEED)
        self.slices: list[TrainingSlice] = pictures.probed_slices(self.cases, scale.size)
        own = kept.array("others", lambda: pictures.other_patients(200, scale.size, seed=SEED))
        self.own, self.prior = own[:: len(own) // scale.own][: scale.own], Prior.of(own, scale.components)
        self.network = site.network(scale.size, site.ALL_BLOCKS)
        self.shared = site.network(scale.size, site.FIRST_BLOCKS).schema.size
        self.views = views(self.shared)
        self.known = kept.rows("known", scale.candidates, lambda number: site.gradient(self.network, self.slices[number]))

    def members(self, steps: int, count: int, trial: int) -> list[int]:
        """The candidates that a tuning is made on."""
        drawn = np.random.default_rng([steps, trial]).choice(self.scale.candidates, count, replace=False)
        return sorted(int(number) for number in drawn)

    def update(self, steps: int, count: int, trial: int) -> NDArray[np.float64]:
        """The direction in which a tuning went down, as a gradient (n,); its norm is the update's."""
        cases = [self.cases[number] for number in self.members(steps, count, trial)]
        found = self.kept.array(f"update-{steps}-{trial}", lambda: site.update(self.scale.size, cases, steps, seed=trial))
        return -found.astype(np.float64)

    def settings(self, number: int) -> Iterator[Setting]:
        """The attacks on one picture."""
        rng = np.random.default_rng([SEED, number])
        shared, projected, every = self.views["shared"], self.views["projected"], self.views["all"]
        true, few = self.known[number], self.scale.searched
        simple = self.kept.array(f"simple-{number}", lambda: site.gradient(self.network, self.simple(number)))
        rest = self.known[(number + np.arange(1, 4)) % self.scale.candidates]
        noise = PROBE_SIGMA * rng.normal(size=projected.of(true).shape[1])
        yield Setting("few, shared", shared, shared.of(simple)[0], searched=few, simple=True)
        yield Setting("few, all", every, every.of(simple)[0], searched=few, simple=True)
        yield Setting("few, projected", projected, projected.of(simple)[0], searched=few, simple=True)
        half = projected.of(np.stack([simple, *rest])).mean(axis=0)
        yield Setting("few, half of 4", projected, half, searched=few, simple=True)
        yield Setting("few, rule", projected, projected.of(simple)[0] + noise, PROBE_SIGMA, searched=few, simple=True)
        yield Setting("search, shared", shared, shared.of(true)[0], searched=few)
        yield Setting("search, projected", projected, projected.of(true)[0], searched=few)
        yield Setting("shared", shared, shared.of(true)[0])
        yield Setting("all", every, every.of(true)[0])
        yield Setting("projected", projected, projected.of(true)[0])
        yield Setting("rule", projected, projected.of(true)[0] + noise, PROBE_SIGMA)
        yield Setting("near", shared, shared.of(true)[0], near=True)

    def simple(self, number: int) -> TrainingSlice:
        """A slice whose picture is what the first few components of the prior show of the true one."""
        one = self.slices[number]
        few = Prior(self.prior.mean, self.prior.basis[: self.scale.searched])
        return pictures.with_pixels(one, few.picture(few.coefficients(one.pixels[0])))

    def reconstructed(self, number: int, only: list[str]) -> Iterator[dict[str, Any]]:
        """The rows of one picture."""
        one, scale = self.slices[number], self.scale
        gradient = reconstruction.pictured(one, self.prior, lambda slice_: site.gradient(self.network, slice_))
        zs = np.concatenate([np.zeros((1, scale.components)), np.stack([self.prior.coefficients(row) for row in self.own])])
        raw = self.kept.rows(f"starts-{number}", len(zs), lambda row: gradient(zs[row]))
        truth = self.prior.coefficients(one.pixels[0])
        for setting in self.settings(number):
            if only and setting.name not in only:
                continue

            def solved(setting: Setting = setting) -> NDArray[np.float32]:
                found = reconstruction.attack(setting, gradient, (zs, raw), truth, scale.search_calls if setting.searched else scale.calls)
                return np.array([found.misfits[0], found.misfit, found.calls, *found.z], np.float32)

            row = self.kept.array(f"solved-{number}-{setting.name.replace(', ', '-').replace(' ', '-')}", solved)
            misfits = (float(row[0]), float(row[1]))
            shown = [*self.slices]
            shown[number] = self.simple(number) if setting.simple else one
            judged = reconstruction.judged(row[3:].astype(np.float64), self.prior, shown, number, misfits, int(row[2]))
            print(setting.name, judged, flush=True)
            yield {"setting": setting.name, **judged}

    def probes(self, name: str, true: NDArray[np.float32], theirs: NDArray[np.float32], view: View) -> Iterator[dict[str, Any]]:
        """Identification in a probe's half: `true` raw gradients make what is seen, with `theirs` the attacker compares."""
        made, compared = view.of(true), view.of(theirs)
        for count in self.scale.halves:
            for noise in NOISES if name == "projected" else (0.0,):
                alone, joint = self._halves(made, compared, count, noise)
                yield {"seen": name, "cases": count, "noise": noise, "one by one": mean_of(alone), "together": mean_of(joint)}

    def _halves(
        self, made: NDArray[np.float64], compared: NDArray[np.float64], count: int, noise: float
    ) -> tuple[list[Identified], list[Identified]]:
        rng = np.random.default_rng([SEED, count])
        gram, crossed = compared @ compared.T, made @ compared.T
        alone, joint = [], []
        for _draw in range(DRAWS):
            members = rng.choice(len(made), count, replace=False)
            products = crossed[members].mean(axis=0)
            if noise:
                products = products + noise * PROBE_SIGMA * (compared @ rng.normal(size=made.shape[1]))
            alone.append(identified(one_by_one(gram, products), members))
            joint.append(identified(together(gram, products, RIDGE + (noise * PROBE_SIGMA) ** 2 * count), members))
        return alone, joint

    def copies(self) -> Iterator[dict[str, Any]]:
        """How exact a guess must be for its gradient to resemble the true one: the pictures with a little noise, the targets known."""
        view = self.views["projected"]
        for decibels in self.scale.copies:
            copied = [pictures.copied(one, decibels, seed=number) for number, one in enumerate(self.slices)]
            raw = self.kept.rows(f"copies-{decibels}", len(copied), functools.partial(self._gradient_of, copied))
            same = (unit(view.of(raw)) * unit(view.of(self.known))).sum(axis=1)
            alone, joint = self._halves(view.of(self.known), view.of(raw), 1, 0.0)
            quarters = [round(float(value), 3) for value in np.quantile(same, (0.25, 0.5, 0.75))]
            yield {"psnr": decibels, "cosine_quartiles": quarters, "one by one": mean_of(alone), "together": mean_of(joint)}

    def _gradient_of(self, slices: list[TrainingSlice], row: int) -> NDArray[np.float32]:
        return site.gradient(self.network, slices[row])

    def identified_probes(self) -> Iterator[dict[str, Any]]:
        """Every kind of probe and attacker."""
        for name in ("all", "shared", "projected"):
            yield from self.probes(name, self.known, self.known, self.views[name])
        typical = (np.mean([one.target for one in self.slices], axis=0) > 0.5).astype(np.float32)
        guessed = self.kept.rows(
            "guessed", self.scale.candidates, lambda row: site.gradient(self.network, pictures.with_target(self.slices[row], typical))
        )
        yield from self.probes("projected, targets not known", self.known, guessed, self.views["projected"])
        if self.scale.local_steps:
            yield from self.probes("projected, local adapters not known", *self._local(), self.views["projected"])

    def _local(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Gradients at a site with tuned local adapters, and what somebody computes who knows its shared adapters alone."""
        size, count = self.scale.size, self.scale.candidates

        @functools.cache
        def inside() -> AdaptedNetwork:
            return site.tuned(size, self.cases[:8], self.scale.local_steps, seed=5)

        @functools.cache
        def outside() -> AdaptedNetwork:
            network = site.network(size, site.FIRST_BLOCKS)
            network.load_shared(inside().shared_state())
            return network

        true = self.kept.rows("tuned", count, lambda row: site.gradient(inside(), self.slices[row]))
        return true, self.kept.rows("tuned-outside", count, lambda row: site.gradient(outside(), self.slices[row]))

    def identified_updates(self) -> Iterator[dict[str, Any]]:
        """Tunings of a few steps: the gradient of each candidate's largest slice against the way that the shared B went."""
        compared = self.views["shared"].of(self.known)
        gram = compared @ compared.T
        for steps, count, trials in self.scale.updates:
            for noise in (0.0, 1.0):
                alone, joint, norms = [], [], []
                rng = np.random.default_rng([SEED, steps])
                for trial in range(trials):
                    seen = self.update(steps, count, trial)
                    norms.append(float(np.linalg.norm(seen)))
                    for _draw in range(20 if noise else 1):
                        noisy = seen * min(1, 1 / norms[-1]) + noise * UPDATE_SIGMA * rng.normal(size=seen.shape) if noise else unit(seen)
                        products, members = compared @ noisy, self.members(steps, count, trial)
                        alone.append(identified(one_by_one(gram, products), members))
                        joint.append(identified(together(gram, products, 0.1 + (noise * UPDATE_SIGMA) ** 2), members))
                row = {"seen": f"update of {steps} steps", "cases": count, "noise": noise, "norm": round(float(np.mean(norms)), 3)}
                yield {**row, "one by one": mean_of(alone), "together": mean_of(joint)}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Try to get pictures back from, or to recognise them in, what a site sends.")
    parser.add_argument("--quick", action="store_true", help="a small run that shows that everything works; its figures mean nothing")
    parser.add_argument("--work", type=Path, help="folder for what takes long; a run that was stopped goes on there")
    parser.add_argument("--only", nargs="*", default=[], metavar="SETTING", help="only these settings of the reconstruction")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    scale = QUICK if options.quick else Scale()
    with tempfile.TemporaryDirectory() as folder:
        begun = machine()
        measured = Measurement(scale, Path(folder), Kept(options.work or Path(folder) / "work"))
        rows = [row for number in range(scale.pictures) for row in measured.reconstructed(number, options.only)]
        if options.only and not options.json:
            return
        result: dict[str, Any] = {"scale": asdict(scale), "shared_values": measured.shared, "all_values": measured.known.shape[1]}
        attacked = range(scale.pictures)
        result["baselines"] = [reconstruction.baselines(measured.slices[n], measured.prior, measured.own) for n in attacked]
        result["controls"] = [
            row for n in attacked for row in reconstruction.controls(measured.slices, n, measured.prior, measured.views, 300)
        ]
        result["reconstruction"] = rows
        result["identification"] = [*measured.identified_probes(), *measured.identified_updates()]
        result["copies"] = list(measured.copies())
        result["machine"] = begun
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.json:
        atomic.write_bytes(options.json, text.encode())


if __name__ == "__main__":
    main()
