"""Names of modules, uploads, background scoring and progress: the parts that need no server."""

import io
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from fastapi import UploadFile
from monailabel.interfaces.utils.app import app_instance

from monailabel_app import app as app_module
from monailabel_app.app_errors import RequestError
from monailabel_app.http_layer import STATUS_OF
from monailabel_app.image_cache import ImageCache
from monailabel_app.server_file import ServerFile
from monailabel_app.tuning_task import train_stats
from monailabel_app.uncertainty_worker import spread_slices
from monailabel_app.uploads import stored_upload, upload_name
from sam_adapters import errors
from sam_adapters.case_loading import load_case
from sam_adapters.cases import LabelledCase
from sam_adapters.label_log import label_file_sha256
from tests.monailabel_app.server_process import APP_FOLDER


def test_no_module_is_named_like_another_package() -> None:
    """MONAI Label puts the app folder first on the path: a module named like a dependency would be imported in its place."""
    names = {path.stem for path in APP_FOLDER.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__init__", "__pycache__"}
    ours = {"bin", "lib", "logs", "model"}  # made by MONAI Label
    assert not (names - ours) & (sys.stdlib_module_names | set(packages_distributions()))


def test_monai_label_finds_the_app(tmp_path: Path) -> None:
    """As its server and its training processes find it; nothing is written but the site directory and the datastore's index."""
    (tmp_path / "studies").mkdir()
    found = app_instance(str(APP_FOLDER), str(tmp_path / "studies"), {"image_size": "128"})
    assert type(found) is app_module.FedSCALabelApp
    assert not (tmp_path / "site.json").exists()
    assert found._worker is None


def test_every_error_has_an_answer() -> None:
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.FedscaError)]
    assert all(any(base in STATUS_OF for base in error_class.__mro__) for error_class in classes)


@pytest.mark.parametrize(
    ("name", "stem", "extension"),
    [
        ("case.nii.gz", "case", ".nii.gz"),
        ("/tmp/Slicer-user/x/case.nrrd", "case", ".nrrd"),
        (r"C:\Users\name\case 1.v2.PNG", "case 1.v2", ".png"),
        ("../../case.seg.nrrd", "case", ".seg.nrrd"),
    ],
)
def test_of_an_uploads_name_only_the_last_part_counts(name: str, stem: str, extension: str) -> None:
    assert upload_name(UploadFile(io.BytesIO(), filename=name)) == (stem, extension)


def test_uploads_are_stored_under_a_name_of_ours_and_removed() -> None:
    with stored_upload(UploadFile(io.BytesIO(b"voxels"), filename="../x/y.nii.gz")) as path:
        assert (path.name, path.read_bytes()) == ("upload.nii.gz", b"voxels")
    assert not path.exists()
    with pytest.raises(RequestError, match="not taken"), stored_upload(UploadFile(io.BytesIO(), filename="numpy.py")):
        pass


def test_a_path_of_the_servers_own_is_more_than_its_text() -> None:
    assert ServerFile(Path("/x/y")) == "/x/y"
    assert isinstance(ServerFile("/x"), ServerFile)
    assert not isinstance("/x", ServerFile)


@pytest.mark.parametrize(("count", "wanted", "indices"), [(12, 3, [2, 6, 10]), (1, 3, [0]), (2, 3, [0, 1]), (3, 3, [0, 1, 2])])
def test_scored_slices_are_spread_evenly(count: int, wanted: int, indices: list[int]) -> None:
    assert spread_slices(count, wanted) == indices


def test_progress_in_the_names_that_clients_know() -> None:
    stats = train_stats({"step": 3, "steps": 24})
    assert (stats["epoch"], stats["total_epochs"], stats["best_metric"]) == (3, 24, 0)


def test_served_images_and_tuned_images_are_cut_off_alike(tmp_path: Path) -> None:
    array = np.full((3, 20, 20), -1000, np.int16)
    array[:, 4:16, 4:16] = 40
    array[:, 8, 8] = 900
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray((array > 0).astype(np.uint8)), str(tmp_path / "label.nii.gz"))
    case = LabelledCase("ct", "ct", tmp_path / "ct.nii.gz", tmp_path / "label.nii.gz", label_file_sha256(tmp_path / "label.nii.gz"))
    served = ImageCache(2**20, "auto").read(tmp_path / "ct.nii.gz")
    tuned = load_case(case, window="auto").image
    assert (served.array.min(), served.array.max()) == (-160, 240)
    np.testing.assert_array_equal(served.array, tuned.array)
    assert served.content_hash == tuned.content_hash
