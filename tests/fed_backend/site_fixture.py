"""Small real sites: volumes of a bright ball in noise, labels, a split, and a version of their own made without tuning."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from sam_adapters import adapter_files
from sam_adapters.loading import write_untuned
from sam_adapters.provenance import Provenance
from sam_adapters.registry import Registry, Version
from sam_adapters.schema import AdapterSchema, AdapterState
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory


def make_site(root: Path, name: str, *, train: int = 2, validation: int = 2, seed: int = 0, rank: int = 8) -> SiteDirectory:
    """A site directory with `train` + `validation` labelled cases of one slice each, 32 x 32 pixels, and settings that are quick."""
    site = SiteDirectory.open(root)
    settings = SiteSettings(name=name, image_size=128, gate_kinds=("box",), gate_slices_per_case=1, threads=1, rank=rank)
    settings.save(site.settings_file)
    labels = site.studies / "labels" / "final"
    labels.mkdir(parents=True, exist_ok=True)
    cases = [f"{name}-{number}" for number in range(train + validation)]
    site.split_file.write_text(json.dumps({"train": cases[:train], "val": cases[train:], "test": []}), encoding="utf-8")
    rng = np.random.default_rng(seed)
    for case in cases:
        target = _ball(rng)
        pixels = (100.0 * target + rng.normal(0, 15, target.shape)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(pixels), str(site.studies / f"{case}.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(target.astype(np.uint8)), str(labels / f"{case}.nii.gz"))
    return site


def _ball(rng: np.random.Generator) -> np.ndarray:
    row, column, radius = rng.uniform(11, 21), rng.uniform(11, 21), rng.uniform(5, 9)
    j, i = np.mgrid[:32, :32]
    disc: np.ndarray = (j - row) ** 2 + (i - column) ** 2 <= radius**2
    return disc[None]


def add_version(
    site: SiteDirectory, scratch: Path, *, size: float = 1e-3, seed: int = 0, active: bool = True, parents: tuple[str, ...] = ()
) -> Version:
    """Give the site a version, active or not, whose shared B is small noise, without tuning."""
    settings = SiteSettings.load(site.settings_file)
    untuned, made = scratch / "untuned", scratch / f"made-{seed}"
    schema = write_untuned(settings, untuned)
    adapter_files.write_mixture(untuned, small_noise(schema, size, seed), made)
    with Registry(site) as registry:
        made_by = Provenance(kind="local", base=schema.base, schema_id=schema.id, site=settings.name, parents=parents, cases=2)
        version = registry.add(made, made_by)
        if active:
            registry.activate(version.id, reason="Made for a test.", by="test")
        return registry.get(version.id)


def small_noise(schema: AdapterSchema, size: float, seed: int) -> AdapterState:
    """A state of Gaussian noise that 16-bit floats hold exactly."""
    values = np.random.default_rng(seed).normal(0, size, schema.size).astype(np.float16)
    return AdapterState.from_vector(schema, values.astype(np.float32))
