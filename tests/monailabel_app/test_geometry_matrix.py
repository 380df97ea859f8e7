"""Every kind of image that a hospital brings, over HTTP: the mask lies on exactly the image's grid, on the right voxels."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters.images import read_image
from tests.monailabel_app.dicom_files import write_series
from tests.monailabel_app.server_process import OBLIQUE, Server, blob, dice, read_reply, running_server

pytestmark = pytest.mark.slow

ARRAY, INSIDE = blob((6, 40, 48), seed=11)
FLAT, DISC = ARRAY[3], INSIDE[3:4]
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
SWAPPED = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def volume(path: Path, array: NDArray[Any], direction: tuple[float, ...] = AXIAL, spacing: tuple[float, ...] = (0.9, 0.9, 3.0)) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-117.25, 83.7, 1250.125))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def picture(path: Path, array: NDArray[np.uint8]) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=array.ndim == 3), str(path))


def grey() -> NDArray[np.uint8]:
    return np.asarray(np.clip(FLAT + 80, 0, 255), np.uint8)


def with_holes() -> NDArray[np.float32]:
    holes = ARRAY.astype(np.float32)
    holes[:, :3] = np.nan
    holes[:, -2:, :5] = np.inf
    holes[:, -2:, -5:] = -np.inf
    return holes


def two_axes(path: Path) -> None:
    affine = np.array([[-0.7, 0.1, 0, 12], [0.1, 0.7, 0, -3], [0, 0, 1, 5], [0, 0, 0, 1]], np.float64)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(FLAT.T), affine), path)


@dataclass(frozen=True)
class Row:
    """One kind of image: its file or folder, how it is made, where its structure is (None: nowhere)."""

    name: str
    make: Callable[[Path], object]
    target: NDArray[np.bool_] | None = None


ROWS = [
    Row("oblique.nii.gz", lambda path: volume(path, ARRAY, OBLIQUE), INSIDE),
    Row("flipped.nii.gz", lambda path: volume(path, ARRAY, FLIPPED), INSIDE),
    Row("swapped.nrrd", lambda path: volume(path, ARRAY, SWAPPED), INSIDE),
    Row("anisotropic.nii", lambda path: volume(path, ARRAY, spacing=(0.31, 0.57, 9.5)), INSIDE),
    Row("two_axes.nii.gz", two_axes, DISC),
    Row("grey.png", lambda path: picture(path, grey()), DISC),
    Row("rgb.png", lambda path: picture(path, np.stack([grey(), grey() // 2, grey() // 3], -1)), DISC),
    Row("int16.nii.gz", lambda path: volume(path, ARRAY), INSIDE),
    Row("uint16.nii.gz", lambda path: volume(path, (ARRAY + 30000).astype(np.uint16)), INSIDE),
    Row("uint8.mha", lambda path: volume(path, np.clip(ARRAY + 80, 0, 255).astype(np.uint8)), INSIDE),
    Row("float32.nii.gz", lambda path: volume(path, (ARRAY / 1e4).astype(np.float32)), INSIDE),
    Row("float64.nii.gz", lambda path: volume(path, ARRAY * 1e12), INSIDE),
    Row("holes.nii.gz", lambda path: volume(path, with_holes()), INSIDE),
    Row("constant.nii.gz", lambda path: volume(path, np.full((4, 30, 40), 7, np.int16))),
    Row("nothing_finite.nii.gz", lambda path: volume(path, np.full((4, 30, 40), np.nan, np.float32))),
    Row("one_slice.nii.gz", lambda path: volume(path, FLAT[None]), DISC),
    Row("series", lambda path: write_series(path, ARRAY), INSIDE),
    Row(
        "unsigned_series", lambda path: write_series(path, (ARRAY + 1000).astype(np.uint16), modality="CT", intercept=-1000, end=""), INSIDE
    ),
]


def case_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("kinds")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    for row in ROWS:
        row.make(studies / row.name)
    write_series(studies / "two_series", ARRAY)
    write_series(studies / "two_series", ARRAY, end=".second.dcm")
    write_series(studies / "two_times", np.concatenate([ARRAY, ARRAY]), positions=[3.5 * k for k in range(6)] * 2)
    volume(studies / "chest.nii", chest())
    with running_server(folder, studies, {"image_size": "64", "tune": "false", "uncertainty": "false"}) as server:
        yield server


def slice_prompt(target: NDArray[np.bool_] | None, shape: tuple[int, ...], axis: str) -> tuple[int, dict[str, Any]]:
    """The slice through the target's middle, and a box around the target on it; (half of the slice where there is no target)."""
    place = "kji".index(axis)
    inside = np.zeros(shape, bool) if target is None else target
    if target is None:
        inside[tuple(slice(count // 4, max(count // 4 + 1, 3 * count // 4)) for count in shape)] = True
    index = int(np.argmax(inside.sum(axis=tuple(other for other in range(3) if other != place))))
    y, x = np.nonzero(np.take(inside, index, axis=place))
    box = [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
    return index, {"axis": axis, "slices": [{"index": index, "box": box}]}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_mask_lies_on_the_images_grid_and_on_the_right_voxels(server: Server, row: Row, tmp_path: Path) -> None:
    path = server.studies / row.name
    image = read_image(path)
    extension = {"gz": ".nii.gz", "": ".nrrd"}.get(row.name.rpartition(".")[2], path.suffix) if path.is_file() else ".nrrd"
    for axis in "kji":
        if image.array.shape["kji".index(axis)] == 1 and axis != "k":
            continue
        index, prompt = slice_prompt(row.target, image.array.shape[:3], axis)
        if image.array.shape[0] == 1 and axis != "k":
            continue
        reply = server.infer("sam", case_of(row.name), {**prompt, "result_extension": extension})
        _, _, file = read_reply(reply, tmp_path)
        mask = read_image(file)
        require_same_grid(path, file)
        place = "kji".index(axis)
        others = np.delete(mask.array, index, axis=place)
        assert not others.any()
        if row.target is not None and axis == "k":
            assert dice(np.take(mask.array, index, axis=place), np.take(row.target, index, axis=place)) > 0.6


def require_same_grid(image: Path, mask: Path) -> None:
    """Bit for bit where the formats are the same, else within the last digit of the text that DICOM keeps."""
    first, second = read_image(image).geometry, read_image(mask).geometry
    if image.name.endswith((".nii", ".nii.gz")):
        for key in ("pixdim", "srow_x", "srow_y", "srow_z", "qoffset_x", "quatern_b", "quatern_c", "quatern_d", "qform_code", "sform_code"):
            np.testing.assert_array_equal(nib.load(image).header[key], nib.load(mask).header[key])
        np.testing.assert_array_equal(nib.load(image).affine, nib.load(mask).affine)
    if image.is_file():
        assert (first.size, first.spacing, first.origin, first.direction) == (second.size, second.spacing, second.origin, second.direction)
    else:
        assert first.size == second.size
        np.testing.assert_allclose(first.corners(), second.corners(), atol=1e-9)


@pytest.mark.parametrize("name", ["series", "unsigned_series"])
def test_a_dicom_folder_is_downloaded_as_one_file_and_labelled_like_any_case(server: Server, name: str, tmp_path: Path) -> None:
    assert name in server.get("/datastore/?output=all").json()["objects"]
    info = server.get(f"/datastore/image/info?image={name}").json()
    assert (info["name"], info["path"]) == (f"{name}.nrrd", "")
    reply = server.get(f"/datastore/image?image={name}")
    assert f'filename="{name}.nrrd"' in reply.headers["Content-Disposition"]
    (tmp_path / "image.nrrd").write_bytes(reply.content)
    downloaded, original = read_image(tmp_path / "image.nrrd"), read_image(server.studies / name)
    np.testing.assert_array_equal(downloaded.array, original.array)
    np.testing.assert_allclose(downloaded.geometry.corners(), original.geometry.corners(), atol=1e-9)
    # what 3D Slicer sends back lies on the downloaded file's grid
    label = sitk.GetImageFromArray(INSIDE.astype(np.uint8))
    label.CopyInformation(sitk.ReadImage(str(tmp_path / "image.nrrd")))
    sitk.WriteImage(label, str(tmp_path / "label.nrrd"))
    taken = server.put_label(name, tmp_path / "label.nrrd").json()["fedsca"]
    assert (taken["usable"], taken["problem"]) == (True, None)
    assert (server.studies / "labels" / "final" / f"{name}.nrrd").exists()
    assert server.request("DELETE", f"/datastore/label?id={name}&tag=final").status_code == 200


@pytest.mark.parametrize(
    ("name", "sentence"), [("two_series", "2 DICOM series, expected one"), ("two_times", "several images at one position")]
)
def test_folders_that_are_not_one_volume_say_so(server: Server, name: str, sentence: str) -> None:
    for reply in (server.infer("sam_auto", name), server.get(f"/datastore/image?image={name}")):
        assert reply.status_code == 422
        assert sentence in reply.json()["detail"]


def test_the_interactive_interface_takes_a_dicom_folder_too(server: Server) -> None:
    y, x = np.nonzero(INSIDE[3])
    roi = [int(x.min()), int(x.max()), int(y.min()), int(y.max()), 3, 3]
    reply = server.request("POST", "/fedsca/segment", json={"image": "series", "axis": "k", "index": 3, "roi": roi})
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert body["size"] == [40, 48]
    assert 0.5 < body["area"] / np.count_nonzero(INSIDE[3]) < 1.6


# --- a whole CT -----------------------------------------------------------------------------------------------------------------------

CHEST = (300, 512, 512)
LESION = (150, 260, 200)
RADIUS = 45


def chest() -> NDArray[np.int16]:
    """A CT-like volume: air, an elliptic body with noise, and a bright ball in it."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-20, 21, (20, *CHEST[1:]), np.int16)
    _, j, i = np.ogrid[: CHEST[0], : CHEST[1], : CHEST[2]]
    body = ((j - 256) / 180) ** 2 + ((i - 256) / 230) ** 2 < 1
    array = np.tile(noise, (15, 1, 1))
    array += np.where(body, np.int16(40), np.int16(-1000))
    array[ball()] += 150
    return array


def ball() -> NDArray[np.bool_]:
    k, j, i = np.ogrid[: CHEST[0], : CHEST[1], : CHEST[2]]
    return np.asarray((k - LESION[0]) ** 2 + (j - LESION[1]) ** 2 + (i - LESION[2]) ** 2 < RADIUS**2)


def test_a_whole_ct_is_answered_in_bounded_time_and_memory(server: Server, tmp_path: Path) -> None:
    before = psutil.Process(server.process.pid).memory_info().rss
    for axis, index in zip("kji", LESION, strict=True):
        others = [place for name, place in zip("kji", LESION, strict=True) if name != axis]
        y, x = others
        box = [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS]
        prompt = {"axis": axis, "slices": [{"index": index, "box": box, "foreground": [[x, y]]}]}
        reply = server.infer("sam", "chest", {**prompt, "result_extension": ".nii"})
        _, params, file = read_reply(reply, tmp_path)
        assert params["seconds"]["total"] < 90
        mask = np.asanyarray(nib.load(file).dataobj).T
        np.testing.assert_array_equal(nib.load(file).affine, nib.load(server.studies / "chest.nii").affine)
        place = "kji".index(axis)
        assert np.count_nonzero(mask) == np.count_nonzero(np.take(mask, index, axis=place))
        assert dice(np.take(mask, index, axis=place), np.take(ball(), index, axis=place)) > 0.6
        del mask
        gc.collect()
    grown = psutil.Process(server.process.pid).memory_info().rss - before
    assert grown < 1.5 * 2**30
