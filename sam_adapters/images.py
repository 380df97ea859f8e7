"""Images and labels from disk, through SimpleITK: NIfTI, NRRD, MetaImage, PNG, JPEG and folders of one DICOM series.

Arrays are (k, j, i), colour pictures (k, j, i, 3). Nothing here keeps state: every function may be called from any thread or process.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters.dicom_series import modality_of, series_files
from sam_adapters.errors import ImageError, LabelError
from sam_adapters.geometry import Geometry
from sam_adapters.image_checks import is_finite_nifti, require_content, require_own_voxels, require_whole_jpeg, require_whole_nifti
from sam_adapters.image_names import IMAGE_EXTENSIONS, PICTURE_EXTENSIONS, VOLUME_EXTENSIONS, image_extension
from sam_adapters.mask_files import write_mask_file
from sam_adapters.native_headers import native_header

MAX_IMAGE_BYTES = 2**31
"""Images above this are refused before memory is allocated: 2 GiB is a CT of 512 × 512 × 4096 voxels of 16 bits."""


@dataclass(frozen=True)
class MedicalImage:
    """An image as stored.

    Attributes:
        array: (k, j, i) or (k, j, i, 3) for colour; the file's own type of number; read-only.
        geometry: where the voxels lie.
        content_hash: sha256 (hex) over type, shape, geometry and voxels; the same image in another file has the same hash.
        picture: True for PNG and JPEG, which say nothing of the patient's space.
        modality: DICOM modality (CT, MR …); "" for other formats and where the file does not say.
    """

    array: NDArray[Any]
    geometry: Geometry
    content_hash: str
    picture: bool = False
    modality: str = ""

    @property
    def is_picture(self) -> bool:
        """True for a two-dimensional picture without a place in the patient (PNG, JPEG)."""
        return self.picture


def read_image(path: Path) -> MedicalImage:
    """Read an image file, or a folder that holds one DICOM series.

    Raises:
        ImageError: the path is missing, not an image of a known format, damaged, empty, above `MAX_IMAGE_BYTES`, has more than three
            spatial axes, or has channels that are neither grey nor RGB(A). Transparency of an RGBA picture is dropped.
    """
    image = _read(path, image=True)
    array = _voxels(image, path)
    if array.dtype.kind not in "iuf":
        raise ImageError(f"{path.name} holds values of type {array.dtype}, expected real numbers.")
    geometry = _geometry(image, path)
    array.setflags(write=False)
    picture = image_extension(path) in PICTURE_EXTENSIONS
    return MedicalImage(array, geometry, _content_hash(array, geometry), picture, modality_of(path))


def read_label(path: Path, like: MedicalImage | None = None) -> NDArray[Any]:
    """Read a label as integers, shape (k, j, i), values 0 (background) and above.

    A label of a picture needs the picture's size only: label formats differ in what they put into a header for which there is no truth.

    Raises:
        LabelError: the file cannot be read, lies on another grid than `like`, or holds anything but whole numbers from 0.
    """
    try:
        image = _read(path)
        array = _voxels(image, path)
        geometry = _geometry(image, path)
    except ImageError as error:
        raise LabelError(f"Label cannot be read: {error}") from error
    if array.ndim == 4:
        if not (array == array[..., :1]).all():
            raise LabelError(f"{path.name} has several channels, expected one label value a voxel: export segments that do not overlap.")
        array = array[..., 0]
    if like is not None:
        _require_same_grid(geometry, like, path)
    if array.dtype.kind == "f" and image_extension(path) in (".nii", ".nii.gz") and not is_finite_nifti(path):
        raise LabelError(f"{path.name} holds values that are not numbers, expected label values 0, 1, 2 …")
    return _whole_numbers(array, path)


def write_mask(mask: NDArray[Any], like: MedicalImage, path: Path) -> None:
    """Write a mask onto exactly the grid of the image `like`, atomically. The ending of `path` chooses the format.

    Where image and mask share a format, what is read back from the mask's header (spacing, origin, direction) is bit for bit what is read
    from the image's; across formats, it is equal within the target's own precision (NIfTI: float32; NRRD: the last digit of a double).
    A picture's mask may also go to .nrrd, .nii.gz, .nii or .mha: one slice, spacing 1, origin 0, which is how 3D Slicer shows pictures.

    Args:
        mask: (k, j, i), boolean or whole numbers from 0 to 65535; stored in the smallest unsigned type that holds it, uint8 as a rule.

    Raises:
        LabelError: the mask's shape is not the image's, its values do not fit, or the format cannot keep the image's geometry.
    """
    if mask.shape != like.array.shape[:3]:
        raise LabelError(f"Mask of shape {list(mask.shape)}, expected the image's {list(like.array.shape[:3])} in order (k, j, i).")
    values = _whole_numbers(mask, path)
    largest = int(values.max(initial=0))
    if largest > 65535:
        raise LabelError(f"Mask value {largest} is too large, expected at most 65535.")
    extension = image_extension(path)
    if extension == ".png" and not like.is_picture:
        raise LabelError(f"{path.name}: PNG cannot keep the geometry of a volume. Choose .nii.gz, .nrrd or .mha.")
    if extension not in (*VOLUME_EXTENSIONS, ".png"):
        raise LabelError(f"Masks cannot be written as {path.name}: expected an ending .png, .nii.gz, .nii, .nrrd or .mha.")
    write_mask_file(values.astype(np.uint8 if largest <= 255 else np.uint16), like.geometry, path, extension)


def check_image(path: Path) -> None:
    """Check that `read_image` could read a file or DICOM series; large NIfTI volumes are not held in memory for that.

    Raises:
        ImageError: as `read_image`.
    """
    if path.is_dir():
        files = series_files(path)
        _check_size(_information(files[0]), path, slices=len(files))
        return
    reader = _checked_reader(path, image=True)
    _geometry(reader, path)
    if image_extension(path) not in (".nii", ".nii.gz"):  # those are known to be whole; of the others only reading tells
        _execute(path, reader.Execute)


def header_geometry(path: Path) -> Geometry:
    """Geometry of an image or label file by its header; the voxels may be missing. Raises ImageError, as `read_image`."""
    return _geometry(_checked_reader(path, image=False, whole=False), path)


def _read(path: Path, *, image: bool = False) -> sitk.Image:
    """The file or DICOM series as SimpleITK image, after all checks that need no voxels."""
    if path.is_dir():
        files = series_files(path)
        _check_size(_information(files[0]), path, slices=len(files))
        return _execute(path, lambda: sitk.ReadImage([str(file) for file in files]))
    return _execute(path, _checked_reader(path, image=image).Execute)


def _checked_reader(path: Path, *, image: bool, whole: bool = True) -> Any:
    """A SimpleITK reader that has read the header of a file, after all checks that need no voxels."""
    if not path.is_file():
        raise ImageError(f"There is no image {path.name}.")
    extension = image_extension(path)
    if extension is None:
        raise ImageError(f"{path.name} has an unknown ending, expected one of {', '.join(IMAGE_EXTENSIONS)} or a folder of DICOM files.")
    if path.stat().st_size == 0:
        raise ImageError(f"{path.name} is empty (0 bytes): copy or export it again.")
    require_own_voxels(path)
    reader = _information(path)
    promised = _check_size(reader, path)
    if image:
        require_content(path, promised)
    if whole and extension in (".nii", ".nii.gz"):
        require_whole_nifti(path)
    elif whole and extension in (".jpg", ".jpeg"):
        require_whole_jpeg(path)
    return reader


def _information(path: Path) -> Any:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    _execute(path, reader.ReadImageInformation)
    return reader


def _execute(path: Path, action: Any) -> Any:
    """Run a SimpleITK call; its multi-line errors become one sentence."""
    try:
        return action()
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = (lines[-1] if lines else type(error).__name__).replace(str(path), path.name)
        detail = re.sub(r"\(0x[0-9a-f]+\)", "", detail)  # ITK names its objects by their addresses
        raise ImageError(f"{path.name} cannot be read as an image; it is damaged, cut short or of another format ({detail}).") from error


def _check_size(reader: Any, path: Path, slices: int = 1) -> int:
    """Refuse, by its header, an image with too many axes, none or too many voxels; returns the voxels' size in bytes."""
    size = [int(part) for part in reader.GetSize()]
    if len(size) not in (2, 3):
        raise ImageError(
            f"{path.name} has {len(size)} axes ({' × '.join(map(str, size))}), expected 2 or 3: export one time point or one channel."
        )
    pixel_type = reader.GetPixelID()
    channels = int(reader.GetNumberOfComponents())
    if channels not in (1, 3, 4):
        raise ImageError(f"{path.name} has {channels} channels, expected 1 (grey), 3 (RGB) or 4 (RGBA).")
    each = 1 if pixel_type < 0 else sitk.Image([1] * len(size), pixel_type, channels).GetSizeOfPixelComponent()
    total = each * channels * slices
    for part in size:
        total *= part
    if total > MAX_IMAGE_BYTES:
        raise ImageError(
            f"{path.name} promises {total / 2**30:.1f} GiB of voxels ({' × '.join(map(str, size))}), at most "
            f"{MAX_IMAGE_BYTES / 2**30:.0f} GiB are read: crop or resample it."
        )
    if total == 0:
        raise ImageError(f"{path.name} has no voxels ({' × '.join(map(str, size))}).")
    return total


def _voxels(image: sitk.Image, path: Path) -> NDArray[Any]:
    """The voxels as a new array (k, j, i[, 3])."""
    channels = image.GetNumberOfComponentsPerPixel()
    if channels not in (1, 3, 4):
        raise ImageError(f"{path.name} has {channels} channels, expected 1 (grey), 3 (RGB) or 4 (RGBA).")
    array: NDArray[Any] = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 2:
        array = array[np.newaxis]
    return array if channels == 1 else np.ascontiguousarray(array[..., :3])


def _geometry(image: sitk.Image, path: Path) -> Geometry:
    """The image's geometry in three dimensions; see `Geometry` for two-dimensional ones."""
    native = native_header(path) if path.is_file() else None
    size, spacing, origin, direction = image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()
    if not np.isfinite([*spacing, *origin, *direction]).all():
        raise ImageError(f"{path.name} has a geometry that is not finite: export it again.")
    if image.GetDimension() == 2:
        a, b, c, d = direction
        flat = (a, b, 0.0, c, d, 0.0, 0.0, 0.0, 1.0)
        return Geometry((*size, 1), (*spacing, 1.0), (*origin, 0.0), flat, 2, native)
    return Geometry(tuple(size), tuple(spacing), tuple(origin), tuple(direction), 3, native)


def _content_hash(array: NDArray[Any], geometry: Geometry) -> str:
    digest = hashlib.sha256()
    numbers = (*geometry.spacing, *geometry.origin, *geometry.direction)
    digest.update(repr((array.dtype.str, array.shape, [float(number).hex() for number in numbers])).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _require_same_grid(geometry: Geometry, like: MedicalImage, path: Path) -> None:
    if like.is_picture:
        same = geometry.size == like.geometry.size
        difference = None if same else f"size {geometry.size[:2]} instead of {like.geometry.size[:2]} pixels"
    else:
        difference = like.geometry.difference(geometry)
    if difference:
        raise LabelError(f"Label {path.name} lies on another grid than its image: {difference}. Export it on the image's own grid.")


def _whole_numbers(array: NDArray[Any], path: Path) -> NDArray[Any]:
    """The array as integers from 0, or LabelError."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        whole = np.isfinite(array).all() and (array == np.rint(array)).all() and np.abs(array).max(initial=0) < 2**31
        if not whole:
            raise LabelError(f"{path.name} holds values that are not whole numbers, expected label values 0, 1, 2 …")
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise LabelError(f"{path.name} holds values of type {array.dtype}, expected whole numbers.")
    if array.dtype.kind == "i" and int(array.min(initial=0)) < 0:
        raise LabelError(f"{path.name} holds the value {int(array.min())}, expected label values from 0.")
    return array
