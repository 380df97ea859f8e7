"""What the demo knows of one hospital before anything runs: its images, who may see the truth, and how the cases are split."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from fed_backend.demo.errors import DemoError

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".jpg", ".jpeg")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class CaseSplit:
    """Case names of the three parts; no case is in two of them. Test cases are never labelled at the hospital."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """The contents of `split.json`."""
        return {"train": list(self.train), "val": list(self.val), "test": list(self.test)}


@dataclass(frozen=True)
class Hospital:
    """One hospital of the demo.

    Attributes:
        name: the site's name in the federation, also the name of its folder.
        root: its own site folder inside the run's folder; the server sees nothing else.
        images: case -> image inside `root/studies`.
        truths: case -> the true label, kept by the scripted radiologist outside `root`.
        split: the three parts.
        patients: case -> patient, empty where it is not known (then every case counts as its own patient).
        note: one sentence on what is particular about the hospital's images; may be empty.
    """

    name: str
    root: Path
    images: dict[str, Path]
    truths: dict[str, Path]
    split: CaseSplit
    patients: dict[str, str] = field(default_factory=dict)
    note: str = ""

    @property
    def pictures(self) -> bool:
        """Whether the images are two-dimensional pictures (PNG, JPEG)."""
        return bool(self.images) and all(path.name.lower().endswith(PICTURE_SUFFIXES) for path in self.images.values())


def case_name(path: Path) -> str:
    """The case of a file: its name without the image suffix, as MONAI Label names it."""
    lower = path.name.lower()
    for suffix in IMAGE_SUFFIXES:
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def images_in(folder: Path) -> dict[str, Path]:
    """case -> image of the files that lie directly in `folder`, sorted by case."""
    if not folder.is_dir():
        return {}
    found = [path for path in folder.iterdir() if path.is_file() and path.name.lower().endswith(IMAGE_SUFFIXES)]
    return {case_name(path): path for path in sorted(found)}


def read_pixels(path: Path) -> NDArray[np.float32]:
    """Pixels of an image as float32 (k, j, i), or (k, j, i, 3) for colour; a picture has one slice, k = 0.

    Raises:
        DemoError: the file cannot be read.
    """
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise DemoError(f"{path} cannot be read as an image: check that the file is whole.") from error
    array = np.asarray(sitk.GetArrayFromImage(image), dtype=np.float32)
    return array[None] if image.GetDimension() == 2 else array


def read_truth(path: Path) -> NDArray[np.bool_]:
    """A label as boolean (k, j, i): every value above 0 is the target."""
    array = read_pixels(path)
    return np.asarray((array.max(axis=-1) if array.ndim == 4 else array) > 0)
