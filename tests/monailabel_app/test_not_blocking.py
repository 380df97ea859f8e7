"""Short requests are answered while everything else waits: with a real server process, its lock held and its workers all taken."""

import inspect
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from fastapi.routing import APIRoute
from filelock import FileLock
from monailabel.app import app as api

from monailabel_app import datastore_routes, inference_routes, refused_routes, session_routes, site_routes, task_routes
from monailabel_app.unblocked_routes import finished, in_worker, unblocked_router
from tests.monailabel_app.server_process import Server, running_server, wait_until, write_label, write_volume

WORKERS = 40
"""Threads of FastAPI's pool."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hospital")
    studies = folder / "site" / "studies"
    studies.mkdir(parents=True)
    write_label(folder / "label.nii.gz", write_volume(studies / "a.nii.gz"))
    with running_server(folder, studies, {"image_size": "64", "uncertainty": "false", "tune": "false"}) as running:
        yield running


def copies_waiting(server: Server) -> int:
    """Labels that are copied and wait to be put in their place."""
    return len(list((server.studies / "labels" / "final").glob(".tmp-*")))


def test_info_and_status_answer_while_the_index_is_locked_and_no_worker_is_free(server: Server) -> None:
    info = {"info": (None, json.dumps({"note": "x"}))}
    with ThreadPoolExecutor(WORKERS + 1) as pool:
        with FileLock(server.studies / ".lock"):
            label: Future[requests.Response] = pool.submit(server.put_label, "a", server.folder / "label.nii.gz")
            wait_until(lambda: copies_waiting(server) == 1, 60, what="the label to wait for the lock")
            others = [pool.submit(server.request, "PUT", "/datastore/image/info?image=a", files=info) for _ in range(WORKERS)]
            wait_until(lambda: not worker_free(server), 60, what="all workers to be taken")
            for path in ("/info/", "/fedsca/status"):
                assert server.get(path, timeout=20).status_code == 200
            assert not label.done()
        assert label.result(120).status_code == 200
        assert {other.result(120).status_code for other in others} == {200}
    assert server.get("/datastore/image/info?image=a").json()["note"] == "x"


def worker_free(server: Server) -> bool:
    """Whether an ordinary request is answered; one that waits goes on waiting in the server."""
    try:
        return server.get("/fedsca/adapters", timeout=1).ok
    except requests.Timeout:
        return False


def test_none_of_monai_labels_endpoints_is_left_on_the_event_loop() -> None:
    """Every address that MONAI Label describes is answered by a plain function of ours, but `/info/`, which has threads of its own."""
    described = {(method.upper(), path) for path, item in api.openapi()["paths"].items() for method in item} - {("GET", "/info/")}
    ours = [datastore_routes, inference_routes, refused_routes, session_routes, site_routes, task_routes]
    routes = [route for module in ours for route in module.router.routes] + unblocked_router().routes
    plain = [route for route in routes if isinstance(route, APIRoute) and not inspect.iscoroutinefunction(route.endpoint)]
    for method, path in described:
        example = path.replace("{", "").replace("}", "")
        assert any(method in (route.methods or ()) and route.path_regex.match(example) for route in plain), (method, path)


def test_a_body_that_awaits_nothing_is_run_to_its_end() -> None:
    async def body(name: str) -> dict[str, str]:
        return {"name": name}

    plain = in_worker(body)
    assert inspect.signature(plain) == inspect.signature(body)
    assert plain(name="x").body == b'{"name":"x"}'


def test_a_body_that_waits_is_an_error() -> None:
    class Never:
        def __await__(self) -> Iterator[None]:
            yield

    async def body() -> None:
        await Never()

    with pytest.raises(RuntimeError, match="event loop"):
        finished(body())


def test_temporary_files_of_a_killed_server_are_removed(tmp_path: Path) -> None:
    from monailabel_app.temporary_folder import PREFIX, _remove_if_left_behind

    (tmp_path / f"{PREFIX}old").mkdir()
    (tmp_path / f"{PREFIX}old" / "upload.nii.gz").write_bytes(b"voxels")
    _remove_if_left_behind(tmp_path / f"{PREFIX}old")
    assert list(tmp_path.iterdir()) == []
