"""The official MONAI Label plug-in for Slicer against a server of ours: every request that it makes, in the form in which it makes it.

What is odd about its requests is kept: `http.client` without a session, a fixed multipart boundary, file names that are whole paths
of the radiologist's computer,
headers of an earlier upload that come again with a later GET, label values that count segments which were left out, and many GETs in a row.
The requests are written down here, not taken from the plug-in.
"""

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from tests.monailabel_app.server_process import Server, as_volume, blob, dice, running_server, wait_until, write_picture, write_volume

BOUNDARY = "----------lImIt_of_THE_fIle_eW_$"  # every request's, whatever the files hold
CLIENT = "user-xyz"
SECONDS = 240.0


@dataclass(frozen=True)
class Reply:
    """Status, body, and the header fields that the plug-in looks at."""

    status: int
    body: bytes
    content_type: str
    disposition: str

    @property
    def json(self) -> Any:
        assert self.status == 200, self.body[:2000]
        return json.loads(self.body)

    @property
    def parts(self) -> dict[str, tuple[str, bytes]]:
        """A multipart reply as the plug-in's parser finds it: name -> (file name, content)."""
        assert self.status == 200, self.body[:2000]
        assert "multipart" in self.content_type
        boundary = re.search(r"boundary=\"?([^\";]+)", self.content_type)
        assert boundary is not None
        found: dict[str, tuple[str, bytes]] = {}
        for part in self.body.split(b"--" + boundary.group(1).encode())[1:-1]:
            head, _, content = part.lstrip(b"\r\n").partition(b"\r\n\r\n")
            header = Message()
            header["Content-Disposition"] = re.search(rb"(?i)content-disposition: (.*)", head)[1].decode().strip()  # type: ignore[index]
            name = str(header.get_param("name", header="Content-Disposition"))
            found[name] = (str(header.get_filename() or ""), content.removesuffix(b"\r\n"))
        return found


class Plugin:
    """The plug-in's HTTP: a new connection for every request, no timeout of its own."""

    def __init__(self, address: str) -> None:
        self._where = urlsplit(address)

    def send(self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        connection = http.client.HTTPConnection(self._where.hostname or "", self._where.port, timeout=SECONDS)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            reply = connection.getresponse()
            return Reply(reply.status, reply.read(), reply.getheader("content-type", ""), reply.getheader("content-disposition", ""))
        finally:
            connection.close()

    def with_json(self, method: str, path: str, body: Mapping[str, Any]) -> Reply:
        """Header names in lower case, the length counted in characters."""
        text = json.dumps(body)
        return self.send(method, path, text, {"content-type": "application/json", "content-length": str(len(text))})

    def with_files(self, method: str, path: str, fields: Mapping[str, str], files: Mapping[str, Path]) -> Reply:
        """Each file under its whole path, which tells the server where the radiologist's temporary folder is."""
        body = bytearray()
        for name, value in fields.items():
            body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, file in files.items():
            kind = "application/gzip" if file.suffix == ".gz" else "application/octet-stream"
            body += (
                f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
            )
            body += file.read_bytes() + b"\r\n"
        body += f"--{BOUNDARY}--\r\n\r\n".encode()
        headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "content-length": str(len(body))}
        return self.send(method, path, bytes(body), headers)

    def infer(self, model: str, image: str, params: Mapping[str, Any], session: str = "", files: Mapping[str, Path] | None = None) -> Reply:
        """`image` is always there, and empty with a session."""
        path = f"/infer/{quote_plus(model)}?image={quote_plus(image)}" + (f"&session_id={quote_plus(session)}" if session else "")
        sent = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": CLIENT, **params}
        return self.with_files("POST", path, {"params": json.dumps(sent)}, files or {})


@dataclass(frozen=True)
class Scene:
    server: Server
    plugin: Plugin
    targets: dict[str, NDArray[np.bool_]]

    def roi(self, case: str) -> list[int]:
        """i0, i1, j0, j1, k0, k1 around the structure, as the plug-in sends it."""
        k, j, i = np.nonzero(self.targets[case])
        return [int(value) for axis in (i, j, k) for value in (axis.min(), axis.max())]

    def point(self, case: str) -> list[int]:
        k, j, i = (round(float(axis.mean())) for axis in np.nonzero(self.targets[case]))
        return [i, j, k]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("official")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    targets = {
        "oblique": write_volume(studies / "oblique.nii.gz", seed=1),
        "second": write_volume(studies / "second.nrrd", seed=2),
        "picture": write_picture(studies / "picture.png", seed=3),
    }
    with running_server(folder, studies, {"tune": "false", "uncertainty": "false"}) as server:
        yield Scene(server, Plugin(server.address), targets)


def mask_of(reply: Reply, folder: Path) -> tuple[sitk.Image, dict[str, Any]]:
    """What the plug-in does with an infer reply: the parameters, and the one file saved under its name."""
    parts = reply.parts
    files = [(name, content) for name, content in parts.values() if name]
    assert len(files) == 1
    name, content = files[0]
    assert name == Path(name).name, "it is joined to a folder unchecked"
    (folder / name).write_bytes(content)
    return sitk.ReadImage(str(folder / name)), dict(json.loads(parts["params"][1]))


def test_login_is_asked_about_first(scene: Scene) -> None:
    """Without login MONAI Label has no such route, which the plug-in takes for "no login"; servers with one are in test_plain_server.py
    and test_door.py."""
    assert scene.plugin.send("GET", "/auth/").status == 404
    form = urlencode({"username": "anna", "password": "secret", "grant_type": "password"})
    headers = {"content-type": "application/x-www-form-urlencoded", "content-length": str(len(form))}
    assert scene.plugin.send("POST", "/auth/token", form, headers).status == 404


def test_info_fills_the_plug_ins_lists(scene: Scene) -> None:
    info = scene.plugin.send("GET", "/info/").json
    assert {"name", "description", "version", "labels", "models", "trainers", "strategies", "scoring", "train_stats", "datastore"} <= set(
        info
    )
    for model in info["models"].values():
        assert model["type"] in ("segmentation", "deepgrow", "deepedit", "scribbles")
        assert isinstance(model["labels"], list | dict)
        assert isinstance(model["dimension"], int)
        assert "config" in model
    for trainer in info["trainers"].values():
        assert "config" in trainer
    assert all("description" in strategy for strategy in info["strategies"].values())
    assert {"total", "completed", "label_tags"} <= set(info["datastore"])


def test_a_button_press_asks_for_info_again_and_again(scene: Scene) -> None:
    """18 GETs of /info/ for one fetch were counted."""
    assert {scene.plugin.send("GET", "/info/").status for _ in range(18)} == {200}


def test_headers_of_an_earlier_request_do_no_harm(scene: Scene) -> None:
    """After a login the plug-in keeps one dictionary of headers for all requests: a GET then announces the body of the upload before it,
    and sends none."""
    stale = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "content-length": "57"}
    for path, status in (("/info/", 200), ("/datastore/?output=all", 200), ("/train/?check_if_running=true", 404)):
        assert scene.plugin.send("GET", path, headers={**stale, "Authorization": "Bearer none"}).status == status, path


def test_a_sample_is_offered_and_downloaded(scene: Scene, tmp_path: Path) -> None:
    sample = scene.plugin.with_json("POST", "/activelearning/random", {"client_id": CLIENT}).json
    assert {"id", "path", "name"} <= set(sample)
    assert Path(sample["path"]).name == sample["name"]
    image = scene.plugin.send("GET", f"/datastore/image?image={quote_plus(sample['id'])}")
    assert image.status == 200
    stored = scene.server.studies / sample["name"]
    assert image.body == stored.read_bytes()
    (tmp_path / stored.name).write_bytes(image.body)
    assert sitk.ReadImage(str(tmp_path / stored.name)).GetSize() == sitk.ReadImage(str(stored)).GetSize()


def test_an_empty_body_asks_for_a_sample_too(scene: Scene) -> None:
    """Older versions send no parameters, and then neither a type nor a length."""
    assert "id" in scene.plugin.send("POST", "/activelearning/first").json


def test_the_whole_datastore_is_listed(scene: Scene) -> None:
    objects = scene.plugin.send("GET", "/datastore/?output=all").json["objects"]
    assert {"oblique", "second", "picture"} <= set(objects)
    assert {"image", "labels"} <= set(objects["oblique"])


@pytest.mark.parametrize("case", ["oblique", "second"])
def test_clicks_come_as_voxel_lists(scene: Scene, case: str, tmp_path: Path) -> None:
    """Deepgrow: the region of interest and all points so far, with every request."""
    prompts = {"label": "target", "foreground": [scene.point(case)], "background": [[1, 1, scene.point(case)[2]]], "roi": scene.roi(case)}
    mask, params = mask_of(scene.plugin.infer("sam", case, prompts), tmp_path)
    assert mask.GetPixelID() == sitk.sitkUInt8
    image = sitk.ReadImage(str(next(scene.server.studies.glob(f"{case}.*"))))
    assert mask.GetSize() == image.GetSize()
    np.testing.assert_allclose(mask.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(mask.GetOrigin(), image.GetOrigin(), atol=1e-4)
    assert dice(sitk.GetArrayFromImage(mask), scene.targets[case]) > 0.7
    assert params["label_names"]


def test_a_point_alone_and_no_point_at_all(scene: Scene, tmp_path: Path) -> None:
    """Lists may be empty; the plug-in always sends both."""
    empty: list[list[int]] = []
    mask, _ = mask_of(scene.plugin.infer("sam", "oblique", {"foreground": [scene.point("oblique")], "background": empty}), tmp_path)
    slices = np.flatnonzero(sitk.GetArrayFromImage(mask).any(axis=(1, 2)))
    assert set(slices) <= {scene.point("oblique")[2]}
    automatic, _ = mask_of(scene.plugin.infer("sam_auto", "oblique", {}), tmp_path)
    assert automatic.GetSize() == mask.GetSize()


def test_a_point_outside_of_the_image_is_refused_in_words(scene: Scene) -> None:
    reply = scene.plugin.infer("sam", "oblique", {"foreground": [[1000, 5, 2]], "background": []})
    assert reply.status == 400
    assert "1000" in json.loads(reply.body)["detail"]


def test_a_scribble_comes_as_a_file_under_its_whole_path(scene: Scene, tmp_path: Path) -> None:
    """The labelmap with the person's strokes is in the field `label`."""
    strokes = tmp_path / "deep folder" / "tmp1a2b.nii.gz"
    strokes.parent.mkdir()
    sitk.WriteImage(as_volume(np.zeros(blob()[0].shape, np.uint8)), str(strokes))
    reply = scene.plugin.infer("sam", "oblique", {"roi": scene.roi("oblique")}, files={"label": strokes})
    mask, _ = mask_of(reply, tmp_path)
    assert dice(sitk.GetArrayFromImage(mask), scene.targets["oblique"]) > 0.7


def test_a_session_begins_is_asked_about_serves_and_ends(scene: Scene, tmp_path: Path) -> None:
    """The upload of a volume that is in no datastore: `requests` sends it, in the field `files`, under its base name."""
    import requests

    volume = scene.server.studies / "oblique.nii.gz"
    with volume.open("rb") as stream:
        url = f"{scene.server.address}/session/"
        reply = requests.put(url, files=[("files", (volume.name, stream))], data={"client_id": CLIENT}, timeout=SECONDS)
    session = reply.json()["session_id"]
    path = f"/session/{quote_plus(session)}"
    assert scene.plugin.send("GET", f"{path}").status == 200
    mask, _ = mask_of(scene.plugin.infer("sam", "", {"roi": scene.roi("oblique")}, session=session), tmp_path)
    assert dice(sitk.GetArrayFromImage(mask), scene.targets["oblique"]) > 0.7
    assert scene.plugin.send("DELETE", path).status == 200
    assert scene.plugin.send("GET", path).status == 404
    gone = scene.plugin.infer("sam", "", {"roi": scene.roi("oblique")}, session=session)
    assert gone.status == 404


def test_a_volume_is_uploaded_labelled_and_the_label_read_again(scene: Scene, tmp_path: Path) -> None:
    """Names from the radiologist's computer go nowhere: what is kept is called as the query says."""
    folder = tmp_path / "Slicer temp ü"
    folder.mkdir()
    array, inside = blob(seed=9)
    sitk.WriteImage(as_volume(array), str(folder / "tmpq7x.nii.gz"))
    uploaded = scene.plugin.with_files(
        "PUT",
        f"/datastore/?image={quote_plus('My case+1')}",
        {"params": json.dumps({"client_id": CLIENT})},
        {"file": folder / "tmpq7x.nii.gz"},
    ).json
    case = uploaded["image"]
    assert "tmp" not in case
    assert case in scene.plugin.send("GET", "/datastore/?output=all").json["objects"]

    label = folder / "tmpz.nii.gz"
    sitk.WriteImage(as_volume(inside.astype(np.uint8)), str(label))
    # The segment "background" is left out but counted, so that "target" is said to be 2, and the file holds 1.
    told = {"label_info": [{"name": "target", "idx": 2, "color": [230, 159, 0]}], "client_id": CLIENT}
    path = f"/datastore/label?image={quote_plus(case)}&tag=final"
    saved = scene.plugin.with_files("PUT", path, {"params": json.dumps(told)}, {"label": label}).json
    assert saved["fedsca"]["usable"] is True

    again = scene.plugin.send("GET", f"/datastore/label?label={quote_plus(case)}&tag=final")
    assert again.status == 200
    assert "filename" in again.disposition
    (tmp_path / "again.nii.gz").write_bytes(again.body)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again.nii.gz"))), inside)
    kept = [path.name for path in scene.server.studies.rglob("*") if path.is_file()]
    assert not [name for name in kept if "tmp" in name]


def test_a_label_without_parameters_or_tag_is_saved(scene: Scene, tmp_path: Path) -> None:
    """Older versions: no tag in the query, an empty object as parameters."""
    label = tmp_path / "tmp.nii.gz"
    sitk.WriteImage(as_volume(scene.targets["second"].astype(np.uint8)), str(label))
    reply = scene.plugin.with_files("PUT", "/datastore/label?image=second", {"params": "{}"}, {"label": label})
    assert reply.status == 200, reply.body
    assert "final" in scene.plugin.send("GET", "/datastore/?output=all").json["objects"]["second"]["labels"]


def test_training_is_started_asked_about_and_stopped(scene: Scene) -> None:
    """`check_if_running` answers by the status alone."""
    assert scene.plugin.send("GET", "/train/?check_if_running=true").status == 404
    started = scene.plugin.with_json("POST", "/train/sam", {"name": "model_01", "max_epochs": 1, "client_id": CLIENT}).json
    assert started["status"] in ("SUBMITTED", "RUNNING")  # it may have begun by now
    told = lambda: scene.plugin.send("GET", "/train/").json  # noqa: E731
    wait_until(lambda: told()["status"] != "SUBMITTED", 60, what="training to run", note=scene.server.log)
    assert (told()["id"], "details" in told()) == (started["id"], True)
    assert scene.plugin.send("DELETE", "/train/").json["id"] == started["id"]
    ended = lambda: scene.plugin.send("GET", "/train/?check_if_running=true").status == 404  # noqa: E731
    wait_until(ended, 120, what="training to end", note=scene.server.log)


def test_all_the_while_the_server_wrote_no_error(scene: Scene) -> None:
    assert "Traceback" not in scene.server.log()
