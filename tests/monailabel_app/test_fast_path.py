"""The interactive path in process, with two users: nobody sees or uses what is another's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from monailabel_app.app_errors import BusyError, NotFoundError, RequestError
from monailabel_app.configuration import AppConfiguration
from monailabel_app.engine import Engine
from monailabel_app.fast_path import FastPath
from monailabel_app.image_sources import ImageSource
from monailabel_app.mask_wire import pack
from monailabel_app.segment_models import MaskBody, PrefetchBody, PropagateBody, SegmentBody, VolumeBody
from tests.monailabel_app.server_process import wait_until, write_volume

DEADLINE = 60.0
CLICK = SegmentBody(image="case", index=3, roi=[15, 32, 10, 29, 3, 3])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.bool_]]:
    path = tmp_path_factory.mktemp("site") / "studies" / "case.nii.gz"
    path.parent.mkdir()
    return path, write_volume(path, seed=1)


@pytest.fixture(scope="module")
def engine(target: tuple[Path, NDArray[np.bool_]]) -> Engine:
    conf = {"image_size": "64", "device": "cpu", "cpu_engine": "torch"}
    return Engine(AppConfiguration.from_conf(str(target[0].parent), conf))


@pytest.fixture
def fast(engine: Engine) -> Iterator[FastPath]:
    made = FastPath(engine, results_bytes=2**20, prefetch=True)
    yield made
    made.stop()


@pytest.fixture
def source(target: tuple[Path, NDArray[np.bool_]]) -> ImageSource:
    return ImageSource("image", "case", target[0])


def test_results_of_one_are_unknown_to_the_other(fast: FastPath, source: ImageSource) -> None:
    ann, bob = (fast.segment(source, CLICK, owner) for owner in ("ann", "bob"))
    assert ann["result"] != bob["result"]
    assert ann["change"] == bob["change"]  # the same question has the same answer
    assert fast.result(ann["result"], None, "ann")["area"] == ann["area"]
    for refused in (
        lambda: fast.result(ann["result"], None, "bob"),
        lambda: fast.result(bob["result"], ann["result"], "bob"),
        lambda: fast.segment(source, CLICK.model_copy(update={"previous": ann["result"]}), "bob"),
        lambda: fast.propagate(PropagateBody(previous=ann["result"]), "bob", lambda found: found),
    ):
        with pytest.raises(NotFoundError, match="expired"):
            refused()


def test_an_earlier_answer_does_not_disturb_the_untuned_base_and_an_edited_mask_counts(fast: FastPath, source: ImageSource) -> None:
    first = fast.segment(source, CLICK, "ann")
    second = fast.segment(source, CLICK.model_copy(update={"previous": first["result"]}), "ann")
    assert (second["against"], second["change"], second["iou"]) == (first["result"], None, first["iou"])
    edited = CLICK.model_copy(update={"mask": MaskBody(box=[20, 15, 24, 19], data=pack(np.ones((5, 5), bool)))})
    assert fast.segment(source, edited, "ann")["iou"] != first["iou"]


def test_embeddings_are_shared_by_all(fast: FastPath, source: ImageSource) -> None:
    fast.segment(source, CLICK, "ann")
    assert fast.segment(source, CLICK, "bob")["embedding"] == "cached"


def test_jobs_of_one_are_unknown_to_the_other_and_do_not_take_the_others_share(fast: FastPath, source: ImageSource) -> None:
    body = VolumeBody(image="case")
    names = [fast.volume(source, body, "ann") for _ in range(2)]
    with pytest.raises(BusyError):
        fast.volume(source, body, "ann")
    names.append(fast.volume(source, body, "bob"))
    with pytest.raises(NotFoundError):
        fast.jobs.state(names[0], "bob")
    fast.start()
    wait_until(lambda: not fast.jobs.busy, DEADLINE, what="the jobs to end")
    ann, bob = fast.jobs.state(names[0], "ann"), fast.jobs.state(names[2], "bob")
    assert (ann["state"], ann["done"], bob["state"], bob["done"]) == ("done", 6, "done", 6)
    assert [item["change"] for item in ann["slices"]] == [item["change"] for item in bob["slices"]]
    assert fast.result(bob["slices"][0]["result"], None, "bob")["index"] == 3


def test_viewers_of_two_users_with_one_name_are_two(fast: FastPath, source: ImageSource) -> None:
    body = PrefetchBody(image="case", viewer="axial")
    fast.prefetch(source, body, "ann")
    fast.prefetch(source, body, "bob")
    assert fast.drop_prefetch("axial", "ann")
    assert not fast.drop_prefetch("axial", "ann")
    assert fast.drop_prefetch("axial", "bob")


def test_a_result_of_an_image_that_has_changed_leads_nowhere(fast: FastPath, source: ImageSource, tmp_path: Path) -> None:
    write_volume(tmp_path / "other.nii.gz", seed=5)
    other = ImageSource("image", "case", tmp_path / "other.nii.gz")
    name = fast.segment(source, CLICK, "ann")["result"]
    with pytest.raises(RequestError, match="another image"):
        fast.segment(other, CLICK.model_copy(update={"previous": name}), "ann")
    with pytest.raises(RequestError, match="another image"):
        fast.propagate(PropagateBody(previous=name), "ann", lambda found: other)


def test_without_prefetching_nothing_is_queued(engine: Engine, source: ImageSource) -> None:
    fast = FastPath(engine, results_bytes=2**20, prefetch=False)
    assert fast.prefetch(source, PrefetchBody(image="case"), "ann")["queued"] == 0
    assert not fast.busy
