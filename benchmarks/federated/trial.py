"""One method with one seed: its rounds, one after the other, each a folder that appears when it is finished.

    <work>/<arm>/seed-<s>/<method>/round-<r>/unit.json        figures of the round
    <work>/<arm>/seed-<s>/<method>/round-<r>/<site>/…         the adapters that each site has then (published methods)
    <work>/<arm>/seed-<s>/<method>/round-<r>/federation/…     site directories and server state (the product)

A run that was killed goes on after the last finished round; what the unfinished one had tuned and scored is kept by the workbench.
"""

import json
import shutil
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.federated import published
from benchmarks.federated.configuration import Configuration
from benchmarks.federated.hospitals import (
    Hospital,
    image_spacing,
    scored_cases,
    training_cases,
    write_site,
)
from benchmarks.federated.local_norms import NORMS_FILE
from benchmarks.federated.product_round import active_folder, copy_federation, learning_folder, run_round, take_tuned
from benchmarks.federated.scoring import FILLED, TestCase, read_test_case, score_filled
from benchmarks.federated.sharing import (
    Shared,
    average,
    average_largest,
    average_products,
    everything,
    high_half,
    low_half,
    shared_alone,
)
from benchmarks.federated.spoiler import spoil
from benchmarks.federated.workbench import Workbench, new_folder, site_settings
from fed_backend.run_config import FederationSettings
from sam_adapters.cases import LabelledCase, labelled_cases, split_cases
from sam_adapters.errors import SettingError
from sam_adapters.file_lock import locked
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

UNIT = "unit.json"
FIRST_BLOCK_ONLY = 1e-6
"""A shared depth at which one block alone has a frozen A: FLAP-SAM trains both factors."""
BOTH_FACTORS = 0.5
"""Averages of all adapters train both factors too, but for the half of the encoder nearest the pixels, whatever the federation shares."""
COPYING_SECONDS = 600.0
"""How long a trial waits for another one that writes inverted copies of a hospital's images."""


@dataclass(frozen=True)
class Published:
    """A method of the benchmark's own: how the adapters are combined between tunings.

    Attributes:
        combine: (tuned folders, cases, folders to write) -> what travelled.
        proximal: whether the tuning is pulled back to its start.
        shared_depth: of the encoder alone, instead of the configuration's depth and decoder.
        norms: whether layer norms are trained, and stay at the site.
        memory: whether `combine` needs to know the sites' folders of the round before, as `before`.
    """

    combine: Callable[..., Shared]
    proximal: bool = False
    shared_depth: float | None = None
    norms: bool = False
    memory: bool = False


def _heurfedamp(vectors: Any, cases: Any) -> Any:
    return published.heurfedamp_weights(vectors, self_weight=1 / len(vectors))


def _fedavg(vectors: Any, cases: Any) -> Any:
    return published.fedavg_weights(cases)


PUBLISHED: dict[str, Published] = {
    "fedavg-all": Published(partial(average, weights=_fedavg, travelling=everything), shared_depth=BOTH_FACTORS),
    "fedavg-shared": Published(partial(average, weights=_fedavg, travelling=shared_alone)),
    "fedprox": Published(partial(average, weights=_fedavg, travelling=everything), proximal=True, shared_depth=BOTH_FACTORS),
    "fedbn": Published(partial(average, weights=_fedavg, travelling=everything), norms=True, shared_depth=BOTH_FACTORS),
    "heurfedamp": Published(partial(average, weights=_heurfedamp, travelling=shared_alone)),
    "pfedgraph": Published(partial(average, weights=published.pfedgraph_weights, travelling=shared_alone)),
    "cosine-chi2": Published(partial(average, weights=published.chi_square_weights, travelling=shared_alone)),
    "fedavg-top-10": Published(partial(average_largest, share=0.1), memory=True),
    "fedavg-low": Published(partial(average, weights=_fedavg, travelling=low_half), shared_depth=1.0),
    "fedavg-high": Published(partial(average, weights=_fedavg, travelling=high_half), shared_depth=1.0),
    "flap-sam": Published(average_products, shared_depth=FIRST_BLOCK_ONLY),
}
PRODUCT = {"fedsca": False, "fedsca-gate": True}
"""Method -> whether the gate decides."""
VALIDATING = tuple(method for method, gate in PRODUCT.items() if gate)
ALONE = ("base", "local", "pooled")
METHODS = (*ALONE, *PUBLISHED, *PRODUCT)


class Trial:
    """The rounds of one method with one seed in one arm."""

    _bench: Workbench

    def __init__(self, folder: Path, method: str, seed: int, configuration: Configuration, hospitals: list[Hospital]) -> None:
        """
        Args:
            folder: where the rounds go.

        Raises:
            SettingError: no such method, or one that may not be scored on what is to be scored.
        """
        if method not in METHODS:
            raise SettingError(f"There is no method {method!r}: expected some of {', '.join(METHODS)}.")
        if method in VALIDATING and configuration.scored == "validation":
            raise SettingError(f"Method {method} validates on the cases that are to be scored: leave it out, or score spare or test cases.")
        self.folder, self.method, self.seed, self.configuration = folder, method, seed, configuration
        self.rounds = 1 if method == "base" else configuration.rounds
        self._hospitals = {hospital.name: hospital for hospital in hospitals}
        depth = PUBLISHED[method].shared_depth if method in PUBLISHED else None
        self._settings = {name: site_settings(configuration, name, seed, shared_depth=depth) for name in self._hospitals}

    def missing(self) -> list[int]:
        """Rounds that are not finished, in order."""
        return [number for number in range(1, self.rounds + 1) if not self.unit_file(number).exists()]

    def unit_file(self, number: int) -> Path:
        """Where a finished round's figures lie."""
        return self._round(number) / UNIT

    def run(self, number: int, bench: Workbench) -> dict[str, Any]:
        """Run one round, all before it being finished, with the tunings and scores of `bench`; returns its unit."""
        begun = time.monotonic()
        self._bench = bench
        with new_folder(self._round(number)) as out:
            adapters, about = self._advance(number, out)
            unit = {
                "method": self.method,
                "seed": self.seed,
                "round": number,
                **about,
                "scores": {site: self._scores(site, adapters.get(site)) for site in self._hospitals},
                "seconds": round(time.monotonic() - begun, 2),
            }
            (out / UNIT).write_text(json.dumps(unit, indent=1, sort_keys=True), encoding="utf-8")
        return unit

    # --- rounds -----------------------------------------------------------------------------------------------------------------------

    def _round(self, number: int) -> Path:
        return self.folder / f"round-{number}"

    def _advance(self, number: int, out: Path) -> tuple[dict[str, Path | None], dict[str, Any]]:
        """Do the round's work; returns each site's adapters and what there is to say."""
        if self.method == "base":
            return dict.fromkeys(self._hospitals), _traffic(self._hospitals)
        if self.method in PRODUCT:
            return self._product(number, out, gate=PRODUCT[self.method])
        if self.method == "pooled":
            return self._pooled(number, out)
        tuned, about = self._tuned_sites(number)
        tuned = {site: self._shared_as(site, folder, number, out) for site, folder in tuned.items()}
        written = {site: out / site for site in tuned}
        if self.method == "local":
            for site, folder in tuned.items():
                copy_federation(folder, written[site])
            return dict(written), about | _traffic(self._hospitals)
        cases = {site: len(self._training(site)) for site in tuned}
        rule = PUBLISHED[self.method]
        past = {"before": {site: self._before(site, number) for site in tuned}} if rule.memory else {}
        shared = rule.combine(tuned, cases, written, **past)
        for site in tuned if rule.norms else ():
            shutil.copyfile(tuned[site] / NORMS_FILE, written[site] / NORMS_FILE)
        return dict(written), about | asdict(shared)

    def _members(self, number: int) -> dict[str, Hospital]:
        """The hospitals of a round: a newcomer is there in the last one only."""
        newcomer = self.configuration.newcomer_site if number < self.rounds else ""
        return {name: hospital for name, hospital in self._hospitals.items() if name != newcomer}

    def _before(self, site: str, number: int) -> Path | None:
        """A site's adapters after the round before; None if it starts from the untuned ones."""
        folder = self._round(number - 1) / site
        return folder if number > 1 and folder.exists() else None

    def _tuned_sites(self, number: int) -> tuple[dict[str, Path], dict[str, Any]]:
        proximal = self.configuration.proximal if self.method in PUBLISHED and PUBLISHED[self.method].proximal else 0.0
        found = {
            site: self._bench.tuned(
                self._settings[site],
                self._before(site, number),
                self._training(site),
                seed=self._tuning_seed(site, number),
                steps=self.configuration.steps,
                proximal=proximal,
                norms=self.method in PUBLISHED and PUBLISHED[self.method].norms,
            )
            for site in self._members(number)
            if self._training(site)
        }
        about = {
            "tuning_seconds": {site: round(one.seconds, 2) for site, one in found.items()},
            "loss": {site: one.loss for site, one in found.items()},
        }
        untuned = {site: self._bench.untuned(self._settings[site]) for site in self._members(number) if site not in found}
        return {site: untuned[site] if site in untuned else found[site].folder for site in self._members(number)}, about

    def _shared_as(self, site: str, tuned: Path, number: int, out: Path) -> Path:
        """What the site shares: what it tuned, unless it is the one that spoils."""
        wanted = self.configuration
        if site != wanted.spoiler_site or not wanted.spoiler:
            return tuned
        first = self._round(1) / "spoiled" if number > 1 else None
        return spoil(wanted.spoiler, tuned, first, out / "spoiled", seed=self.seed, number=number)

    def _pooled(self, number: int, out: Path) -> tuple[dict[str, Path | None], dict[str, Any]]:
        """All cases in one place, with as many steps as all sites together have."""
        first = next(iter(self._hospitals))
        everybody = [case for site in self._members(number) for case in self._training(site)]
        tuned = self._bench.tuned(
            self._settings[first],
            self._before("pooled", number),
            everybody,
            seed=self._tuning_seed("pooled", number),
            steps=self.configuration.steps * len(self._members(number)),
        )
        copy_federation(tuned.folder, out / "pooled")
        about = {"tuning_seconds": {"pooled": round(tuned.seconds, 2)}, "loss": {"pooled": tuned.loss}}
        return dict.fromkeys(self._hospitals, out / "pooled"), about | _traffic(self._hospitals)

    def _product(self, number: int, out: Path, *, gate: bool) -> tuple[dict[str, Path | None], dict[str, Any]]:
        home = out / "federation"
        if number > 1:
            copy_federation(self._round(number - 1) / "federation", home)
        sites = {}
        verdicts: dict[str, dict[str, str]] = {}
        seconds = {}
        for name, hospital in self._members(number).items():
            settings = self._settings[name]
            write_site(home / name, hospital, settings, self.configuration, self.seed, validate=gate)
            site = sites[name] = SiteDirectory.open(home / name)
            start, cases = learning_folder(site), self._training(name)
            if not cases:
                continue
            tuned = self._bench.tuned(settings, start, cases, seed=self._tuning_seed(name, number), steps=self.configuration.steps)
            seconds[name] = round(tuned.seconds, 2)
            folder = self._shared_as(name, tuned.folder, number, out)
            verdicts[name] = {"tuning": take_tuned(site, settings, folder, len(cases), gate=gate and folder == tuned.folder)}
        done = run_round(sites, home / "server", self._federation(len(sites)), gate=gate, seed=self.seed)
        for name, verdict in done.verdicts.items():
            verdicts[name] = verdicts.get(name, {}) | verdict
        about = asdict(done) | {"verdicts": verdicts, "tuning_seconds": seconds, "round_seconds": done.seconds}
        return {name: active_folder(site) for name, site in sites.items()}, about

    def _federation(self, sites: int) -> FederationSettings:
        wanted = self.configuration
        return FederationSettings(
            federation="benchmark",
            rank=wanted.rank,
            shared_depth=wanted.shared_depth,
            shared_decoder=wanted.shared_decoder,
            min_sites=sites,
            probe_every=wanted.probe_every,
            caution=wanted.caution,
            encoding=wanted.encoding,
            privacy_noise=wanted.privacy_noise,
            privacy_clip=wanted.privacy_clip,
            privacy_epsilon=1e6,
            update_seconds=86_400,
            probe_seconds=86_400,
            mixture_seconds=86_400,
        )

    # --- cases and scores -------------------------------------------------------------------------------------------------------------

    def _training(self, site: str) -> tuple[LabelledCase, ...]:
        hospital = self._hospitals[site]
        if site != self.configuration.inverted_site:
            return training_cases(hospital, self.configuration, self.seed)
        root = self.folder.parent / "inverted" / site  # every method of this arm and seed uses the same copies
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.with_suffix(".lock"), timeout=COPYING_SECONDS):
            write_site(root, hospital, self._settings[site], self.configuration, self.seed, validate=False)
        copies = SiteDirectory.open(root)
        return split_cases(labelled_cases(copies, self._settings[site]), copies, self._settings[site]).train

    def _tuning_seed(self, site: str, number: int) -> int:
        return zlib.crc32(f"{self.seed} {site} {number}".encode()) >> 1

    def _scores(self, site: str, folder: Path | None) -> dict[str, list[dict[str, Any]]]:
        settings, kinds = self._settings[site], list(self.configuration.kinds)
        chosen = scored_cases(self._hospitals[site], self.configuration, self.seed)
        cases = [self._test_case(site, case, settings) for case in chosen]
        about = [
            [[str(case.image), case.label_sha256] for case in chosen],
            self.configuration.test_slices,
            self.seed,
            self.configuration.label_value,
            site == self.configuration.inverted_site,
        ]
        found = self._bench.scores(settings, folder, cases, kinds, about)
        if self.method == "base" and "box" in kinds:
            found = found | score_filled(cases)
        return found

    def _test_case(self, site: str, case: LabelledCase, settings: SiteSettings) -> TestCase:
        return read_test_case(
            case,
            image_spacing(case, self._hospitals[site]),
            kinds=self.configuration.kinds,
            slices=self.configuration.test_slices,
            label_value=self.configuration.label_value,
            window=settings.window,
            seed=self.seed,
            inverted=site == self.configuration.inverted_site,
        )


def _traffic(sites: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing travels."""
    return {"bytes_up": dict.fromkeys(sites, 0), "bytes_down": dict.fromkeys(sites, 0), "weights": {}}


__all__ = ["FILLED", "METHODS", "Trial"]
