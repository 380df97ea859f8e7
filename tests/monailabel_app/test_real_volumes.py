"""Real volumes and DICOM series, served once each. Needs a folder of them (`$FEDSCA_DATA/volumes`); skipped where there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sam_adapters.images import read_image, read_label
from tests.monailabel_app.server_process import Server, dice, read_reply, running_server

VOLUMES = Path(os.environ.get("FEDSCA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "volumes"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not VOLUMES.is_dir(), reason=f"no real volumes in {VOLUMES} (set FEDSCA_DATA)"),
]


def sources() -> dict[str, Path]:
    """Case -> image file or DICOM folder."""
    found = {path.name.partition(".")[0]: path for path in sorted(VOLUMES.glob("*/studies/*.nii.gz"))}
    found |= {path.name: path / "dicom" for path in sorted(VOLUMES.glob("sunnybrook/SCD*"))}
    return {**found, **({"liver": VOLUMES / "dcmqi_liver" / "ct"} if (VOLUMES / "dcmqi_liver").is_dir() else {})}


def label_of(image: Path) -> Path | None:
    path = VOLUMES / "dcmqi_liver" / "seg" / "liver_seg.nrrd" if image.name == "ct" else image.parent / "labels" / "final" / image.name
    return path if path.is_file() else None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("volumes")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    for case, source in sources().items():
        (studies / (case if source.is_dir() else source.name)).symlink_to(source)
    with running_server(folder, studies, {"image_size": "64", "tune": "false", "uncertainty": "false", "window": "auto"}) as server:
        yield server


def test_every_volume_is_served_on_its_own_grid(server: Server, tmp_path: Path) -> None:
    served = 0
    for case, source in sources().items():
        if case.startswith("SCD"):
            continue
        image = read_image(source)
        k = image.array.shape[0] // 2
        label_file = label_of(source)
        target = image.array[k] > image.array.min() if label_file is None else read_label(label_file, image)[k] > 0
        y, x = np.nonzero(target if target.any() else np.ones(target.shape, bool))
        box = [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
        prompt = {"slices": [{"index": k, "box": box}], "result_extension": ".nrrd" if source.is_dir() else ".nii.gz"}
        _, _, file = read_reply(server.infer("sam", case, prompt), tmp_path)
        mask = read_image(file)
        assert image.geometry.difference(mask.geometry) is None, case
        if source.is_file():
            assert mask.geometry == image.geometry, case
        assert not np.delete(mask.array, k, axis=0).any()
        assert mask.array[k].any(), case
        if case == "liver":
            assert dice(mask.array[k], target) > 0.8
        served += 1
    assert served == len([case for case in sources() if not case.startswith("SCD")])


@pytest.mark.parametrize("case", ["SCD0000201", "SCD0000301"])
def test_a_cardiac_cine_of_two_phases_is_refused_with_a_sentence(server: Server, case: str) -> None:
    reply = server.infer("sam_auto", case)
    assert reply.status_code == 422
    assert "several images at one position" in reply.json()["detail"]
