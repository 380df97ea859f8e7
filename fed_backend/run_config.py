"""What a federation agrees on and how patient its server is: `federation.json` in the server's state folder, and Flower's run config.

The operator's `fedsca server start` writes the file; `fedsca server run-round` hands it to the ServerApp as run config, whose keys are the
field names with hyphens. Flower accepts only keys that stand in the bundle's pyproject.toml: they are kept equal by a test.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fed_backend.errors import RoundError
from fed_backend.payload_codec import ENCODINGS
from fed_backend.privacy import PrivacyRule
from fed_backend.projection import PROJECTION_SIZE
from sam_adapters import atomic
from sam_adapters.settings import as_once_meant

FEDERATION_FILE = "federation.json"


@dataclass(frozen=True)
class FederationSettings:
    """The agreement and the deadlines. Times in seconds.

    Attributes:
        federation: name that people see.
        base: base network that every site must use, `litemedsam` or `sam:<folder or hub id>`.
        rank: LoRA rank.
        shared_depth: fraction of encoder blocks, from the pixels, whose adapters travel.
        shared_decoder: whether the adapters of the decoder's attention travel too.
        min_sites: quorum; with fewer sites a round is skipped, with the reason written down.
        expected_sites: how many sites to wait for while joining; 0 means just the quorum.
        join_seconds: wait for that many sites; then the round goes on with those present, if they are a quorum.
        update_seconds: wait for the sites' updates (they only read files).
        probe_seconds: wait for the gradient probes.
        mixture_seconds: wait for the verdicts on the mixtures (each site evaluates them).
        probe_every: compare the sites' gradients every so many rounds; the first round always does.
        projection_size: numbers to which a gradient is projected.
        caution: of SGCA (its κ): larger mixes more sites, 0 only the most similar.
        encoding: of what travels: `int8` (at most 130 kB each way, site and round) or `fp16` (finer, at most 361 kB).
        privacy_clip: largest L2 norm of an update that leaves a site; for all five see `privacy.PrivacyRule`.
        privacy_noise: multiplier z of the Gaussian noise, whose σ is 2 · clip · z; 0 asks for no privacy rule at all.
        privacy_epsilon: what a site may spend over all rounds; from then on it only receives.
        privacy_delta: the δ at which ε is counted.
        privacy_probe: whether noised gradient probes leave too, each at the cost of an update.
    """

    federation: str = "fedsca"
    base: str = "litemedsam"
    rank: int = 8
    shared_depth: float = 1.0
    shared_decoder: bool = True
    min_sites: int = 2
    expected_sites: int = 0
    join_seconds: float = 60.0
    update_seconds: float = 120.0
    probe_seconds: float = 1800.0
    mixture_seconds: float = 1800.0
    probe_every: int = 1
    projection_size: int = PROJECTION_SIZE
    caution: float = 1.0
    encoding: str = "int8"
    privacy_clip: float = 1.0
    privacy_noise: float = 0.0
    privacy_epsilon: float = 8.0
    privacy_delta: float = 1e-5
    privacy_probe: bool = False

    def __post_init__(self) -> None:
        _check(
            bool(self.federation.strip()) and len(self.federation) <= 64, "federation", self.federation, "a name of at most 64 characters"
        )
        _check(self.base == "litemedsam" or self.base.startswith("sam:"), "base", self.base, "litemedsam or sam:<folder or hub id>")
        _check(1 <= self.rank <= 64, "rank", self.rank, "1 to 64")
        _check(0 < self.shared_depth <= 1, "shared_depth", self.shared_depth, "above 0, at most 1")
        _check(1 <= self.min_sites <= 10_000, "min_sites", self.min_sites, "1 to 10000")
        _check(0 <= self.expected_sites <= 10_000, "expected_sites", self.expected_sites, "0 to 10000")
        for key in ("join_seconds", "update_seconds", "probe_seconds", "mixture_seconds"):
            _check(0 < getattr(self, key) <= 86_400, key, getattr(self, key), "above 0, at most 86400 (a day)")
        _check(1 <= self.probe_every <= 10_000, "probe_every", self.probe_every, "1 to 10000")
        _check(
            64 <= self.projection_size <= 2**20 and self.projection_size % 4 == 0,
            "projection_size",
            self.projection_size,
            "a multiple of 4 from 64 to 1048576",
        )
        _check(0 <= self.caution < float("inf"), "caution", self.caution, "a number from 0 on")
        _check(self.encoding in ENCODINGS, "encoding", self.encoding, " or ".join(ENCODINGS))
        _check(0 <= self.privacy_noise <= 1e6, "privacy_noise", self.privacy_noise, "0 (no rule) to 1000000")
        for key in ("privacy_clip", "privacy_epsilon"):
            _check(0 < getattr(self, key) <= 1e6, key, getattr(self, key), "above 0, at most 1000000")
        _check(0 < self.privacy_delta < 1, "privacy_delta", self.privacy_delta, "above 0, below 1")

    def privacy_rule(self) -> PrivacyRule | None:
        """The rule that every site is asked to follow; None if there is none."""
        if self.privacy_noise == 0:
            return None
        return PrivacyRule(self.privacy_clip, self.privacy_noise, self.privacy_epsilon, self.privacy_delta, self.privacy_probe)

    def to_run_config(self) -> dict[str, bool | int | float | str]:
        """Keys as Flower's run config has them."""
        return {field.name.replace("_", "-"): getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_run_config(cls, run_config: Mapping[str, Any]) -> "FederationSettings":
        """Read what Flower hands to the ServerApp; other keys in it are left alone.

        Raises:
            RoundError: a key is missing or its value cannot be used.
        """
        return cls._from_mapping({key.replace("-", "_"): value for key, value in run_config.items()}, "run config")

    def save(self, state_folder: Path) -> None:
        """Write `federation.json`, atomically."""
        atomic.write_json(state_folder / FEDERATION_FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, state_folder: Path) -> "FederationSettings":
        """Read `federation.json`.

        Raises:
            RoundError: it is missing, or cannot be used.
        """
        path = state_folder / FEDERATION_FILE
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RoundError(f"{path} does not exist: start this federation's server once with `fedsca server start`.") from error
        except (OSError, ValueError) as error:
            raise RoundError(f"{path} cannot be read ({error}): repair it, or write it anew with `fedsca server start`.") from error
        if not isinstance(value, dict):
            raise RoundError(f"{path} holds a {type(value).__name__}, expected a JSON object.")
        known = dataclasses.asdict(cls()) | as_once_meant(value)  # a file of older software lacks newer settings
        return cls._from_mapping(known, f"file {path}")

    @classmethod
    def _from_mapping(cls, values: Mapping[str, Any], where: str) -> "FederationSettings":
        fields = {field.name: field for field in dataclasses.fields(cls)}
        missing = sorted(set(fields) - set(values))
        if missing:
            raise RoundError(f"The {where} lacks {', '.join(missing)}.")
        try:
            return cls(**{name: _typed(name, values[name], field.default) for name, field in fields.items()})
        except RoundError as error:
            raise RoundError(f"In the {where}: {error}") from error


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` in the type of the default; TOML and JSON write 60 for 60.0."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise RoundError(f"Federation setting {name} is {value!r}, expected a {kind.__name__}.")
    return value


def _check(good: bool, key: str, value: object, expected: str) -> None:
    if not good:
        raise RoundError(f"Federation setting {key} is {value!r}, expected {expected}.")
