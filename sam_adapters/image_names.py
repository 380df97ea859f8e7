"""Which files are images, by the end of their names. No image library: a round counts cases, and need not read them."""

from pathlib import Path

VOLUME_EXTENSIONS = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha")
PICTURE_EXTENSIONS = (".png", ".jpg", ".jpeg")
IMAGE_EXTENSIONS = (*VOLUME_EXTENSIONS, *PICTURE_EXTENSIONS, ".dcm")


def image_extension(path: Path) -> str | None:
    """The known image extension (lower case, `.nii.gz` counts as one) at the end of a file's name, or None."""
    name = path.name.lower()
    return next((extension for extension in IMAGE_EXTENSIONS if name.endswith(extension)), None)
