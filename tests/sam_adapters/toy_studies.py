"""A site with small drawn images of a dark disc, for tests of what happens to labelled cases. Used by processes that tests start too."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory

SETTINGS = SiteSettings(image_size=64, device="cpu", tune_steps=4, threads=1, gate_kinds=("box", "point"))


def draw(seed: int, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A grey picture of a dark disc among brighter clouds, uint8 (size, size), and the disc's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    radius = rng.uniform(0.14, 0.24) * size
    row, column = rng.uniform(0.3, 0.7, 2) * size
    mask = (x - column) ** 2 + (y - row) ** 2 <= radius**2
    clouds = 20 * np.sin(x / 5 + rng.uniform(0, 6)) * np.cos(y / 7 + rng.uniform(0, 6))
    pixels = 140 + clouds - 70 * mask + rng.normal(0, 6, mask.shape)
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def write_array(array: np.ndarray, path: Path, spacing: float = 1.0) -> None:
    """Write voxels (k, j, i) or pixels (j, i)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    if image.GetDimension() == 3:
        image.SetSpacing((spacing, spacing, 3.0))
    sitk.WriteImage(image, str(path))


def add_picture(site: SiteDirectory, case: str, seed: int) -> None:
    """A labelled picture, case.png."""
    pixels, mask = draw(seed)
    write_array(pixels, site.studies / f"{case}.png")
    write_array(mask.astype(np.uint8), site.studies / "labels" / "final" / f"{case}.png")


def add_volume(site: SiteDirectory, case: str, seed: int, slices: int = 4) -> None:
    """A labelled volume, case.nii.gz, with target on all slices but the first."""
    drawn = [draw(100 * seed + number) for number in range(slices)]
    masks = np.stack([mask for _, mask in drawn]).astype(np.uint8)
    masks[0] = 0
    write_array(np.stack([pixels for pixels, _ in drawn]), site.studies / f"{case}.nii.gz")
    write_array(masks, site.studies / "labels" / "final" / f"{case}.nii.gz")


def make_site(root: Path, *, train: int, validation: int) -> SiteDirectory:
    """A site of labelled pictures t0, t1 … to train on and v0, v1 … to validate on."""
    site = SiteDirectory.open(root)
    names = {"train": [f"t{number}" for number in range(train)], "val": [f"v{number}" for number in range(validation)]}
    for seed, case in enumerate([*names["train"], *names["val"]]):
        add_picture(site, case, seed)
    site.split_file.write_text(json.dumps(names), encoding="utf-8")
    SETTINGS.save(site.settings_file)
    return site
