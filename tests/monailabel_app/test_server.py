"""The app through its HTTP interface, with a real server process: what clients ask for, and what they get."""

import gc
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from sam_adapters.images import read_image
from sam_adapters.label_log import LabelLog
from tests.monailabel_app.server_process import (
    Server,
    as_volume,
    blob,
    dice,
    parts_of,
    read_reply,
    running_server,
    wait_until,
    write_label,
    write_picture,
    write_volume,
)


@dataclass(frozen=True)
class Scene:
    """A server, and where the structure is in each of its cases."""

    server: Server
    targets: dict[str, NDArray[np.bool_]]

    def point(self, case: str) -> list[int]:
        """A voxel (i, j, k) deep inside the structure."""
        k, j, i = (round(float(axis.mean())) for axis in np.nonzero(self.targets[case]))
        return [i, j, k]

    def roi(self, case: str) -> list[int]:
        """i0, i1, j0, j1, k0, k1 around the structure, inclusive."""
        k, j, i = np.nonzero(self.targets[case])
        return [int(value) for axis in (i, j, k) for value in (axis.min(), axis.max())]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hospital")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    targets = {
        "oblique": write_volume(studies / "oblique.nii.gz", seed=1),
        "slicer": write_volume(studies / "slicer.nrrd", seed=2),
        "kept": write_volume(studies / "kept.nii.gz", seed=3),
        "fundus": write_picture(studies / "fundus.jpg", seed=4),
        "grey": write_picture(studies / "grey.png", seed=5),
    }
    (folder / "site" / "split.json").write_text(json.dumps({"test": ["kept"]}), encoding="utf-8")
    with running_server(folder, studies, {"idle_seconds": "0.3", "tune": "false", "name": "north"}) as server:
        yield Scene(server, targets)


# --- what is there --------------------------------------------------------------------------------------------------------------------


def test_info_lists_what_the_official_plug_in_looks_for(scene: Scene) -> None:
    info = scene.server.get("/info/").json()
    assert {name: model["type"] for name, model in info["models"].items()} == {"sam": "deepgrow", "sam_auto": "segmentation"}
    assert info["models"]["sam"]["dimension"] == 3
    assert info["labels"] == ["target"]
    assert set(info["strategies"]) == {"first", "random", "least_certain"}
    assert set(info["trainers"]) == {"sam"}
    assert info["datastore"]["total"] == 5


def test_status_tells_what_serves(scene: Scene) -> None:
    status = scene.server.status()
    assert (status["site"], status["active"], status["generation"]) == ("north", "base", 0)
    assert status["base"]["name"] == "litemedsam"
    assert status["base"]["sha256"].startswith("79d8c9dc")
    assert (status["device"], status["image_size"]) == ("cpu", 128)
    assert status["cases"] == {"total": 5, "offered": 4} | {"offered": 4 - status["labels"]["total"]}
    assert status["tuning"]["automatic"] is False
    assert (status["last_round"], status["next_round"]) == (None, None)


def test_adapters_of_a_new_site(scene: Scene) -> None:
    found = scene.server.get("/fedsca/adapters").json()
    assert found == {"active": "base", "learnt_from": "base", "generation": 0, "versions": [], "decisions": []}
    reply = scene.server.request("POST", "/fedsca/adapters/base/activate", json={"reason": "to be sure"})
    assert reply.json() == {"active": "base", "generation": 0}


# --- segmenting -----------------------------------------------------------------------------------------------------------------------


def geometry(image: sitk.Image) -> tuple[Any, ...]:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


def test_a_box_over_several_slices_keeps_the_geometry_bit_for_bit(scene: Scene, tmp_path: Path) -> None:
    mask, params, path = read_reply(scene.server.infer("sam", "oblique", {"roi": scene.roi("oblique")}), tmp_path)
    image = scene.server.studies / "oblique.nii.gz"
    assert path.name == "label.nii.gz"
    assert geometry(mask) == geometry(sitk.ReadImage(str(image)))
    assert mask.GetPixelID() == sitk.sitkUInt8
    array = sitk.GetArrayFromImage(mask)
    assert set(np.unique(array)) == {0, 1}
    assert dice(array, scene.targets["oblique"]) > 0.7
    k0, k1 = scene.roi("oblique")[4:]
    assert set(params["iou"]) == {str(k) for k in range(k0, k1 + 1)}
    assert not array[:k0].any()
    assert not array[k1 + 1 :].any()


def test_a_reply_says_who_made_it(scene: Scene, tmp_path: Path) -> None:
    _, params, _ = read_reply(scene.server.infer("sam", "oblique", {"roi": scene.roi("oblique"), "label": "tumour"}), tmp_path)
    assert (params["version"], params["base_name"]) == ("base", "litemedsam")
    assert params["base"] == scene.server.status()["base"]["sha256"]
    assert params["label_names"] == {"tumour": 1}
    assert params["axis"] == "k"
    assert 0 <= params["seconds"]["total"] < 60
    assert all(0 <= value <= 1.2 for value in params["iou"].values())


def test_the_official_plug_ins_request(scene: Scene, tmp_path: Path) -> None:
    """SmartEdit: a box whose ends come in any order, a segment's name, .nrrd of uint8 wanted, multipart back."""
    i0, i1, j0, j1, k0, k1 = scene.roi("slicer")
    params = {
        "label": "spleen",
        "foreground": [scene.point("slicer")],
        "background": [[0, 0, 0]],
        "version": "active",
        "axis": "k",
        "roi": [i1, i0, j1, j0, k1, k0],
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "client_id": "user-xyz",
    }
    mask, reply, path = read_reply(scene.server.infer("sam", "slicer", params), tmp_path)
    assert path.suffix == ".nrrd"
    assert mask.GetPixelID() == sitk.sitkUInt8
    assert geometry(mask) == geometry(sitk.ReadImage(str(scene.server.studies / "slicer.nrrd")))
    assert dice(sitk.GetArrayFromImage(mask), scene.targets["slicer"]) > 0.7
    assert reply["label_names"] == {"spleen": 1}


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the official client imports cgi, which Python 3.13 no longer has")
@pytest.mark.filterwarnings("ignore")  # the client leaves connections open
def test_the_official_client_works_unmodified(scene: Scene, tmp_path: Path) -> None:
    """The library inside the official Slicer plug-in, as MONAI Label ships it."""
    from monailabel.client.client import MONAILabelClient

    client = MONAILabelClient(scene.server.address, tmpdir=str(tmp_path), client_id="user-xyz")
    assert "sam" in client.info()["models"]
    assert client.next_sample("first", {})["id"] in scene.targets
    prompts = {"roi": scene.roi("slicer"), "result_extension": ".nrrd", "result_dtype": "uint8"}
    file, params = client.infer("sam", "slicer", dict(prompts))
    assert dice(sitk.GetArrayFromImage(sitk.ReadImage(file)), scene.targets["slicer"]) > 0.7
    assert params["version"] == "base"
    session = client.create_session(str(scene.server.studies / "slicer.nrrd"))["session_id"]
    again, _ = client.infer("sam", "slicer", dict(prompts), session_id=session)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(again)) == sitk.GetArrayFromImage(sitk.ReadImage(file))).all()
    client.remove_session(session)
    reply = client.save_label(
        "grey", file_of_picture(scene, tmp_path), params={"label_info": [{"name": "target", "idx": 1}], "model": "sam"}
    )
    assert reply["fedsca"]["usable"] is True
    assert client.datastore()["objects"]["grey"]["labels"]["final"]["ext"] == ".png"
    assert client.train_status(check_if_running=True) is False
    del client
    gc.collect()


def file_of_picture(scene: Scene, folder: Path) -> str:
    """The true label of case `grey`, as a file."""
    path = folder / "grey.png"
    sitk.WriteImage(sitk.GetImageFromArray(scene.targets["grey"][0].astype(np.uint8)), str(path))
    return str(path)


def test_nifti_in_and_nrrd_out_lie_on_the_same_grid(scene: Scene, tmp_path: Path) -> None:
    reply = scene.server.infer("sam", "oblique", {"foreground": [scene.point("oblique")], "result_extension": ".nrrd"})
    _, _, path = read_reply(reply, tmp_path)
    difference = read_image(scene.server.studies / "oblique.nii.gz").geometry.difference(read_image(path).geometry)
    assert difference is None


def test_a_point_touches_its_own_slice_only(scene: Scene, tmp_path: Path) -> None:
    i, j, k = scene.point("oblique")
    mask, params, _ = read_reply(scene.server.infer("sam", "oblique", {"foreground": [[i, j, k]]}), tmp_path)
    touched = np.flatnonzero(sitk.GetArrayFromImage(mask).any(axis=(1, 2)))
    assert set(touched) <= {k}
    assert list(params["iou"]) == [str(k)]


def test_prompts_by_slice_along_another_axis(scene: Scene, tmp_path: Path) -> None:
    j = scene.point("oblique")[1]
    inside = scene.targets["oblique"][:, j, :]
    rows, columns = np.nonzero(inside)
    box = [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())]
    request = {"axis": "j", "slices": [{"index": j, "box": box}]}
    mask, params, _ = read_reply(scene.server.infer("sam", "oblique", request), tmp_path)
    array = sitk.GetArrayFromImage(mask)
    assert set(np.flatnonzero(array.any(axis=(0, 2)))) == {j}
    assert dice(array[:, j, :], inside) > 0.3  # six rows of pixels are little for the network
    assert (params["axis"], list(params["iou"])) == ("j", [str(j)])


def test_the_same_request_gives_the_same_mask(scene: Scene) -> None:
    replies = [scene.server.infer("sam", "oblique", {"roi": scene.roi("oblique")}) for _ in range(2)]
    first, second = (parts_of(reply)["image"][1] for reply in replies)
    assert first == second


def test_the_automatic_model_fills_every_slice_or_those_that_are_named(scene: Scene, tmp_path: Path) -> None:
    _, params, _ = read_reply(scene.server.infer("sam_auto", "oblique"), tmp_path)
    assert [int(index) for index in params["iou"]] == list(range(6))
    _, params, _ = read_reply(scene.server.infer("sam_auto", "oblique", {"slices": [{"index": 3}, {"index": 5}]}), tmp_path)
    assert list(params["iou"]) == ["3", "5"]


def test_the_result_has_the_type_that_was_asked_for(scene: Scene, tmp_path: Path) -> None:
    request = {"roi": scene.roi("oblique"), "result_dtype": "uint16"}
    mask, _, _ = read_reply(scene.server.infer("sam", "oblique", request), tmp_path)
    assert mask.GetPixelID() == sitk.sitkUInt16
    assert geometry(mask) == geometry(sitk.ReadImage(str(scene.server.studies / "oblique.nii.gz")))


@pytest.mark.parametrize("case", ["fundus", "grey"])
def test_pictures_give_pictures(scene: Scene, tmp_path: Path, case: str) -> None:
    mask, params, path = read_reply(scene.server.infer("sam", case, {"roi": scene.roi(case)}), tmp_path)
    assert path.name == "label.png"
    assert mask.GetSize() == (80, 60)
    assert dice(sitk.GetArrayFromImage(mask)[None], scene.targets[case]) > 0.8
    assert list(params["iou"]) == ["0"]


def test_a_pictures_mask_for_slicer_is_one_slice(scene: Scene, tmp_path: Path) -> None:
    request = {"foreground": [scene.point("fundus")], "result_extension": ".nrrd", "result_dtype": "uint8"}
    mask, _, _ = read_reply(scene.server.infer("sam", "fundus", request), tmp_path)
    assert mask.GetSize() == (80, 60, 1)


def test_output_chooses_parameters_or_the_file_alone(scene: Scene, tmp_path: Path) -> None:
    request = {"roi": scene.roi("oblique")}
    assert scene.server.infer("sam", "oblique", request, output="json").json()["version"] == "base"
    reply = scene.server.infer("sam", "oblique", request, output="image")
    (tmp_path / "mask.nii.gz").write_bytes(reply.content)
    assert sitk.ReadImage(str(tmp_path / "mask.nii.gz")).GetSize() == (48, 40, 6)


def test_an_uploaded_file_and_a_session_are_segmented_like_a_case(scene: Scene) -> None:
    server, image = scene.server, scene.server.studies / "oblique.nii.gz"
    params = json.dumps({"roi": scene.roi("oblique")})
    case = parts_of(server.infer("sam", "oblique", json.loads(params)))["image"][1]
    upload = {"file": ("/home/user/of the client/x.nii.gz", image.read_bytes()), "params": (None, params)}
    assert parts_of(server.request("POST", "/infer/sam", files=upload))["image"][1] == case
    session = server.request("PUT", "/session/", files={"files": ("x.nii.gz", image.read_bytes())}).json()["session_id"]
    assert (server.folder / "site" / "work" / "sessions" / session).is_dir()
    reply = server.request("POST", "/infer/sam", params={"session_id": session}, files={"params": (None, params)})
    assert parts_of(reply)["image"][1] == case
    assert server.request("DELETE", f"/session/{session}").status_code == 200
    reply = server.request("POST", "/infer/sam", params={"session_id": session}, files={"params": (None, params)})
    assert reply.status_code == 404


def test_other_requests_are_answered_while_one_is_segmented(scene: Scene, tmp_path: Path) -> None:
    array, _ = blob((24, 64, 64), seed=9)
    sitk.WriteImage(as_volume(array), str(tmp_path / "long.nii.gz"))
    upload = {"file": ("long.nii.gz", (tmp_path / "long.nii.gz").read_bytes()), "params": (None, "{}")}
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(scene.server.request, "POST", "/infer/sam_auto", files=upload, timeout=120)
        wait_until(lambda: scene.server.status()["queue"]["infer"] == 1, 20, what="the long request to be worked on")
        quick = scene.server.infer("sam", "oblique", {"roi": scene.roi("oblique")})
        info = scene.server.get("/info/", timeout=5)
        assert not long.done()
        assert (quick.status_code, info.status_code) == (200, 200)
        assert long.result(120).status_code == 200


# --- choosing the next case -----------------------------------------------------------------------------------------------------------


def test_cases_are_scored_in_the_background_and_the_least_certain_is_offered(scene: Scene) -> None:
    def scored() -> bool:
        found = scene.server.status()["uncertainty"]
        return bool(found["scored"] == found["cases"])

    wait_until(scored, 60, what="every case to be scored", note=scene.server.log)
    reply = scene.server.request("POST", "/activelearning/least_certain", json={"client_id": "x"}).json()
    stored = json.loads((scene.server.folder / "site" / "work" / "uncertainty.json").read_text(encoding="utf-8"))
    scores = {case: score for case, score in stored[-1]["scores"].items() if case in scene.targets}
    assert reply["uncertainty"] == scores[reply["id"]] == max(scores.values())
    assert "kept" not in scores


def test_the_first_case_comes_with_what_clients_need(scene: Scene) -> None:
    reply = scene.server.request("POST", "/activelearning/first").json()
    assert reply["id"] in scene.targets
    assert reply["name"].startswith(reply["id"])
    assert Path(reply["path"]).is_file()


# --- saving labels --------------------------------------------------------------------------------------------------------------------


def test_a_saved_label_is_logged_with_the_version_that_proposed_it(scene: Scene, tmp_path: Path) -> None:
    scene.server.infer("sam", "oblique", {"roi": scene.roi("oblique")})
    write_label(tmp_path / "label.nii.gz", scene.targets["oblique"])
    reply = scene.server.put_label("oblique", tmp_path / "label.nii.gz", {"client_id": "dr-who"})
    body = reply.json()
    assert (reply.status_code, body["image"], body["label"]) == (200, "oblique", "oblique")
    assert (body["fedsca"]["usable"], body["fedsca"]["proposed_by"]) == (True, "base")
    assert body["fedsca"]["tuning"]["started"] is False
    entry = LabelLog(scene.server.folder / "site" / "labels.jsonl").entries()[-1]
    assert (entry.case, entry.tag, entry.who, entry.proposed_by) == ("oblique", "final", "dr-who", "base")
    assert entry.label_sha256 == body["fedsca"]["label_sha256"]
    assert scene.server.status()["labels"]["total"] >= 1


def test_a_label_on_another_grid_is_refused_and_the_one_before_stays(scene: Scene, tmp_path: Path) -> None:
    straight = as_volume(scene.targets["slicer"].astype(np.uint8), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1))
    sitk.WriteImage(straight, str(tmp_path / "straight.nrrd"))
    write_label(tmp_path / "label.nii.gz", scene.targets["slicer"])
    assert scene.server.put_label("slicer", tmp_path / "label.nii.gz").json()["fedsca"]["usable"] is True
    assert "another grid" in sentence(scene.server.put_label("slicer", tmp_path / "straight.nrrd"), 422)
    stored = scene.server.studies / "labels" / "final"
    assert (stored / "slicer.nii.gz").read_bytes() == (tmp_path / "label.nii.gz").read_bytes()
    assert not (stored / "slicer.nrrd").exists()


def test_a_jpeg_is_labelled_with_a_png(scene: Scene, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(scene.targets["fundus"][0].astype(np.uint8)), str(tmp_path / "label.png"))
    reply = scene.server.put_label("fundus", tmp_path / "label.png", {"version": "base"}, tag="final")
    assert reply.json()["fedsca"]["usable"] is True
    assert (scene.server.studies / "labels" / "final" / "fundus.png").is_file()
    reply = scene.server.get("/datastore/label", params={"label": "fundus", "tag": "final"})
    assert reply.content == (tmp_path / "label.png").read_bytes()


def test_images_are_added_and_removed(scene: Scene, tmp_path: Path) -> None:
    write_volume(tmp_path / "new.nii.gz")
    upload = {"file": ("new.nii.gz", (tmp_path / "new.nii.gz").read_bytes())}
    assert scene.server.request("PUT", "/datastore/", params={"image": "added"}, files=upload).json() == {"image": "added"}
    assert scene.server.infer("sam", "added", {"foreground": [[20, 20, 4]]}).status_code == 200
    assert scene.server.request("DELETE", "/datastore/image", params={"id": "added"}).status_code == 200
    assert scene.server.infer("sam", "added", {"foreground": [[20, 20, 4]]}).status_code == 404


# --- refusing -------------------------------------------------------------------------------------------------------------------------


def sentence(reply: Any, status: int) -> str:
    """The sentence of a refusal."""
    assert reply.status_code == status, reply.text
    detail = reply.json()["detail"]
    assert isinstance(detail, str)
    assert len(detail) > 20
    assert detail.endswith((".", ")"))
    return detail


def test_what_does_not_exist_gives_404_with_a_sentence(scene: Scene) -> None:
    server, unknown = scene.server, "0123456789abcdef"
    point = {"foreground": [[20, 20, 4]]}
    assert "no model 'sam9'" in sentence(server.infer("sam9", "oblique", point), 404)
    assert "no image 'nobody'" in sentence(server.infer("sam", "nobody", point), 404)
    assert unknown in sentence(server.infer("sam", "oblique", {**point, "version": unknown}), 404)
    assert "no strategy 'best'" in sentence(server.request("POST", "/activelearning/best"), 404)
    assert "no model 'other'" in sentence(server.request("POST", "/train/other"), 404)
    assert "no model 'other'" in sentence(server.request("POST", "/batch/infer/other"), 404)
    assert "no scoring method" in sentence(server.request("POST", "/scoring/dice"), 404)
    assert "not one file" in sentence(server.get("/model/sam"), 404)
    assert "not one file" in sentence(server.request("PUT", "/model/sam", files={"file": ("x.pt", b"weights")}), 404)
    assert "whole-slide" in sentence(server.request("POST", "/infer/wsi/sam", json={}), 404)
    for version in (unknown, "latest", "..hidden"):
        sentence(server.request("POST", f"/fedsca/adapters/{version}/activate"), 404)
    reply = server.put_label("nobody", server.studies / "oblique.nii.gz")
    assert "no image 'nobody'" in sentence(reply, 404)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"foreground": [[48, 0, 0]]},
        {"foreground": [[-1, 0, 0]]},
        {"foreground": [[1, 2]]},
        {"foreground": "here"},
        {"roi": [0, 5, 0, 5]},
        {"roi": [60, 70, 0, 5, 0, 1]},
        {"axis": "x", "foreground": [[1, 1, 1]]},
        {"slices": [{"index": 6, "box": [0, 0, 4, 4]}]},
        {"foreground": [[1, 1, 1]], "version": "newest"},
        {"foreground": [[1, 1, 1]], "result_extension": ".exe"},
    ],
)
def test_bad_prompts_give_400_with_a_sentence(scene: Scene, params: dict[str, Any]) -> None:
    sentence(scene.server.infer("sam", "oblique", params), 400)


def test_what_is_not_json_or_not_an_image_is_refused_with_a_sentence(scene: Scene, tmp_path: Path) -> None:
    server = scene.server
    assert "JSON" in sentence(server.request("POST", "/infer/sam?image=oblique", files={"params": (None, "{not json")}), 400)
    sentence(server.request("POST", "/infer/sam", files={"params": (None, "{}")}), 400)
    (tmp_path / "no image.nii.gz").write_text("text", encoding="utf-8")
    upload = {"file": ("x.nii.gz", b"text"), "params": (None, json.dumps({"foreground": [[0, 0, 0]]}))}
    sentence(server.request("POST", "/infer/sam", files=upload), 422)
    sentence(server.request("PUT", "/datastore/image?image=x", files={"file": ("x.nii.gz", b"text")}), 422)
    sentence(server.request("PUT", "/datastore/image?image=x", files={"file": ("x.py", b"text")}), 400)
    reply = server.put_label("oblique", tmp_path / "no image.nii.gz", {"version": "../x"})
    sentence(reply, 400)
    assert server.get("/datastore/image", params={"image": "x"}).status_code == 404
