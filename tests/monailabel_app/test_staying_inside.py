"""Every known way out of the studies folder, over real HTTP: refused with 400, and nothing is written anywhere."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.monailabel_app.server_process import Server, running_server, write_volume

EVIL_IDS = ["../x", "../../x", "/tmp/fedsca-evil", "..", ".hidden", "a/b", "..\\x", "x\0y", "x" * 300, "labels/final/a"]
SECRET = "the secret of another folder"  # noqa: S105 - content of a file that must not leave


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hospital")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    write_volume(studies / "a.nii.gz")
    write_volume(folder / "outside.nii.gz")
    (folder / "evil").mkdir()
    (folder / "evil" / "sitecustomize.py").write_text(f"open({str(folder / 'executed')!r}, 'w').close()\n", encoding="utf-8")
    with running_server(folder, studies, {"uncertainty": "false"}) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_written(server: Server) -> Iterator[None]:
    """No file may appear, vanish or change beside the studies or inside them, whatever a test tries."""

    def snapshot() -> dict[str, tuple[int, int]]:
        paths = [path for path in server.folder.rglob("*") if path.is_file() and path.name not in ("server.log", ".lock")]
        return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}

    before = snapshot()
    yield
    assert snapshot() == before
    assert not Path("/tmp/fedsca-evil").exists()


def image_file(server: Server) -> tuple[str, bytes]:
    return ("x.nii.gz", (server.studies / "a.nii.gz").read_bytes())


@pytest.mark.parametrize("evil", EVIL_IDS)
def test_images_stay_inside(server: Server, evil: str) -> None:
    for path in ("/datastore/image", "/datastore/"):
        assert server.request("PUT", path, params={"image": evil}, files={"file": image_file(server)}).status_code == 400
    assert server.request("DELETE", "/datastore/image", params={"id": evil}).status_code == 400
    assert server.get("/datastore/image", params={"image": evil}).status_code == 400
    assert server.get("/datastore/image/info", params={"image": evil}).status_code == 400


@pytest.mark.parametrize("evil", EVIL_IDS)
def test_labels_stay_inside(server: Server, evil: str) -> None:
    label = {"label": image_file(server)}
    assert server.request("PUT", "/datastore/label", params={"image": "a", "tag": evil}, files=label).status_code == 400
    assert server.request("PUT", "/datastore/label", params={"image": evil}, files=label).status_code == 400
    assert server.request("DELETE", "/datastore/label", params={"id": "a", "tag": evil}).status_code == 400
    assert server.get("/datastore/label", params={"label": "a", "tag": evil}).status_code == 400


@pytest.mark.parametrize("evil", EVIL_IDS)
def test_infer_takes_no_paths(server: Server, evil: str) -> None:
    point = {"foreground": [[20, 20, 4]]}
    assert server.infer("sam", evil, point).status_code == 400
    assert server.infer("sam", "a", {**point, "image": evil}).status_code == 400


def test_infer_does_not_read_a_real_file_outside(server: Server) -> None:
    outside = str(server.folder / "outside.nii.gz")
    point = {"foreground": [[20, 20, 4]]}
    assert server.infer("sam", "a", point).status_code == 200
    assert server.infer("sam", outside, point).status_code == 400
    assert server.infer("sam", "a", {**point, "image": outside}).status_code == 400
    assert server.infer("sam", "", {**point, "image": outside}).status_code == 400
    assert server.infer("sam", "../../outside", point).status_code == 400
    fields = {"params": (None, json.dumps({**point, "session": {"image": outside}}))}
    assert server.request("POST", "/infer/sam?image=a", files=fields).status_code == 400


@pytest.mark.parametrize("evil", ["..", "../x", "../../../../etc", ".", "x/y", "a_b", "x" * 300])
def test_sessions_stay_inside(server: Server, evil: str) -> None:
    fields = {"params": (None, json.dumps({"foreground": [[20, 20, 4]]}))}
    assert server.request("POST", "/infer/sam", params={"session_id": evil}, files=fields).status_code == 400


def test_uploads_are_taken_for_nothing_but_images(server: Server) -> None:
    for name, status in (("..", 400), ("../../x.sh", 400), ("numpy.py", 400), (".nii.gz", 422)):
        reply = server.request("PUT", "/session/", files={"files": (name, b"content")})
        assert reply.status_code == status, name
    reply = server.request("PUT", "/session/?uncompress=true", files={"files": ("x.zip", b"content")})
    assert reply.status_code == 422


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/session/.."),
        ("DELETE", "/session/%2e%2e"),
        ("DELETE", "/session/%2e%2e%2f%2e%2e"),
        ("GET", "/ohif/../../../../etc/passwd"),
        ("GET", "/static/..%2f..%2fconfig.py"),
        ("GET", "/datastore/image?image=%2e%2e%2foutside"),
        ("GET", "/datastore/image?image=..%5coutside"),
        ("GET", "/datastore/image?x=1;image=../y&image=../outside"),
        ("GET", "/model/..%2f..%2fx"),
        ("POST", "/activelearning/%2e%2e"),
    ],
)
def test_paths_do_not_climb(server: Server, method: str, target: str) -> None:
    """Sent as they are: `requests` would tidy such addresses before it sends them."""
    connection = http.client.HTTPConnection(urlsplit(server.address).netloc, timeout=10)
    try:
        connection.request(method, target)
        reply = connection.getresponse()
        assert reply.status == 400
        assert b"cannot be used" in reply.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/train/sam", "/train/", "/batch/infer/sam"])
def test_clients_name_no_code_for_other_processes(server: Server, path: str) -> None:
    reply = server.request("POST", path, json={"bundle_path": str(server.folder / "evil")})
    assert reply.status_code == 400
    assert server.request("POST", path, params={"run_sync": "true"}, json={}).status_code == 400
    assert server.get("/train/").status_code == 404  # nothing was started
    assert server.get("/batch/infer").status_code == 404


def test_batch_inference_takes_no_paths(server: Server) -> None:
    for params in ({"images": ["/etc/passwd"]}, {"images": ["../x"]}, {"label_tag": "../../x"}, {"image": "/etc/passwd"}):
        assert server.request("POST", "/batch/infer/sam_auto", json=params).status_code == 400
    assert server.get("/batch/infer").status_code == 404


def test_the_app_is_not_reloaded(server: Server) -> None:
    assert server.request("POST", "/reload").status_code == 403


def test_refusals_are_not_readable_for_pages_of_other_addresses(server: Server) -> None:
    reply = server.get("/datastore/image", params={"image": "../x"}, headers={"Origin": "http://viewer.example"})
    assert reply.status_code == 400
    assert "access-control-allow-origin" not in reply.headers
