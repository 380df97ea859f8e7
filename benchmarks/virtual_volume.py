"""A virtual patient's CT of any size, for measurements of speed: a body, organs of different density, and noise. No accuracy is claimed."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

AIR, FAT, TISSUE, ORGAN, BONE = -1000, -90, 45, 110, 600


def virtual_ct(size_ijk: tuple[int, int, int] = (512, 512, 300), seed: int = 0) -> NDArray[np.int16]:
    """Hounsfield units (i, j, k): an elliptic body with a rim of fat, two organs, a spine and noise of 12 HU."""
    rng = np.random.default_rng(seed)
    i, j = (np.linspace(-1, 1, count, dtype=np.float32) for count in size_ijk[:2])
    x, y = np.meshgrid(i, j, indexing="ij")
    volume = np.empty(size_ijk, np.int16)
    for number, z in enumerate(np.linspace(-1, 1, size_ijk[2])):
        plane = np.full(x.shape, AIR, np.float32)
        plane[x**2 / 0.8 + y**2 / 0.5 < 1] = FAT
        plane[x**2 / 0.72 + y**2 / 0.43 < 1] = TISSUE
        swell = np.sqrt(max(0.0, 1 - z**2))
        plane[((x + 0.35) / (0.36 * swell + 1e-3)) ** 2 + ((y - 0.05) / (0.3 * swell + 1e-3)) ** 2 < 1] = ORGAN
        plane[((x - 0.4) / (0.2 * swell + 1e-3)) ** 2 + ((y - 0.1) / (0.17 * swell + 1e-3)) ** 2 < 1] = ORGAN - 40
        plane[x**2 + (y + 0.45) ** 2 < 0.012] = BONE
        volume[:, :, number] = np.rint(plane + rng.normal(0, 12, x.shape)).astype(np.int16)
    return volume


def write_virtual_ct(path: Path, size_ijk: tuple[int, int, int] = (512, 512, 300), seed: int = 0) -> None:
    """Write it as NIfTI, 0.8 x 0.8 x 1.5 mm, in the orientation LPS as scanners send it."""
    image = nib.Nifti1Image(virtual_ct(size_ijk, seed), np.diag([-0.8, -0.8, 1.5, 1.0]))
    nib.save(image, path)
