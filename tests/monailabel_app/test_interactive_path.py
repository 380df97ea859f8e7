"""The interactive path through a real server: clicks, undo and redo, every axis, sessions, prefetching, propagation and volumes."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from monailabel_app.mask_wire import Change, apply_change, mask_box, pack
from sam_adapters.prompts import AXES, Axis, put_slice, slice_count, slice_size, take_slice, tight_box
from tests.monailabel_app.server_process import (
    Server,
    as_volume,
    blob,
    dice,
    read_reply,
    running_server,
    wait_until,
    write_picture,
    write_volume,
)

DEADLINE = 120.0
LONG = (14, 36, 32)


@dataclass(frozen=True)
class Ward:
    """A server, and where the structure is in each of its cases."""

    server: Server
    targets: dict[str, NDArray[np.bool_]]

    def click(self, case: str = "oblique", **body: Any) -> dict[str, Any]:
        reply = self.server.request("POST", "/fedsca/segment", json={"image": case, **body})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def box(self, case: str, axis: Axis = "k", index: int | None = None) -> dict[str, Any]:
        """A request's axis, index and roi: the box around the structure on a slice, by default its largest."""
        target = self.targets[case]
        number = largest(target, axis) if index is None else index
        x0, y0, x1, y1 = (int(value) for value in tight_box(take_slice(target, axis, number)))
        ends = {"k": (x0, x1, y0, y1, number, number), "j": (x0, x1, number, number, y0, y1), "i": (number, number, x0, x1, y0, y1)}
        return {"axis": axis, "index": number, "roi": list(ends[axis])}

    def finished(self, job: str) -> dict[str, Any]:
        """A job's last state, with all its slices, collected as a client does."""
        slices: list[dict[str, Any]] = []

        def ended() -> dict[str, Any] | None:
            state = self.server.get(f"/fedsca/jobs/{job}", params={"after": len(slices), "wait": 5}).json()
            slices.extend(state["slices"])
            return state if state["state"] not in ("queued", "running") and state["done"] == len(slices) else None

        state = wait_until(ended, DEADLINE, what="the job to end", note=self.server.log)
        return {**state, "slices": slices}


def largest(target: NDArray[np.bool_], axis: Axis) -> int:
    return int(np.argmax([take_slice(target, axis, index).sum() for index in range(slice_count(target.shape, axis))]))


def shown(before: NDArray[np.bool_] | None, reply: dict[str, Any]) -> NDArray[np.bool_]:
    """What a client shows after a reply: its mask with the change in it."""
    mask = np.zeros(reply["size"], bool) if before is None else before
    change = reply["change"]
    return apply_change(mask, None if change is None else Change(tuple(change["box"]), change["data"]))


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    folder = tmp_path_factory.mktemp("ward")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    array, inside = blob(LONG, seed=7)
    sitk.WriteImage(as_volume(array), str(studies / "long.nii.gz"))
    targets = {
        "long": inside,
        "oblique": write_volume(studies / "oblique.nii.gz", seed=1),
        "fundus": write_picture(studies / "fundus.jpg", seed=4),
    }
    with running_server(folder, studies, {"image_size": "64", "uncertainty": "false", "tune": "false"}) as server:
        yield Ward(server, targets)


# --- clicks ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", AXES)
def test_a_box_is_answered_with_the_mask_that_infer_gives(ward: Ward, tmp_path: Path, axis: Axis) -> None:
    request = ward.box("oblique", axis)
    reply = ward.click(**request)
    mask = shown(None, reply)
    assert reply["size"] == list(slice_size(ward.targets["oblique"].shape, axis))
    assert (reply["image"], reply["axis"], reply["index"], reply["version"], reply["label"]) == (
        "oblique",
        axis,
        request["index"],
        "base",
        "target",
    )
    assert (reply["area"], reply["box"]) == (int(mask.sum()), None if not mask.any() else list(mask_box(mask) or ()))
    whole, params, _ = read_reply(ward.server.infer("sam", "oblique", {"axis": axis, **slices(request, axis)}), tmp_path)
    assert (take_slice(sitk.GetArrayFromImage(whole), axis, request["index"]) == mask).all()
    assert params["iou"][str(request["index"])] == pytest.approx(reply["iou"], abs=1e-3)
    if axis == "k":
        assert dice(mask, ward.targets["oblique"][request["index"]]) > 0.7


def slices(request: dict[str, Any], axis: Axis) -> dict[str, Any]:
    """The same box in `/infer`'s own words."""
    i0, i1, j0, j1, k0, k1 = request["roi"]
    box = {"k": [i0, j0, i1, j1], "j": [i0, k0, i1, k1], "i": [j0, k0, j1, k1]}[axis]
    return {"slices": [{"index": request["index"], "box": box}]}


def test_the_second_click_uses_the_embedding_and_says_how_long_it_took(ward: Ward) -> None:
    request = ward.box("long")
    ward.click("long", **request)
    reply = ward.click("long", **request)
    assert reply["embedding"] == "cached"
    assert set(reply["seconds"]) == {"read", "encode", "decode", "pack", "total"}
    assert reply["engine"]


def test_changes_undo_and_redo_reproduce_every_mask_bit_for_bit(ward: Ward) -> None:
    request = ward.box("oblique")
    x, y = request["roi"][0], request["roi"][2]
    first = ward.click(**request)
    second = ward.click(**request, foreground=[[x, y, request["index"]]], previous=first["result"])
    third = ward.click(**request, background=[[x + 3, y + 3, request["index"]]], previous=second["result"])
    assert (first["against"], second["against"], third["against"]) == (None, first["result"], second["result"])
    masks = [shown(None, first)]
    masks.append(shown(masks[0], second))
    masks.append(shown(masks[1], third))
    names = [first["result"], second["result"], third["result"]]
    for name, mask in zip(names, masks, strict=True):  # each on its own
        assert (shown(None, ward.server.get(f"/fedsca/results/{name}").json()) == mask).all()
    for there, back in ((0, 1), (1, 0), (2, 0), (0, 2), (1, 2)):
        reply = ward.server.get(f"/fedsca/results/{names[there]}", params={"since": names[back]}).json()
        assert (shown(masks[back], reply) == masks[there]).all()
        assert reply["result"] == names[there]
        assert (reply["change"] is None) == bool((masks[there] == masks[back]).all())


def test_the_same_request_changes_nothing(ward: Ward) -> None:
    first = ward.click(**ward.box("oblique"))
    same = ward.server.get(f"/fedsca/results/{first['result']}", params={"since": first["result"]}).json()
    assert same["change"] is None
    assert same["area"] == first["area"]


def test_an_edited_mask_and_scribbles_are_prompts(ward: Ward) -> None:
    request = ward.box("oblique")
    index, target = request["index"], ward.targets["oblique"][request["index"]]
    plain = ward.click(**request)
    box = [int(value) for value in tight_box(target)]
    crop = target[box[1] : box[3] + 1, box[0] : box[2] + 1]
    edited = ward.click(**request, mask={"box": box, "data": pack(crop)})
    assert edited["against"] is None
    assert dice(shown(None, edited), target) > 0.3
    stroke = np.ones((1, 5), bool)
    middle = [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]
    scribble = {"box": [middle[0], middle[1], middle[0] + 4, middle[1]], "foreground": pack(stroke)}
    scribbled = ward.click(**request, scribble=scribble)
    x, y = middle[0] + 2, middle[1]
    pointed = ward.click(**request, foreground=[[x, y, index], [x - 2, y, index], [x + 2, y, index]])
    assert (shown(None, scribbled) == shown(None, pointed)).all()
    assert scribbled["iou"] != plain["iou"]


def test_a_colour_picture_has_one_slice(ward: Ward) -> None:
    reply = ward.click("fundus", **ward.box("fundus"))
    assert reply["size"] == [60, 80]
    assert dice(shown(None, reply), ward.targets["fundus"][0]) > 0.8


def test_a_session_is_segmented_like_a_case_and_results_name_it(ward: Ward) -> None:
    image = ward.server.studies / "oblique.nii.gz"
    session = ward.server.request("PUT", "/session/", files={"files": ("x.nii.gz", image.read_bytes())}).json()["session_id"]
    request = ward.box("oblique")
    reply = ward.server.request("POST", "/fedsca/segment", json={"session": session, **request}).json()
    assert (reply["session"], reply["image"]) == (session, None)
    assert (shown(None, reply) == shown(None, ward.click(**request))).all()
    assert ward.server.request("DELETE", f"/session/{session}").status_code == 200
    gone = ward.server.request("POST", "/fedsca/segment", json={"session": session, **request})
    assert gone.status_code == 404
    assert "upload the image again" in gone.json()["detail"]


def test_labels_are_kept_apart(ward: Ward) -> None:
    """Two labels on one slice: each call changes one, and a result of one cannot become the other's."""
    request = ward.box("oblique")
    volume = np.zeros(ward.targets["oblique"].shape, np.uint8)
    tumour = ward.click(**request, label="tumour")
    put_slice(volume, "k", request["index"], 1 * shown(None, tumour))
    before = volume.copy()
    corner = [0, 12, 0, 12, request["index"], request["index"]]
    oedema = ward.click(index=request["index"], roi=corner, label="oedema")
    assert (tumour["label"], oedema["label"]) == ("tumour", "oedema")
    again = ward.server.get(f"/fedsca/results/{tumour['result']}").json()
    assert (shown(None, again) == (take_slice(before, "k", request["index"]) == 1)).all()
    refused = ward.server.request("POST", "/fedsca/segment", json={"image": "oblique", "previous": tumour["result"], "label": "oedema"})
    assert "for label 'tumour', the request for 'oedema'" in sentence(refused, 400)
    mixed = ward.server.get(f"/fedsca/results/{tumour['result']}", params={"since": oedema["result"]})
    assert "differ in label" in sentence(mixed, 400)


def test_many_at_once_get_their_own_answers(ward: Ward) -> None:
    request = ward.box("long")
    boxes = [[*request["roi"][:1], request["roi"][1] - shrink, *request["roi"][2:]] for shrink in (0, 2, 4, 6)]
    alone = [shown(None, ward.click("long", index=request["index"], roi=box)) for box in boxes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda box: ward.click("long", index=request["index"], roi=box), boxes))
    assert len({reply["result"] for reply in together}) == 4
    assert all((shown(None, reply) == mask).all() for reply, mask in zip(together, alone, strict=True))


# --- refusals -------------------------------------------------------------------------------------------------------------------------


def sentence(reply: Any, status: int) -> str:
    assert reply.status_code == status, reply.text
    detail = reply.json()["detail"]
    assert isinstance(detail, str)
    assert detail.endswith((".", ")"))
    return detail


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"image": "oblique", "foreground": [[48, 0, 0]]}, 400, "i is 48, expected 0 to 47"),
        ({"image": "oblique", "index": 6}, 400, "expected 0 to 5"),
        ({"image": "oblique"}, 400, "says no slice"),
        ({"image": "oblique", "axis": "x", "index": 0}, 400, "axis cannot be used"),
        ({"image": "oblique", "index": 0, "version": "newest"}, 400, "version is 'newest'"),
        ({"image": "oblique", "index": 0, "version": "0123456789abcdef"}, 404, "0123456789abcdef"),
        ({"image": "oblique", "index": 0, "label": "a\nb"}, 400, "label is"),
        ({"image": "oblique", "index": 0, "previous": "0" * 32}, 404, "expired"),
        ({"image": "oblique", "index": 0, "mask": {"box": [0, 0, 3, 3], "data": "!"}}, 400, "cannot be unpacked"),
        ({"image": "nobody", "index": 0}, 404, "no image 'nobody'"),
        ({"image": "../x", "index": 0}, 400, "Image id"),
        ({"session": "nobody", "index": 0}, 404, "session nobody"),
        ({"image": "oblique", "session": "x", "index": 0}, 400, "not both"),
        ({"index": 0}, 400, "Give either"),
        ([], 400, "body"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(ward: Ward, body: Any, status: int, words: str) -> None:
    assert words in sentence(ward.server.request("POST", "/fedsca/segment", json=body), status)


def test_a_body_that_is_not_json_is_refused_with_a_sentence(ward: Ward) -> None:
    headers = {"Content-Type": "application/json"}
    sentence(ward.server.request("POST", "/fedsca/segment", data=b"{not json", headers=headers), 400)
    nan = json.dumps({"image": "oblique", "foreground": [[float("nan"), 0, 0]]}).encode()
    assert "foreground.0.0" in sentence(ward.server.request("POST", "/fedsca/segment", data=nan, headers=headers), 400)


def test_unknown_results_and_jobs_are_404(ward: Ward) -> None:
    server, unknown = ward.server, "0" * 32
    sentence(server.get(f"/fedsca/results/{unknown}"), 404)
    sentence(server.request("POST", "/fedsca/propagate", json={"previous": unknown}), 404)
    sentence(server.get(f"/fedsca/jobs/{unknown}"), 404)
    sentence(server.request("DELETE", f"/fedsca/jobs/{unknown}"), 404)
    sentence(server.get(f"/fedsca/jobs/{unknown}", params={"after": "x"}), 400)


def test_the_interface_is_described(ward: Ward) -> None:
    paths = ward.server.get("/openapi.json").json()["paths"]
    ours = {path: set(methods) for path, methods in paths.items() if path.startswith("/fedsca/")}
    assert ours["/fedsca/segment"] == {"post"}
    assert ours["/fedsca/prefetch"] == {"post", "delete"}
    assert ours["/fedsca/jobs/{name}"] == {"get", "delete"}
    assert {"/fedsca/results/{name}", "/fedsca/propagate", "/fedsca/volume"} <= set(ours)
    body = paths["/fedsca/segment"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "SegmentBody" in json.dumps(body)


# --- ahead of clicks ------------------------------------------------------------------------------------------------------------------


def encoded(ward: Ward) -> bool:
    return bool(ward.server.status()["prefetch"]["viewers"] == 0)


def test_slices_are_encoded_before_anybody_clicks(ward: Ward) -> None:
    viewer = {"image": "long", "axis": "k", "index": 6, "viewer": "left"}
    reply = ward.server.request("POST", "/fedsca/prefetch", json=viewer).json()
    assert reply["queued"] + reply["ready"] == 14
    wait_until(lambda: encoded(ward), DEADLINE, what="the queue to end", note=ward.server.log)
    assert ward.server.request("POST", "/fedsca/prefetch", json=viewer).json() == {"queued": 0, "ready": 14}
    assert ward.click("long", **ward.box("long"))["embedding"] == "cached"
    dropped = ward.server.request("DELETE", "/fedsca/prefetch", params={"viewer": "left"})
    assert dropped.json() == {"dropped": True}
    assert ward.server.request("DELETE", "/fedsca/prefetch", params={"viewer": "left"}).json() == {"dropped": False}
    assert "expected 0 to 13" in sentence(ward.server.request("POST", "/fedsca/prefetch", json={**viewer, "index": 14}), 400)


def test_a_click_and_the_next_sample_bring_their_neighbours(ward: Ward) -> None:
    wait_until(lambda: encoded(ward), DEADLINE, what="earlier queues to end")
    ward.click("long", **ward.box("long", "j"))
    wait_until(lambda: encoded(ward), DEADLINE, what="the neighbours to be encoded")
    j = ward.box("long", "j")["index"]
    assert ward.click("long", axis="j", index=j + 2)["embedding"] == "cached"
    request = ward.box("long", "i")
    assert ward.server.infer("sam", "long", {"axis": "i", **slices(request, "i")}).status_code == 200
    wait_until(lambda: encoded(ward), DEADLINE, what="the neighbours to be encoded")
    assert ward.click("long", axis="i", index=request["index"] + 2)["embedding"] == "cached"
    before = ward.server.status()["prefetch"]["encoded"]
    case = ward.server.request("POST", "/activelearning/first").json()["id"]
    wait_until(lambda: encoded(ward), DEADLINE, what="the sample to be encoded")
    ready = ward.server.request("POST", "/fedsca/prefetch", json={"image": case, "axis": "k"}).json()
    assert ready == {"queued": 0, "ready": ward.targets[case].shape[0]}
    assert ward.server.status()["prefetch"]["encoded"] >= before


# --- jobs -----------------------------------------------------------------------------------------------------------------------------


def test_a_propagation_fills_the_structure_and_ends_with_it(ward: Ward) -> None:
    request, target = ward.box("long"), ward.targets["long"]
    first = ward.click("long", **request, label="ball")
    job = ward.server.request("POST", "/fedsca/propagate", json={"previous": first["result"]}).json()["job"]
    state = ward.finished(job)
    assert (state["state"], state["kind"], state["label"], state["total"]) == ("done", "propagate", "ball", state["done"])
    volume = np.zeros(target.shape, bool)
    volume[request["index"]] = shown(None, first)
    for item in state["slices"]:
        put_slice(volume, "k", item["index"], shown(None, {**item, "size": target.shape[1:]}))
    assert request["index"] not in {item["index"] for item in state["slices"]}
    assert dice(volume, target) > 0.7
    distances = [abs(item["index"] - request["index"]) for item in state["slices"]]
    assert distances == sorted(distances)
    found = ward.server.get(f"/fedsca/results/{state['slices'][0]['result']}").json()
    assert (found["label"], found["index"]) == ("ball", state["slices"][0]["index"])
    again = ward.click("long", index=found["index"], foreground=[[0, 0, found["index"]]], previous=found["result"], label="ball")
    assert again["against"] == found["result"]


def test_a_propagation_stays_within_its_ends_and_refuses_an_empty_mask(ward: Ward) -> None:
    request = ward.box("long")
    first, server = ward.click("long", **request), ward.server
    ends = {"first": request["index"] - 1, "last": request["index"] + 2}
    state = ward.finished(server.request("POST", "/fedsca/propagate", json={"previous": first["result"], **ends}).json()["job"])
    assert sorted(item["index"] for item in state["slices"]) == [request["index"] + step for step in (-1, 1, 2)]
    empty = {"box": [0, 0, 3, 0], "data": pack(np.zeros((1, 4), bool))}
    refused = server.request("POST", "/fedsca/propagate", json={"previous": first["result"], "mask": empty})
    assert "empty" in sentence(refused, 400)
    refused = server.request("POST", "/fedsca/propagate", json={"previous": first["result"], "first": request["index"] + 1})
    assert "leave out slice" in sentence(refused, 400)


def test_a_volume_is_filled_from_the_slice_in_view(ward: Ward) -> None:
    job = ward.server.request("POST", "/fedsca/volume", json={"image": "oblique", "index": 1}).json()["job"]
    state = ward.finished(job)
    assert (state["state"], state["done"], state["total"]) == ("done", 6, 6)
    assert [item["index"] for item in state["slices"]] == [1, 2, 0, 3, 4, 5]
    assert [item["number"] for item in state["slices"]] == [1, 2, 3, 4, 5, 6]
    alone = ward.click("oblique", index=3)
    third = next(item for item in state["slices"] if item["index"] == 3)
    assert (shown(None, {**third, "size": alone["size"]}) == shown(None, alone)).all()


def test_a_volume_is_cancelled_and_clicks_are_answered_meanwhile(ward: Ward) -> None:
    server = ward.server
    job = server.request("POST", "/fedsca/volume", json={"image": "long", "axis": "j"}).json()["job"]
    first = server.get(f"/fedsca/jobs/{job}", params={"wait": 20}).json()
    assert first["slices"]
    assert ward.click(**ward.box("oblique"))["area"] > 0
    state = server.request("DELETE", f"/fedsca/jobs/{job}").json()
    assert state["state"] == "cancelled"
    wait_until(lambda: server.status()["jobs"]["running"] == 0, DEADLINE, what="the job to stop")
    assert server.get(f"/fedsca/jobs/{job}").json()["done"] == state["done"] < 36
    assert sentence(server.get(f"/fedsca/jobs/{job}", params={"wait": 21}), 400)


def test_too_many_jobs_are_refused_with_a_time_to_wait(ward: Ward) -> None:
    body = {"image": "long", "axis": "i"}
    replies = [ward.server.request("POST", "/fedsca/volume", json=body) for _ in range(3)]
    assert "at most 2" in sentence(replies[2], 429)
    assert int(replies[2].headers["Retry-After"]) > 0
    for reply in replies[:2]:
        ward.server.request("DELETE", f"/fedsca/jobs/{reply.json()['job']}")


# --- documentation --------------------------------------------------------------------------------------------------------------------


def test_the_examples_of_the_documentation_run(ward: Ward) -> None:
    """All Python blocks of docs/http.md, one after the other, as somebody would type them."""
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    code = "\n".join(blocks).replace("http://127.0.0.1:8100", ward.server.address).replace('"case1"', '"long"')
    names: dict[str, Any] = {}
    exec(compile(code, "docs/http.md", "exec"), names)  # noqa: S102 - our own documentation
    mask, target = names["mask"], ward.targets["long"]
    assert len(blocks) == 3
    assert (mask == shown(None, ward.server.get(f"/fedsca/results/{names['first']['result']}").json())).all()  # it ended with an undo
    assert dice(mask, target[7]) > 0.7
    assert len(names["volume"]) == names["state"]["done"] + 1
    assert names["state"]["state"] == "done"


def test_the_requests_of_the_documentation_are_taken(ward: Ward) -> None:
    """The bodies of its curl lines."""
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    lines = text.replace("\\\n", "").splitlines()
    curls = [line for line in lines if line.startswith("curl")]
    assert len(curls) == 2
    for line in curls:
        path = re.search(r"8100(/\S+)", line)
        body = re.search(r"-d '(.*)'", line)
        assert path is not None
        assert body is not None
        reply = ward.server.request("POST", path.group(1), json={**json.loads(body.group(1)), "image": "long"})
        assert reply.status_code == 200, reply.text
