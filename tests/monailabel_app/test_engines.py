"""The CPU engine behind a real server: compiled in the background, the same masks as PyTorch, another version compiled anew."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from sam_adapters.loading import write_untuned
from sam_adapters.openvino_runner import openvino_installed
from sam_adapters.provenance import Provenance
from sam_adapters.registry import Registry
from sam_adapters.settings import SiteSettings
from sam_adapters.site_directory import SiteDirectory
from tests.monailabel_app.server_process import Server, blob, read_reply, running_server, wait_until

pytestmark = pytest.mark.skipif(not openvino_installed(), reason="OpenVINO is not installed")

DEADLINE = 240.0


def mask(server: Server, folder: Path) -> tuple[np.ndarray, dict[str, object]]:
    image, params, _ = read_reply(server.infer("sam", "ball", {"roi": [12, 36, 8, 32, 2, 4]}), folder)
    return sitk.GetArrayFromImage(image) > 0, params


def compiled(server: Server, version: str) -> bool:
    status = server.status()
    return bool(status["active"] == version and str(status["engine"]).startswith("openvino-cpu"))


def test_a_version_is_compiled_in_the_background_and_answers_alike(tmp_path: Path) -> None:
    studies = tmp_path / "site" / "studies"
    studies.mkdir(parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(blob()[0]), str(studies / "ball.nii.gz"))
    conf = {"cpu_engine": "openvino", "cpu_precision": "float32", "image_size": "64", "embedding_disk_mb": "16", "prefetch": "false"}
    with running_server(tmp_path, studies, conf) as server:
        first, params = mask(server, tmp_path)  # by whichever engine is ready
        assert params["version"] == "base"
        wait_until(lambda: compiled(server, "base"), DEADLINE, what="the base to be compiled", note=server.log)
        second, _ = mask(server, tmp_path)
        assert first.any()
        assert (first != second).sum() <= 0.01 * first.sum()  # a few pixels on the rim
        figures = server.status()["embeddings"]
        assert (figures["slices"], figures["misses"] >= 3, figures["hits"] >= 3) == (3, True, True)

        version = _add_version(tmp_path / "site", tmp_path)
        reply = server.request("POST", f"/fedsca/adapters/{version}/activate", json={"reason": "to compare"})
        assert reply.status_code == 200, reply.text
        wait_until(lambda: compiled(server, version), DEADLINE, what="the version to be compiled", note=server.log)
        third, params = mask(server, tmp_path)
        assert params["version"] == version  # untuned: the base's masks, from embeddings of its own
        assert (third != second).sum() <= 0.01 * first.sum()  # a few pixels on the rim
        assert server.status()["embeddings"]["slices"] == 6


def _add_version(root: Path, scratch: Path) -> str:
    site = SiteDirectory.open(root)
    schema = write_untuned(SiteSettings.load(site.settings_file), scratch / "untuned")
    with Registry(site) as registry:
        return registry.add(scratch / "untuned", Provenance(kind="local", base=schema.base, schema_id=schema.id, site="site", cases=2)).id
