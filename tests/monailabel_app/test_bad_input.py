"""Bad input over HTTP: each is refused with a sentence, the server lives, and nothing is lost or left behind."""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import SimpleITK as sitk
from numpy.typing import NDArray

from monailabel_app.archives import MAX_MEMBERS
from tests.monailabel_app.bad_files import bad_images, whole_files
from tests.monailabel_app.server_process import Server, as_volume, blob, read_reply, running_server, wait_until, write_picture, write_volume

POINT = {"foreground": [[24, 20, 3]]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hospital")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    write_volume(studies / "a.nii.gz")
    write_picture(studies / "p.png")
    conf = {"image_size": "64", "uncertainty": "false", "tune": "false"}
    with running_server(folder, studies, conf) as running:
        assert put_label(running, "a", three_values()).status_code == 200
        yield running


@pytest.fixture
def unharmed(server: Server) -> Iterator[None]:
    """Whatever a test tries: the server answers, and no file appears, vanishes or changes."""
    before = everything(server)
    yield
    assert server.get("/info/").status_code == 200
    assert everything(server) == before


def everything(server: Server) -> dict[str, Any]:
    """Index, registry, and the content of every file beside the server's log."""
    skipped = ("server.log", ".lock", "registry.sqlite-wal", "registry.sqlite-shm")
    files = {
        str(path.relative_to(server.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in server.folder.rglob("*")
        if path.is_file() and path.name not in skipped
    }
    return {**files, "index": server.get("/datastore/?output=all").json(), "registry": server.get("/fedsca/adapters").json()}


def three_values() -> NDArray[np.uint8]:
    """A multi-label volume with the values 0, 1, 2, 3 on the grid of `write_volume`."""
    _, inside = blob()
    label = inside.astype(np.uint8)
    label[2, :5, :5], label[3, :5, :5] = 2, 3
    return label


def volume_file(folder: Path, array: NDArray[Any], name: str = "label.nii.gz", **kwargs: Any) -> bytes:
    sitk.WriteImage(as_volume(array, **kwargs), str(folder / name))
    return (folder / name).read_bytes()


def put_label(server: Server, case: str, label: NDArray[Any] | tuple[str, bytes], params: Any = None, **query: str) -> requests.Response:
    """Save a label, given as an array on the volume's grid or as a file."""
    file = label if isinstance(label, tuple) else ("label.nii.gz", volume_file(server.folder.parent, label))
    fields = {"label": file, "params": (None, json.dumps(params or {}))}
    return server.request("PUT", "/datastore/label", params={"image": case, **query}, files=fields)


def refused(reply: requests.Response, server: Server, *expected: int) -> str:
    """The sentence of a refusal; `expected` are its possible status codes, by default any 4xx."""
    assert 400 <= reply.status_code < 500, (reply.status_code, reply.text[:500])
    assert not expected or reply.status_code in expected, (reply.status_code, reply.text[:500])
    detail = reply.json()["detail"]
    assert isinstance(detail, str)
    assert len(detail) > 8
    assert "Traceback" not in detail
    assert "\n" not in detail
    assert str(server.folder) not in detail
    assert "/tmp/" not in detail
    return detail


# --- files ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unharmed")
def test_files_that_are_no_images_are_refused_at_every_door(server: Server, tmp_path: Path) -> None:
    point = (None, json.dumps(POINT))
    for what, file in bad_images(tmp_path).items():
        replies = {
            "image": server.request("PUT", "/datastore/image", params={"image": "new"}, files={"file": file}),
            "infer": server.request("POST", "/infer/sam", files={"file": file, "params": point}),
            "session": server.request("PUT", "/session/", files={"files": file}),
            "label": put_label(server, "a", file),
        }
        for door, reply in replies.items():
            assert refused(reply, server, 422), (what, door)


@pytest.mark.usefixtures("unharmed")
def test_files_with_endings_of_other_kinds_are_refused(server: Server) -> None:
    content = (server.studies / "a.nii.gz").read_bytes()
    for name in ("a.exe", "a.py", "a", "a.nii.gz.exe", "a.hdr", "a.vtk", "png"):
        assert "not taken" in refused(server.request("PUT", "/datastore/image?image=x", files={"file": (name, content)}), server, 400)
        assert refused(server.request("PUT", "/session/", files={"files": (name, content)}), server, 400)
        assert refused(put_label(server, "a", (name, content)), server, 400)


def zipped(members: dict[str, bytes], mode: int = 0o100644) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, data)
    return "series.zip", buffer.getvalue()


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("archive", "sentence"),
    [
        (("x.zip", b"no archive"), "not a zip"),
        (zipped({}), "no files"),
        (zipped({"../../x.dcm": b"x"}), "inside the archive"),
        (zipped({"/etc/x.dcm": b"x"}), "inside the archive"),
        (zipped({"..\\x.dcm": b"x"}), "inside the archive"),
        (zipped({"x.dcm": b"/etc/passwd"}, mode=0o120777), "plain file"),
        (zipped({f"{number}.dcm": b"" for number in range(MAX_MEMBERS + 1)}), "at most 5,000"),
        (zipped({"1.dcm": b"no DICOM", "2.dcm": b"no DICOM"}), "no DICOM series"),
        (zipped({"x.nii.gz": b"no volume"}), "cannot be read"),
    ],
)
def test_archives_are_bounded(server: Server, archive: tuple[str, bytes], sentence: str) -> None:
    assert sentence in refused(server.request("PUT", "/session/?uncompress=true", files={"files": archive}), server, 422)


def test_an_archive_of_one_volume_is_a_session(server: Server) -> None:
    archive = zipped({"folder/any name.nii.gz": (server.studies / "a.nii.gz").read_bytes()})
    session = server.request("PUT", "/session/?uncompress=true", files={"files": archive}).json()["session_id"]
    fields = {"params": (None, json.dumps(POINT))}
    assert server.request("POST", "/infer/sam", params={"session_id": session, "output": "json"}, files=fields).status_code == 200
    stored = server.folder / "site" / "work" / "sessions" / session
    assert sorted(path.name for path in stored.iterdir()) == ["image.nii.gz", "meta.info"]
    assert server.request("DELETE", f"/session/{session}").status_code == 200
    assert not stored.exists()


def series(folder: Path) -> dict[str, bytes]:
    """A volume of three slices as DICOM files without endings."""
    array, _ = blob((3, 40, 48))
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    found = {}
    for k, pixels in enumerate(array):
        image = sitk.GetImageFromArray(pixels)
        tags = {"0020|000e": "1.2.826.1", "0020|000d": "1.2.826.2", "0008|0018": f"1.2.826.3.{k}", "0008|0060": "CT", "0020|0013": str(k)}
        for tag, value in {**tags, "0020|0032": f"0\\0\\{3 * k}", "0020|0037": "1\\0\\0\\0\\1\\0"}.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{k}.dcm"))
        writer.Execute(image)
        found[f"1.2.826.3.{k}"] = (folder / f"{k}.dcm").read_bytes()
    return found


def test_a_dicom_series_is_a_session_as_several_files_or_as_an_archive(server: Server, tmp_path: Path) -> None:
    files = series(tmp_path)
    uploads = [[("files", file) for file in files.items()], [("files", zipped(files))]]
    for upload, query in zip(uploads, ("", "?uncompress=true"), strict=True):
        reply = server.request("PUT", f"/session/{query}", files=upload)
        assert reply.status_code == 200, reply.text
        session = reply.json()["session_id"]
        fields = {"params": (None, json.dumps({"foreground": [[24, 20, 1]]}))}
        mask, _, _ = read_reply(server.request("POST", "/infer/sam", params={"session_id": session}, files=fields), tmp_path)
        assert mask.GetSize() == (48, 40, 3)
        assert "several files" in refused(server.get(f"/session/{session}?image=true"), server, 404)
        assert server.request("DELETE", f"/session/{session}").status_code == 200
    mixed = [("files", ("a.nii.gz", b"x")), ("files", ("b.nii.gz", b"x"))]
    assert "one DICOM series" in refused(server.request("PUT", "/session/", files=mixed), server, 400)


def test_a_session_ends_when_its_time_is_over(server: Server) -> None:
    file = ("a.nii.gz", (server.studies / "a.nii.gz").read_bytes())
    session = server.request("PUT", "/session/?expiry=1", files={"files": file}).json()["session_id"]
    wait_until(lambda: server.get(f"/session/{session}").status_code == 404, 60, what="the session to expire")
    fields = {"params": (None, json.dumps(POINT))}
    reply = server.request("POST", "/infer/sam", params={"session_id": session}, files=fields)
    assert "expired" in refused(reply, server, 404)
    assert not (server.folder / "site" / "work" / "sessions" / session).exists()


# --- labels ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unharmed")
def test_labels_that_do_not_fit_are_refused_and_the_one_before_stays(server: Server, tmp_path: Path) -> None:
    good = three_values()
    straight = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    shifted = as_volume(good)
    shifted.SetOrigin((0, 0, 0))
    sitk.WriteImage(shifted, str(tmp_path / "shifted.nrrd"))
    cases = {
        "voxels up to 49.06 mm away": ("l.nii.gz", volume_file(tmp_path, good, direction=straight)),
        "mm away from the image's": ("l.nrrd", (tmp_path / "shifted.nrrd").read_bytes()),
        "48 × 39 × 6 instead of 48 × 40 × 6": ("l.nii.gz", volume_file(tmp_path, good[:, :-1])),
        "48 × 40 × 5 instead of 48 × 40 × 6": ("l.nii.gz", volume_file(tmp_path, good[:5])),
        "whole numbers": ("l.nii.gz", volume_file(tmp_path, good + np.float32(0.5))),
        "that are not numbers": ("l.nii.gz", volume_file(tmp_path, np.full(good.shape, np.nan, np.float32))),
        "not whole numbers": ("l.nrrd", volume_file(tmp_path, np.full(good.shape, np.inf, np.float32), "infinite.nrrd")),
        "the value -1": ("l.nii.gz", volume_file(tmp_path, good.astype(np.int16) - 1)),
    }
    for sentence, file in cases.items():
        assert sentence in refused(put_label(server, "a", file), server, 422)
    assert "channels" in refused(put_label(server, "a", ("l.seg.nrrd", layers(tmp_path, good))), server, 422)
    assert refused(put_label(server, "a", good, tag="a/b"), server, 400)
    assert refused(put_label(server, "nobody", good), server, 404)
    for declaration in ("liver", [1], [{"name": "liver"}], [{"name": "liver", "idx": 1.5}]):
        assert "label_info" in refused(put_label(server, "a", good, {"label_info": declaration}), server, 400)


def layers(folder: Path, label: NDArray[np.uint8]) -> bytes:
    """Overlapping segments, as 3D Slicer writes them into .seg.nrrd: one channel a layer."""
    image = sitk.GetImageFromArray(np.stack([label > 0, label > 1, label > 2], axis=-1).astype(np.uint8), isVector=True)
    image.CopyInformation(as_volume(label))
    sitk.WriteImage(image, str(folder / "layers.seg.nrrd"))
    return (folder / "layers.seg.nrrd").read_bytes()


@pytest.mark.usefixtures("unharmed")
def test_values_that_nobody_declared_are_listed(server: Server) -> None:
    declared = [{"name": "liver", "idx": 1}]
    sentence = refused(put_label(server, "a", three_values(), {"label_info": declared}), server, 422)
    assert "the values 2, 3, which nobody declared" in sentence
    assert "0 (background), 1 (liver)" in sentence


def test_a_label_of_several_values_is_stored_as_sent_and_no_result_holds_them(server: Server, tmp_path: Path) -> None:
    declared = [{"name": name, "idx": value} for value, name in enumerate(("liver", "tumour", "vessel"), start=1)]
    sent = volume_file(tmp_path, three_values())
    assert put_label(server, "a", ("x.nii.gz", sent), {"label_info": declared}).status_code == 200
    assert server.get("/datastore/label?label=a&tag=final").content == sent
    mask, params, _ = read_reply(server.infer("sam", "a", {**POINT, "label": "tumour"}), tmp_path)
    assert set(np.unique(sitk.GetArrayViewFromImage(mask))) <= {0, 1}
    assert params["label_names"] == {"tumour": 1}
    assert server.get("/datastore/label?label=a&tag=final").content == sent


# --- prompts and parameters -----------------------------------------------------------------------------------------------------------

BAD_PARAMS: list[Any] = [
    {"foreground": "24,20,3"},
    {"foreground": [["24", "20", "3"]]},
    {"foreground": [[True, True, True]]},
    {"foreground": [[None, 0, 0]]},
    {"foreground": [[[24, 20, 3]]]},
    {"foreground": [24, 20, 3]},
    {"foreground": {"i": 24}},
    {"foreground": [[48, 0, 0]]},
    {"foreground": [[0, 0, -1]]},
    {"foreground": [[10**300, 0, 0]]},
    {"foreground": [[24, 20, 3]] * 10_001},
    {"background": [[24, 20, 3]] * 10_001, **POINT},
    {"background": [[0, 0, 6]], **POINT},
    {"roi": [30, 10, 30, 10]},
    {"roi": ["1", "2", "1", "2", "1", "2"]},
    {"roi": [100, 200, 0, 1, 0, 1]},
    {"roi": {"i0": 1}},
    {"slices": [{"index": 3, "box": [20, 20, 10, 10]}]},
    {"slices": [{"index": 3, "box": [0, 0, 48, 10]}]},
    {"slices": [{"index": 99, "box": [0, 0, 8, 8]}]},
    {"slices": [{"index": 3.5, "box": [0, 0, 8, 8]}]},
    {"slices": [{"index": 3, "box": [0, 0, 8, 8], "command": "x"}]},
    {"slices": [{"index": 3}] * 10_001},
    {"slices": "all"},
    {**POINT, "axis": "x"},
    {**POINT, "axis": ["k"]},
    {**POINT, "axis": 2},
    {**POINT, "version": "newest"},
    {**POINT, "version": ["base"]},
    {**POINT, "label": ["x"]},
    {**POINT, "label": "x" * 201},
    {**POINT, "result_dtype": "float64"},
    {**POINT, "result_extension": "../x.nii.gz"},
    {**POINT, "label_tag": "a/b", "save_label": True},
    {**POINT, "label_tag": "final", "save_label": True},
    {**POINT, "image": "/etc/passwd"},
    {**POINT, "odd": "\ud800"},
]


@pytest.mark.usefixtures("unharmed")
def test_bad_prompts_are_refused(server: Server) -> None:
    for params in BAD_PARAMS:
        assert refused(server.infer("sam", "a", params), server, 400), params


BAD_TEXTS = [
    "{",
    "[]",
    "3",
    "null",
    '"text"',
    '{"foreground": [[NaN, 0, 0]]}',
    '{"foreground": [[Infinity, 0, 0]]}',
    '{"foreground": [[1e999, 0, 0]]}',
    '{"foreground": [[' + "9" * 5000 + ", 0, 0]]}",
    "[" * 100_000,
    '{"a": ' * 50_000,
    '{"foreground": ' + "[" * 900 + "]" * 900 + "}",
    '{"foreground": ' + "[" * 40 + "]" * 40 + "}",
    "\x00",
]


@pytest.mark.usefixtures("unharmed")
def test_params_that_are_no_json_object_are_refused(server: Server) -> None:
    label = ("l.nii.gz", (server.studies / "a.nii.gz").read_bytes())
    for text in BAD_TEXTS:
        params = (None, text)
        assert refused(server.request("POST", "/infer/sam?image=a", files={"params": params}), server, 400), text[:40]
        assert refused(server.request("PUT", "/datastore/label?image=a", files={"params": params, "label": label}), server, 400)
        assert refused(server.request("PUT", "/datastore/image?image=x", files={"params": params, "file": label}), server, 400)
        assert refused(server.request("PUT", "/datastore/image/info?image=a", files={"info": params}), server, 400)
        assert refused(server.request("PUT", "/datastore/label/info?label=a&tag=final", files={"info": params}), server, 400)


@pytest.mark.usefixtures("unharmed")
def test_bodies_that_are_no_json_object_are_refused(server: Server) -> None:
    paths = ("/activelearning/first", "/train/sam", "/batch/infer/sam_auto", "/fedsca/adapters/base/activate")
    for text in (text for text in BAD_TEXTS if text != "null"):
        for path in paths:
            refused(server.request("POST", path, data=text.encode(), headers={"Content-Type": "application/json"}), server, 400, 422)
    assert server.get("/train/").status_code == 404  # nothing was started


@pytest.mark.usefixtures("unharmed")
def test_parts_that_are_missing_or_of_another_type_are_named(server: Server) -> None:
    image = ("a.nii.gz", (server.studies / "a.nii.gz").read_bytes())
    wrong = {"Content-Type": "application/json"}
    broken = {"Content-Type": "multipart/form-data"}
    for method, path in (("PUT", "/datastore/image?image=x"), ("PUT", "/datastore/label?image=a"), ("PUT", "/session/")):
        assert refused(server.request(method, path), server, 422)
        assert refused(server.request(method, path, files={"other": image}), server, 422)
        assert refused(server.request(method, path, data=b"{}", headers=wrong), server, 422)
        assert refused(server.request(method, path, data=b"--x", headers=broken), server, 400)
        assert refused(server.request(method, path, data={"file": "text", "label": "text", "files": "text"}), server, 422)
    assert "label" in refused(server.request("PUT", "/datastore/label?image=a", files={"file": image}), server, 422)
    assert "image" in refused(server.request("PUT", "/datastore/label", files={"label": image}), server, 422)
    assert refused(server.request("POST", "/infer/sam"), server, 400)
    assert refused(server.request("POST", "/infer/sam?image=a&output=everything"), server, 422)
    assert refused(server.request("PUT", "/session/?expiry=soon", files={"files": image}), server, 422)
    assert refused(
        server.request("POST", "/infer/sam", params={"image": "a"}, data=b"params=%7B", headers={"Content-Type": "text/plain"}), server
    )


@pytest.mark.usefixtures("unharmed")
def test_names_of_what_does_not_exist_are_refused(server: Server) -> None:
    unknown = "0123456789abcdef"
    assert refused(server.infer("sam9", "a", POINT), server, 404)
    assert refused(server.infer("sam", "nobody", POINT), server, 404)
    assert refused(server.infer("sam", "a", {**POINT, "version": unknown}), server, 404)
    assert refused(server.request("POST", "/activelearning/best", json={}), server, 404)
    assert refused(server.request("POST", "/activelearning/first", json={"strategy": ["x"]}), server, 400)
    assert refused(server.request("POST", "/infer/sam", params={"session_id": "0-0"}), server, 404)
    assert refused(server.request("POST", "/infer/sam", params={"session_id": "a_b"}), server, 400)
    for method in ("GET", "DELETE"):
        assert refused(server.request(method, "/session/0-0"), server, 404)
    for query in ("label=a&tag=other", "label=nobody&tag=final"):
        assert refused(server.get(f"/datastore/label?{query}"), server, 404)
    assert refused(server.request("DELETE", "/datastore/label?id=a&tag=other"), server, 404)
    assert refused(server.request("DELETE", "/datastore/image?id=nobody"), server, 404)
    assert refused(server.get("/datastore/image?image=nobody"), server, 404)
    assert server.request("HEAD", "/datastore/image?image=nobody").status_code == 404
    assert server.request("HEAD", "/datastore/image?image=a&check_sum=CRC:1").status_code == 400
    assert server.request("HEAD", "/datastore/image?image=a&check_sum=MD5:1").status_code == 404
    assert server.request("HEAD", "/datastore/image?image=a").status_code == 200
    assert refused(server.request("PUT", "/datastore/image/info?image=nobody", data={"info": "{}"}), server, 404)


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/proxy/dicom/wado/studies"),
        ("POST", "/proxy/dicom/stow/studies"),
        ("GET", "/proxy/dicom/studies"),
        ("GET", "/ohif/"),
        ("GET", "/ohif/index.html"),
        ("GET", "/model/sam"),
        ("GET", "/model/info/sam"),
        ("PUT", "/model/sam"),
        ("DELETE", "/model/sam"),
        ("POST", "/infer/wsi/sam"),
        ("POST", "/infer/wsi_v2/sam"),
        ("POST", "/scoring/dice"),
        ("GET", "/scoring/"),
        ("GET", "/batch/infer"),
        ("GET", "/train/"),
    ],
)
def test_what_is_not_offered_answers_404(server: Server, method: str, path: str) -> None:
    assert refused(server.request(method, path), server, 404)


def test_good_files_are_taken_at_the_same_doors(server: Server, tmp_path: Path) -> None:
    """So that the refusals above are about the files."""
    for name, content in whole_files(tmp_path).items():
        assert server.request("PUT", "/datastore/image?image=good", files={"file": (name, content)}).status_code == 200, name
        assert server.get("/datastore/image?image=good").content == content
    assert server.request("DELETE", "/datastore/image?id=good").status_code == 200


def test_a_result_that_is_saved_is_sent_too(server: Server, tmp_path: Path) -> None:
    reply = server.infer("sam", "a", {**POINT, "save_label": True, "label_tag": "proposed"})
    mask, _, _ = read_reply(reply, tmp_path)
    stored = sitk.ReadImage(str(server.studies / "labels" / "proposed" / "a.nii.gz"))
    assert (sitk.GetArrayFromImage(mask) == sitk.GetArrayFromImage(stored)).all()
    assert server.request("DELETE", "/datastore/label?id=a&tag=proposed").status_code == 200


def test_labelled_cases_come_as_one_archive(server: Server) -> None:
    with zipfile.ZipFile(io.BytesIO(server.get("/datastore/dataset").content)) as archive:
        assert sorted(archive.namelist()) == ["image/a.nii.gz", "label/a.nii.gz"]
        assert archive.read("label/a.nii.gz") == (server.studies / "labels" / "final" / "a.nii.gz").read_bytes()


def test_nothing_is_left_in_the_temporary_folder(server: Server) -> None:
    folders = list((server.folder / "site" / "work").glob("temporary-*"))
    assert len(folders) == 1
    # a file that was sent is removed after its last byte has left, which a client cannot see
    wait_until(lambda: list(folders[0].iterdir()) == [], 60, what="the temporary folder to be empty")
