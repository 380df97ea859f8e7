"""Where the voxels of an image lie in the patient: spacing, origin, direction, and when two grids are the same. No torch, no SimpleITK."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

GRID_TOLERANCE = 0.05
"""Largest distance, in units of the smallest spacing, by which corners of two grids may differ and still count as the same grid.

Float32 headers (NIfTI) and text headers (NRRD) of one image differ by about 1e-5; a shift that matters is at least half a voxel.
"""


@dataclass(frozen=True)
class NativeHeader:
    """The geometry part of a file's own header, so that a mask in the same format can repeat it instead of computing it anew.

    Attributes:
        format: `nifti` (payload: the whole binary header) or `nrrd` (payload: the geometry lines of the text header).
    """

    format: str
    payload: bytes = field(repr=False)


@dataclass(frozen=True)
class Geometry:
    """Position of the voxels (i, j, k) in the patient, in ITK's LPS millimetres.

    A voxel's centre is `origin + direction @ (spacing * (i, j, k))`. Two-dimensional images are held as one slice, k = 0, with spacing 1
    and direction (0, 0, 1) along k, as 3D Slicer does.

    Attributes:
        size: voxels along (i, j, k).
        spacing: mm along (i, j, k).
        origin: LPS position of voxel (0, 0, 0), mm.
        direction: 3 x 3 cosines row by row, as `SimpleITK.Image.GetDirection` gives them; columns are the i, j and k axes.
        dimension: 2 for an image stored with two axes, else 3.
        native: see `NativeHeader`; not compared.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    dimension: int = 3
    native: NativeHeader | None = field(default=None, compare=False)

    def corners(self) -> NDArray[np.float64]:
        """LPS positions of the eight corner voxels' centres, shape (8, 3)."""
        steps = np.array([[(corner >> axis) & 1 for axis in range(3)] for corner in range(8)], np.float64)
        offsets = steps * (np.array(self.size) - 1) * np.array(self.spacing)
        return np.asarray(np.array(self.origin) + offsets @ np.reshape(self.direction, (3, 3)).T, np.float64)

    def difference(self, other: "Geometry") -> str | None:
        """What makes `other` another grid, in words, or None when both have the same voxels within `GRID_TOLERANCE`."""
        if self.size != other.size:
            return f"size {_times(other.size)} instead of {_times(self.size)} voxels"
        distance = float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())
        tolerance = GRID_TOLERANCE * min(*self.spacing, *other.spacing)
        if not distance <= tolerance:
            return f"voxels up to {distance:.4g} mm away from the image's (at most {tolerance:.4g} mm is accepted)"
        return None


def _times(size: tuple[int, int, int]) -> str:
    return " × ".join(str(part) for part in size)
