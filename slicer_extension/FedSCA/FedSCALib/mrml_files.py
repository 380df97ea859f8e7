"""Image and label files in and out of MRML, voxel for voxel as they are in the file.

Slicer 5.8 and later reverse the slices of a left-handed image when they read it, so that IJK in Slicer is not IJK in the file. Every
client and server here means IJK in the file:
files are read with that switched off. Pictures are read by VTK, which every Slicer has, and turned the right way up (VTK's first row
is the lowest).
"""

from __future__ import annotations

import gzip
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from FedSCALib.canvas import Voxel
from FedSCALib.errors import CanvasError, GeometryMismatch
from FedSCALib.mrml_geometry import SAME_GRID, far_apart
from FedSCALib.mrml_layers import matrix_array, matrix_of
from FedSCALib.translate import tr

PICTURES = (".png", ".jpg", ".jpeg")
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def volume_array(node: Any) -> NDArray[Any]:
    """Voxels (k, j, i) or (k, j, i, components) of a volume node, not copied."""
    image = node.GetImageData()
    i, j, k = image.GetDimensions()
    array: NDArray[Any] = vtk_to_numpy(image.GetPointData().GetScalars())
    return array.reshape((k, j, i, -1)) if image.GetNumberOfScalarComponents() > 1 else array.reshape((k, j, i))


def volume_matrix(node: Any) -> NDArray[np.float64]:
    """IJK to RAS (4, 4), mm, of a volume node."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix_array(matrix)


def volume_size(node: Any) -> Voxel:
    """Number of voxels along i, j, k; zeros where the node holds no image."""
    if node.GetImageData() is None:
        return 0, 0, 0
    i, j, k = node.GetImageData().GetDimensions()
    return i, j, k


def add_volume(scene: Any, path: Path, name: str) -> Any:
    """Read an image into a new volume node of the scene, with display node.

    Raises:
        CanvasError: the file cannot be read as an image.
    """
    node = _picture(path) if path.name.lower().endswith(PICTURES) else _volume(path)
    node.SetName(scene.GenerateUniqueName(name))
    scene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    return node


def read_label(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """A label file's values (k, j, i), whole numbers, and IJK to RAS (4, 4).

    Raises:
        CanvasError: the file cannot be read.
    """
    node = slicer.vtkMRMLLabelMapVolumeNode()
    if not _read(node, path):
        raise CanvasError(tr("The label file {name} cannot be read. It may be damaged: load it again.").format(name=path.name))
    values = volume_array(node)
    if values.ndim != 3:
        raise CanvasError(tr("The label file {name} holds a colour picture. A label has one number for each voxel.").format(name=path.name))
    return values.copy() if values.dtype.kind in "iu" else np.rint(values).astype(np.int32), volume_matrix(node)


def write_label(path: Path, values: NDArray[Any], ijk_to_ras: NDArray[np.float64]) -> None:
    """Write label values (k, j, i) on a grid; see `write_volume`."""
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetAndObserveImageData(_image(values))
    node.SetIJKToRASMatrix(matrix_of(ijk_to_ras))
    write_volume(path, node)


def write_volume(path: Path, node: Any) -> None:
    """Write a volume node's voxels and grid as .nii.gz or .nii; the file appears complete or not at all.

    Raises:
        CanvasError: it cannot be written.
        GeometryMismatch: NIfTI cannot hold this grid (it is sheared).
    """
    if not path.name.endswith((".nii.gz", ".nii")):
        raise ValueError(f"{path.name}: expected a name that ends in .nii.gz or .nii")
    compressed = path.suffix == ".gz"
    try:
        with tempfile.TemporaryDirectory(dir=str(path.parent), prefix=".writing-") as folder:
            written = Path(folder, "volume.nii.gz" if compressed else "volume.nii")
            storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
            storage.SetFileName(str(written))
            storage.SetUseCompression(compressed)
            if not storage.WriteData(node) or not written.is_file():
                raise CanvasError(tr("{path} cannot be written. Is the disk full, or the folder not yours?").format(path=path))
            found, size = nifti_grid(written)
            check_same_grid(volume_matrix(node), volume_size(node), found, size)
            written.replace(path)
    except OSError as error:
        raise CanvasError(tr("{path} cannot be written: {reason}.").format(path=path, reason=error.strerror or error)) from error


def nifti_grid(path: Path) -> tuple[NDArray[np.float64], Voxel]:
    """IJK to RAS (4, 4) and voxels along i, j, k, from the header of a .nii or .nii.gz file (NIfTI-1, little-endian, as ITK writes it).

    Raises:
        CanvasError: the file has no such header.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        header = stream.read(348)
    if len(header) < 348 or header[:4] != b"\x5c\x01\x00\x00" or not struct.unpack_from("<h", header, 254)[0]:
        raise CanvasError(tr("{name} was written, but its header is not as it should be.").format(name=path.name))
    matrix = np.eye(4)
    matrix[:3] = np.frombuffer(header, "<f4", 12, 280).reshape(3, 4)
    i, j, k = struct.unpack_from("<3h", header, 42)
    return matrix, (i, max(j, 1), max(k, 1))


def check_same_grid(wanted: NDArray[np.float64], size: Voxel, found: NDArray[np.float64], found_size: Voxel) -> None:
    """Compare two grids (IJK to RAS, and voxels along i, j, k).

    Raises:
        GeometryMismatch: they differ.
    """
    if size != found_size:
        text = tr("The label has {found} voxels, its image has {wanted}. It belongs to another image, or was exported on another grid.")
        raise GeometryMismatch(text.format(found=" × ".join(map(str, found_size)), wanted=" × ".join(map(str, size))))
    gap = far_apart(wanted, found, size)
    if not gap <= SAME_GRID:
        text = tr("The label lies up to {gap:.2g} voxels from its image. It belongs to another image, or was exported on another grid.")
        raise GeometryMismatch(text.format(gap=gap))


def _volume(path: Path) -> Any:
    for node in (slicer.vtkMRMLScalarVolumeNode(), slicer.vtkMRMLVectorVolumeNode()):
        if path.is_file() and _read(node, path):
            return node
    raise CanvasError(tr("The image {name} cannot be read. Slicer reads NIfTI, NRRD, MetaImage, PNG and JPEG here.").format(name=path.name))


def _read(node: Any, path: Path) -> bool:
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetSingleFile(True)  # not a series of all files with numbers in their names
    if hasattr(storage, "SetForceRightHandedIJKCoordinateSystem"):  # Slicer 5.8 and later
        storage.SetForceRightHandedIJKCoordinateSystem(False)
    return bool(storage.ReadData(node)) and node.GetImageData() is not None


def _picture(path: Path) -> Any:
    reader = vtk.vtkImageReader2Factory().CreateImageReader2(str(path)) if path.is_file() else None
    if reader is None:
        raise CanvasError(tr("The picture {name} cannot be read. PNG and JPEG can be.").format(name=path.name))
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    columns, rows, _ = image.GetDimensions()
    if columns * rows == 0 or image.GetPointData().GetScalars() is None:
        raise CanvasError(tr("The picture {name} cannot be read. It may be damaged.").format(name=path.name))
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1]
    colour = pixels.shape[2] >= 3
    node = slicer.vtkMRMLVectorVolumeNode() if colour else slicer.vtkMRMLScalarVolumeNode()
    node.SetAndObserveImageData(_image((pixels[..., :3] if colour else pixels[..., 0])[None]))
    node.SetIJKToRASMatrix(matrix_of(LPS_TO_RAS))
    return node


def _image(array: NDArray[Any]) -> Any:
    """A vtkImageData with a copy of an array (k, j, i) or (k, j, i, components)."""
    image = vtk.vtkImageData()
    k, j, i = array.shape[:3]
    image.SetDimensions(i, j, k)
    flat = np.ascontiguousarray(array).reshape(-1, *array.shape[3:])
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True))
    return image
