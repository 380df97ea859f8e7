"""The settings of one site: one file, `site.json`, read by its MONAI Label server, its tuning process and its Flower client. No torch.

`monailabel start_server --conf key value` overrides single settings; the app checks them and writes them to the file, so that the
tuning process and the Flower client see the same base, image size and rank as the server.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from sam_adapters import atomic
from sam_adapters.errors import SettingError
from sam_adapters.intensity_window import parse_window
from sam_adapters.site_directory import checked_site_name

PromptKind = Literal["box", "point", "mask", "none"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("box", "point", "mask", "none")


def as_once_meant(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings from a file. One that names `shared_depth` alone was written when the decoder was never shared, and means just that."""
    return {"shared_decoder": False, **values} if "shared_depth" in values else dict(values)


@dataclass(frozen=True)
class SiteSettings:
    """Settings of a site, all with safe defaults.

    Attributes:
        name: the site's name in the federation.
        base: base network, `litemedsam` or `sam:<folder or hub id>`.
        device: `auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:<n>`.
        image_size: side in pixels of the square that the network sees; a multiple of 8 from 56 to 1024.
        rank: LoRA rank.
        shared_depth: fraction of encoder blocks, from the pixels, whose adapters are shared; 0 < x <= 1.
        shared_decoder: whether the adapters in the decoder's attention are shared too.
        label_name: what the segmented structure is called in the app.
        label_value: label value that is the target; 0 means any value above 0.
        tune_after: newly labelled training cases that trigger a local tuning; 0 switches automatic tuning off.
        tune_minimum: labelled training cases needed before the first tuning.
        tune_steps: optimiser steps of one local tuning.
        batch_size: slices per step.
        learning_rate: AdamW's learning rate.
        seed: seed of everything random at this site.
        bf16: use bfloat16 autocast on the CPU too (on CUDA it is used where the device has it).
        tune_kinds: prompt kinds that tuning samples.
        gate_kinds: prompt kinds that the gate compares: any of box, point, none.
        gate_margin: Dice by which a candidate may fall below the active version, per prompt kind, and still be promoted.
        gate_slices_per_case: slices of a validation case that the gate looks at; the largest ones are taken, always the same.
        validation_fraction: fraction of patients kept for validation where no split.json says otherwise.
        threads: CPU threads of torch; 0 leaves torch's default.
        window: range of values that the network sees: "" (each slice's own), "auto" or "LOW..HIGH"; see `intensity_window`.
    """

    name: str = "site"
    base: str = "litemedsam"
    device: str = "auto"
    image_size: int = 256
    rank: int = 8
    shared_depth: float = 1.0
    shared_decoder: bool = True
    label_name: str = "target"
    label_value: int = 0
    tune_after: int = 4
    tune_minimum: int = 3
    tune_steps: int = 24
    batch_size: int = 2
    learning_rate: float = 3e-3
    seed: int = 0
    bf16: bool = False
    tune_kinds: tuple[PromptKind, ...] = PROMPT_KINDS
    gate_kinds: tuple[PromptKind, ...] = ("box", "point")
    gate_margin: float = 0.01
    gate_slices_per_case: int = 3
    validation_fraction: float = 0.2
    threads: int = 0
    window: str = "auto"

    def __post_init__(self) -> None:
        checked_site_name(self.name)
        _check(self.image_size % 8 == 0 and 56 <= self.image_size <= 1024, "image_size", self.image_size, "a multiple of 8 from 56 to 1024")
        _check(1 <= self.rank <= 64, "rank", self.rank, "1 to 64")
        _check(0 < self.shared_depth <= 1, "shared_depth", self.shared_depth, "above 0, at most 1")
        _check(0 <= self.label_value <= 65535, "label_value", self.label_value, "0 (any) to 65535")
        _check(0 <= self.tune_after <= 10_000, "tune_after", self.tune_after, "0 (off) to 10000")
        _check(1 <= self.tune_minimum <= 10_000, "tune_minimum", self.tune_minimum, "1 to 10000")
        _check(1 <= self.tune_steps <= 100_000, "tune_steps", self.tune_steps, "1 to 100000")
        _check(1 <= self.batch_size <= 64, "batch_size", self.batch_size, "1 to 64")
        _check(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "above 0, at most 1")
        _check(0 <= self.seed < 2**31, "seed", self.seed, "0 to 2147483647")
        _check(
            bool(self.tune_kinds) and set(self.tune_kinds) <= set(PROMPT_KINDS),
            "tune_kinds",
            self.tune_kinds,
            f"some of {', '.join(PROMPT_KINDS)}",
        )
        _check(
            bool(self.gate_kinds) and set(self.gate_kinds) <= {"box", "point", "none"},
            "gate_kinds",
            self.gate_kinds,
            "some of box, point, none",
        )
        _check(0 <= self.gate_margin <= 1, "gate_margin", self.gate_margin, "0 to 1")
        _check(1 <= self.gate_slices_per_case <= 10_000, "gate_slices_per_case", self.gate_slices_per_case, "1 to 10000")
        _check(0 < self.validation_fraction < 1, "validation_fraction", self.validation_fraction, "between 0 and 1")
        _check(0 <= self.threads <= 1024, "threads", self.threads, "0 (torch's default) to 1024")
        parse_window(self.window)
        _check(bool(self.label_name.strip()), "label_name", self.label_name, "a name")
        device_known = self.device in ("auto", "cpu", "cuda") or (self.device.startswith("cuda:") and self.device[5:].isdigit())
        _check(device_known, "device", self.device, "auto, cpu, cuda or cuda:<n>")
        _check(self.base == "litemedsam" or self.base.startswith("sam:"), "base", self.base, "litemedsam or sam:<folder or hub id>")

    def override(self, values: Mapping[str, str]) -> "SiteSettings":
        """A copy with settings replaced by text values, as `--conf key value` gives them; lists are comma-separated.

        Raises:
            SettingError: an unknown key, or a value that cannot be used.
        """
        fields = {field.name: field for field in dataclasses.fields(self)}
        changed: dict[str, Any] = {}
        for key, text in values.items():
            if key not in fields:
                raise SettingError(f"Unknown setting {key!r}: expected one of {', '.join(fields)}.")
            changed[key] = _parse(key, str(text), getattr(self, key))
        return dataclasses.replace(self, **changed)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of every setting."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}

    def save(self, path: Path) -> None:
        """Write the settings to `path`, atomically."""
        atomic.write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "SiteSettings":
        """Read `site.json`; a file that does not exist gives the defaults.

        Raises:
            SettingError: the file is not JSON, or holds a setting that is unknown or cannot be used.
        """
        if not path.exists():
            return cls()
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise SettingError(f"{path} is not JSON ({error}): repair it, or delete it to get the defaults.") from error
        if not isinstance(value, dict):
            raise SettingError(f"{path} holds a {type(value).__name__}, expected a JSON object of settings.")
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(value) - known)
        if unknown:
            raise SettingError(f"{path} has unknown settings {', '.join(unknown)}: expected some of {', '.join(sorted(known))}.")
        try:
            values: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in as_once_meant(value).items()}
            return cls(**values)
        except TypeError as error:
            raise SettingError(f"{path} holds a setting of the wrong type: {error}.") from error


def _check(good: bool, key: str, value: object, expected: str) -> None:
    if not good:
        raise SettingError(f"Setting {key} is {value!r}, expected {expected}.")


def _parse(key: str, text: str, current: object) -> Any:
    """The value of setting `key` given as `text`, in the type of its current value."""
    try:
        if isinstance(current, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if isinstance(current, int):
            return int(text)
        if isinstance(current, float):
            return float(text)
        if isinstance(current, tuple):
            return cast(Any, tuple(part.strip() for part in text.split(",") if part.strip()))
    except (ValueError, KeyError) as error:
        raise SettingError(f"Setting {key} is {text!r}, expected {_expected(current)}.") from error
    return text


def _expected(current: object) -> str:
    if isinstance(current, bool):
        return "true or false"
    return "a whole number" if isinstance(current, int) else "a number"
