"""What is compared and with which budget: presets, and the named experiments as lists of arms that differ from them. No torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.federated.spoiler import HONEST, KINDS
from sam_adapters.errors import SettingError
from sam_adapters.settings import as_once_meant


@dataclass(frozen=True)
class Configuration:
    """One arm of an experiment: everything that a figure depends on besides method, seed and data.

    Attributes:
        rounds: federated rounds.
        steps: optimiser steps of each site in each round.
        batch_size, learning_rate, image_size, rank, shared_depth, shared_decoder: as in a site's settings.
        kinds: kinds of prompt that are trained, gated and tested, some of box, point, none.
        train_cases, validation_cases, test_cases: cases of a site at most; 0 for all.
        test_slices: largest slices of a test case that are scored; 0 for all with target.
        scored: `test`; or, by which choices are made, because test cases decide nothing: `validation`, not for methods that validate, or
            `spare`, cases to train on or to validate with that the seed has not drawn.
        label_value: the target's value; 0 for every value above 0.
        encoding, caution, probe_every: of the federation.
        proximal: μ of FedProx.
        threads: CPU threads; 0 for torch's default.
        small_site, small_cases: this site has only so many training cases ("" for none).
        newcomer_site: this site joins in the last round ("" for none) …
        newcomer_cases: … with so many labelled training cases; 0: none, and then none to validate either.
        privacy_noise: noise multiplier of the federation's privacy rule; 0 for none. The budget is wide enough for every round.
        privacy_clip: its clipping norm.
        spoiler_site: this site shares spoiled adapters ("" for none) …
        spoiler: … in this way, one of `spoiler.KINDS`; "" for honestly. It takes whatever it likes, and its own Dice is nobody's concern.
        inverted_site: this site's images are shown with black and white exchanged ("" for none).
    """

    rounds: int = 3
    steps: int = 24
    batch_size: int = 2
    learning_rate: float = 3e-3
    image_size: int = 128
    rank: int = 8
    shared_depth: float = 1.0
    shared_decoder: bool = True
    kinds: tuple[str, ...] = ("box", "point", "none")
    train_cases: int = 12
    validation_cases: int = 4
    test_cases: int = 6
    test_slices: int = 2
    scored: str = "test"
    label_value: int = 0
    encoding: str = "int8"
    caution: float = 1.0
    probe_every: int = 1
    proximal: float = 0.01
    threads: int = 1
    small_site: str = ""
    small_cases: int = 0
    inverted_site: str = ""
    spoiler_site: str = ""
    spoiler: str = ""
    newcomer_site: str = ""
    newcomer_cases: int = 0
    privacy_noise: float = 0.0
    privacy_clip: float = 0.25

    def changed(self, values: Mapping[str, Any]) -> "Configuration":
        """A copy with other values.

        Raises:
            SettingError: an unknown key.
        """
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SettingError(f"Unknown benchmark setting {', '.join(unknown)}: expected some of {', '.join(sorted(known))}.")
        return dataclasses.replace(self, **values)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}


def completed(told: Mapping[str, Any]) -> dict[str, Any]:
    """A kept configuration, as JSON has it, with what older software did where a newer setting is missing."""
    return Configuration().to_dict() | as_once_meant(told)


PRESETS = {
    # the first three questions of docs/benchmarks.md within three hours on two cores, with three seeds: `make tables`
    "cpu": Configuration(steps=12, batch_size=1, validation_cases=6, test_slices=1),
    # four times the tuning: half a day on two cores
    "thorough": Configuration(),
    "full": Configuration(rounds=8, steps=24, image_size=256, train_cases=0, validation_cases=0, test_cases=0, test_slices=0, threads=0),
    # a fifth of the time of thorough; every window of attention is full at 56 px. For questions of one method against itself
    "quick": Configuration(image_size=56),
    "tiny": Configuration(rounds=2, steps=2, image_size=64, train_cases=4, validation_cases=2, test_cases=2, test_slices=1),
}


@dataclass(frozen=True)
class Arm:
    """A variation within an experiment: its name, what differs from the preset, and which methods are run."""

    name: str
    changes: Mapping[str, Any]
    methods: tuple[str, ...]


CAUTIONS = (1.0, 3.0, 10.0, 30.0)
GLOBAL = 1e9
"""A caution at which everybody gets one mixture: the mean weighted by the probes' certainty."""
MAIN = "main"
"""The arm in which nothing differs from the preset; experiments that need it as their reference share its rounds."""
MAIN_METHODS = ("base", "local", "fedsca", "fedsca-gate", "fedavg-shared", "fedavg-all", "pfedgraph", "fedprox", "pooled")
RULE_METHODS = ("fedbn", "heurfedamp", "cosine-chi2", "flap-sam")
SHARING_METHODS = ("local", "fedavg-shared", "fedsca")
SHARED = {
    "half of the encoder": (0.5, False),
    "half of the encoder, and the decoder": (0.5, True),
    "the encoder": (1.0, False),
    "everything": (1.0, True),
}
CORE = ("local", "fedavg-shared", "fedavg-all", "fedsca")


def arms(experiment: str, sites: tuple[str, ...], methods: tuple[str, ...] | None = None) -> list[Arm]:
    """The arms of a named experiment.

    Args:
        sites: names of the hospitals; the first in the order of names plays the odd one, where there is one.
        methods: instead of the experiment's own.

    Raises:
        SettingError: no such experiment.
    """
    if experiment not in EXPERIMENTS:
        raise SettingError(f"There is no experiment {experiment!r}: expected one of {', '.join(EXPERIMENTS)}.")
    found = EXPERIMENTS[experiment](sites)
    return [dataclasses.replace(arm, methods=methods) for arm in found] if methods else found


def _vary(key: str, values: tuple[Any, ...], methods: tuple[str, ...] = ("fedsca",)) -> list[Arm]:
    usual = getattr(Configuration(), key)
    return [Arm(MAIN, {}, methods) if value == usual else Arm(f"{key} {value}", {key: value}, methods) for value in values]


def _sharing() -> list[Arm]:
    usual = (Configuration().shared_depth, Configuration().shared_decoder)
    return [
        Arm(MAIN, {}, SHARING_METHODS)
        if (depth, decoder) == usual
        else Arm(name, {"shared_depth": depth, "shared_decoder": decoder}, SHARING_METHODS)
        for name, (depth, decoder) in SHARED.items()
    ]


EXPERIMENTS: dict[str, Any] = {
    "main": lambda sites: [Arm(MAIN, {}, MAIN_METHODS)],
    "rules": lambda sites: [Arm(MAIN, {}, RULE_METHODS)],
    "depth": lambda sites: _vary("shared_depth", (0.25, 0.5, 0.75, 1.0), ("fedsca", "fedavg-shared")),
    "sharing": lambda sites: _sharing(),
    "rank": lambda sites: _vary("rank", (2, 4, 8, 16)),
    "caution": lambda sites: _vary("caution", (0.3, 1.0, 3.0, 10.0, GLOBAL)),
    "choose-caution": lambda sites: [
        Arm("validation", {"scored": "validation"}, ("local", "fedavg-shared")),
        *(Arm(f"caution {value}, validation", {"caution": value, "scored": "validation"}, ("fedsca",)) for value in CAUTIONS),
    ],
    "probe": lambda sites: _vary("probe_every", (1, 2, 4)),
    "blocks": lambda sites: [Arm(MAIN, {}, ("fedavg-low", "fedavg-high"))],
    "encoding": lambda sites: [*_vary("encoding", ("fp16", "int8")), Arm(MAIN, {}, ("fedavg-shared", "fedavg-top-10"))],
    "small": lambda sites: [
        Arm(f"{count} cases at {sites[0]}", {"small_site": sites[0], "small_cases": count}, (*CORE, "pooled")) for count in (2, 5, 10)
    ],
    "newcomer": lambda sites: [
        Arm(f"{sites[-1]} joins last, {count} cases", {"newcomer_site": sites[-1], "newcomer_cases": count}, CORE) for count in (0, 2)
    ],
    "privacy": lambda sites: _vary("privacy_noise", (0.0, 0.002, 0.02, 0.5)),
    "guest": lambda sites: [Arm(MAIN, {}, CORE)],
    "spoiler": lambda sites: [
        Arm(f"{sites[-1]}: {kind or 'honest'}", {"spoiler_site": sites[-1], "spoiler": kind}, ("fedsca-gate", "fedavg-shared"))
        for kind in (HONEST, *KINDS)
    ],
    "inverted": lambda sites: [Arm(f"{sites[0]} inverted", {"inverted_site": sites[0]}, CORE)],
}
