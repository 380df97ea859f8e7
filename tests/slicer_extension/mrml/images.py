"""Small images on awkward grids, written by SimpleITK, and what SimpleITK says about them."""

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st
from numpy.typing import NDArray

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def rotation(angles: tuple[float, float, float]) -> NDArray[np.float64]:
    """Turns about the three axes, in radians, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [n for n in range(3) if n != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


# Angles of 1e-310 make ITK's singular value decomposition fail; no scanner writes them.
ANGLE = st.floats(-0.7, 0.7).map(lambda angle: round(angle, 9))


@st.composite
def grids(draw: st.DrawFn, largest: int = 7) -> sitk.Image:
    """An image with different numbers in its voxels; its axes permuted, reversed and tilted, its voxels anisotropic."""
    size = draw(st.tuples(*[st.integers(1, largest)] * 3))
    axes = np.eye(3)[list(draw(st.permutations(range(3))))] * draw(st.tuples(*[st.sampled_from([1, -1])] * 3))
    tilt = rotation(draw(st.tuples(*[ANGLE] * 3))) if draw(st.booleans()) else np.eye(3)
    image = sitk.GetImageFromArray(np.arange(np.prod(size), dtype=np.int16).reshape(size[::-1]))
    image.SetDirection((tilt @ axes).ravel())
    image.SetSpacing(draw(st.tuples(*[st.floats(0.3, 6)] * 3)))
    image.SetOrigin(draw(st.tuples(*[st.floats(-900, 900)] * 3)))
    return image


def oblique(size_ijk: tuple[int, int, int] = (9, 8, 7), *, reversed_axis: bool = True) -> sitk.Image:
    """One fixed grid of that kind; left-handed unless told otherwise."""
    image = sitk.GetImageFromArray(np.arange(np.prod(size_ijk), dtype=np.int16).reshape(size_ijk[::-1]))
    image.SetDirection((rotation((0.3, -0.2, 0.5)) @ np.diag([1, 1, -1 if reversed_axis else 1])).ravel())
    image.SetSpacing((0.7, 0.9, 3.3))
    image.SetOrigin((-117.25, 83.7, 1250.125))
    return image


def written(image: sitk.Image, path: Path) -> sitk.Image:
    """The image as a file holds it (NIfTI keeps single precision)."""
    sitk.WriteImage(image, str(path))
    return sitk.ReadImage(str(path))


def ijk_to_ras(image: sitk.Image) -> NDArray[np.float64]:
    """IJK to RAS (4, 4) of a volume, from SimpleITK's own index to physical point."""
    matrix = np.eye(4)
    origin = np.array(image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, 0.0)))
    for axis in range(3):
        step = [0.0, 0.0, 0.0]
        step[axis] = 1.0
        matrix[:3, axis] = np.array(image.TransformContinuousIndexToPhysicalPoint(step)) - origin
    matrix[:3, 3] = origin
    return LPS_TO_RAS @ matrix


def same_grid(first: sitk.Image, second: sitk.Image, tolerance: float = 1e-4) -> bool:
    """Same size, and no axis or origin off by more than `tolerance` mm."""
    close = np.allclose(ijk_to_ras(first), ijk_to_ras(second), rtol=0, atol=tolerance)
    return bool(first.GetSize() == second.GetSize() and close)


def values(path: Path) -> NDArray[Any]:
    """A label file's values (k, j, i), as SimpleITK reads them."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
