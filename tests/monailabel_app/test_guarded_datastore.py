"""The datastore stays in its folder, keeps one file a case and tag, and survives what kills a server."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from monailabel_app import guarded_datastore
from monailabel_app.app_errors import NotFoundError, RequestError
from monailabel_app.guarded_datastore import GuardedDatastore
from sam_adapters.errors import RegistryError
from tests.monailabel_app.dicom_files import write_series
from tests.monailabel_app.server_process import blob, wait_until

BAD_IDS = ["../x", "/tmp/x", "..", ".x", "a/b", "a\\b", "x\0"]


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    folder = tmp_path / "site" / "studies"
    folder.mkdir(parents=True)
    for name in ("a.nii.gz", "b.png", "c.png.jpg"):
        (folder / name).write_bytes(b"image " + name.encode())
    return folder


def opened(studies: Path) -> GuardedDatastore:
    return GuardedDatastore(str(studies), auto_reload=False, read_only=False)


def upload(folder: Path, name: str, data: bytes = b"data") -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_cases_are_named_without_the_end_of_the_name_only(studies: Path) -> None:
    assert sorted(opened(studies).list_images()) == ["a", "b", "c.png"]


def test_hidden_files_are_no_cases(studies: Path) -> None:
    (studies / "._a.nii.gz").write_bytes(b"resource fork")
    (studies / ".tmp-x.nii.gz").write_bytes(b"being written")
    assert sorted(opened(studies).list_images()) == ["a", "b", "c.png"]


@pytest.mark.parametrize("bad", BAD_IDS)
def test_nothing_is_written_under_a_bad_id_or_tag(studies: Path, tmp_path: Path, bad: str) -> None:
    datastore = opened(studies)
    source = upload(tmp_path, "new.nii.gz")
    before = files(tmp_path)
    for action in (
        lambda: datastore.add_image(bad, source, {}),
        lambda: datastore.save_label(bad, source, "final", {}),
        lambda: datastore.save_label("a", source, bad, {}),
        lambda: datastore.remove_image(bad),
        lambda: datastore.remove_label("a", bad),
    ):
        with pytest.raises(RequestError):
            action()
    assert files(tmp_path) == before


def test_files_that_are_no_images_are_refused(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not taken"):
        opened(studies).add_image("x", upload(tmp_path, "x.py"), {})


def test_a_label_of_an_unknown_image_is_refused(studies: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no image 'z'"):
        opened(studies).save_label("z", upload(tmp_path, "z.nii.gz"), "final", {})


def test_a_label_in_another_format_replaces_the_older_one(studies: Path, tmp_path: Path) -> None:
    datastore = opened(studies)
    datastore.save_label("a", upload(tmp_path, "l.nii.gz"), "final", {"client_id": "x"})
    datastore.save_label("a", upload(tmp_path, "l.seg.nrrd", b"newer"), "final", {})
    assert files(studies / "labels" / "final") == {"a.seg.nrrd"}
    assert Path(datastore.get_label_uri("a", "final")).read_bytes() == b"newer"
    saved = datastore.last_saved("a")
    assert saved is not None
    assert (saved.tag, saved.path) == ("final", studies / "labels" / "final" / "a.seg.nrrd")


def test_replacing_an_image_keeps_its_labels(studies: Path, tmp_path: Path) -> None:
    datastore = opened(studies)
    datastore.save_label("a", upload(tmp_path, "l.nii.gz"), "final", {})
    datastore.add_image("a", upload(tmp_path, "n.nrrd"), {})
    assert datastore.get_labeled_images() == ["a"]
    assert {name for name in files(studies) if name.startswith("a.")} == {"a.nrrd"}


def test_the_index_is_whole_and_read_again(studies: Path, tmp_path: Path) -> None:
    datastore = opened(studies)
    datastore.save_label("a", upload(tmp_path, "l.nii.gz"), "final", {"odd": float("nan")})
    assert json.loads((studies / "datastore_v2.json").read_text(encoding="utf-8"))["objects"]["a"]["labels"]["final"]["ext"] == ".nii.gz"
    assert opened(studies).get_labeled_images() == ["a"]


def test_reading_during_refreshes_always_sees_every_case(studies: Path) -> None:
    datastore = opened(studies)
    done = threading.Event()

    def refresh() -> None:
        while not done.is_set():
            datastore.refresh()

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        assert all(datastore.get_image_uri("a") for _ in range(300))
    finally:
        done.set()
        thread.join(10)


def test_nobody_waits_while_a_file_is_copied(studies: Path, tmp_path: Path) -> None:
    """A pipe stands for a slow disk: the copy waits until somebody writes into it."""
    datastore = opened(studies)
    os.mkfifo(tmp_path / "slow.nii.gz")
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(datastore.save_label, "a", str(tmp_path / "slow.nii.gz"), "final", {})
        with (tmp_path / "slow.nii.gz").open("wb") as pipe:  # opens when the copy has begun
            datastore.save_label("b", upload(tmp_path, "b.png"), "final", {})
            assert datastore.get_labeled_images() == ["b"]
            assert not slow.done()
            pipe.write(b"voxels")
        assert slow.result(60) == "a"
    assert Path(datastore.get_label_uri("a", "final")).read_bytes() == b"voxels"
    assert sorted(datastore.get_labeled_images()) == ["a", "b"]


def test_readers_do_not_wait_for_writers(studies: Path) -> None:
    datastore = opened(studies)
    with datastore._thread_lock, ThreadPoolExecutor(1) as pool:
        counts = pool.submit(datastore.status).result(60)
        assert pool.submit(datastore.get_image_uri, "a").result(60)
    assert counts == {"total": 3, "completed": 0, "label_tags": {}}


def test_a_lock_that_another_process_keeps_is_an_error_and_nothing_is_changed(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore = opened(studies)
    monkeypatch.setattr(guarded_datastore, "LOCK_SECONDS", 0.1)
    source = upload(tmp_path, "l.nii.gz")
    before = files(studies)
    with FileLock(studies / ".lock"), pytest.raises(RegistryError, match="try again"):
        datastore.save_label("a", source, "final", {})
    assert files(studies) == before
    assert datastore.get_labeled_images() == []


def test_what_readers_got_does_not_change(studies: Path) -> None:
    datastore = opened(studies)
    datastore.update_image_info("a", {"strategy": {"first": 1}})
    info = datastore.get_image_info("a")
    info["strategy"]["first"] = 2
    assert datastore.get_image_info("a")["strategy"] == {"first": 1}
    datastore.update_image_info("a", {"strategy": 5})
    assert "strategy" not in datastore.get_image_info("a")


def test_an_image_goes_with_its_labels(studies: Path, tmp_path: Path) -> None:
    datastore = opened(studies)
    for tag in ("final", "original"):
        datastore.save_label("a", upload(tmp_path, "l.nii.gz"), tag, {})
    datastore.remove_label("a", "original")
    assert datastore.get_labels_by_image_id("a") == {"final": "a"}
    with pytest.raises(NotFoundError, match="no label 'original'"):
        datastore.remove_label("a", "original")
    datastore.remove_image("a")
    assert not {name for name in files(studies) if "a.nii.gz" in name}
    with pytest.raises(NotFoundError):
        datastore.remove_image("a")


# --- DICOM folders --------------------------------------------------------------------------------------------------------------------

SLICES = blob((3, 12, 14))[0]


def test_a_folder_of_dicom_files_is_a_case(studies: Path, tmp_path: Path) -> None:
    write_series(studies / "series", SLICES)
    write_series(studies / "no_endings", SLICES, end="")
    (studies / "notes").mkdir()
    (studies / "notes" / "readme.txt").write_text("x" * 200, encoding="utf-8")
    (studies / "empty").mkdir()
    write_series(studies / ".hidden", SLICES)
    write_series(studies / "odd.nii.gz.d" / "deep", SLICES)
    datastore = opened(studies)
    assert sorted(datastore.list_images()) == ["a", "b", "c.png", "no_endings", "series"]
    assert datastore.get_image_uri("series") == str(studies / "series")
    info = datastore.get_image_info("series")
    assert (info["name"], info["path"]) == ("series.nrrd", "")
    datastore.save_label("series", upload(tmp_path, "x.seg.nrrd"), "final", {})
    assert opened(studies).get_labeled_images() == ["series"]
    with pytest.raises(RequestError, match="DICOM series already"):
        datastore.add_image("series", upload(tmp_path, "x.nii.gz"), {})
    datastore.remove_image("series")
    assert not (studies / "series").exists()
    assert not (studies / "labels" / "final" / "series.seg.nrrd").exists()


def test_a_dicom_folder_that_appears_later_is_noticed(studies: Path, tmp_path: Path) -> None:
    datastore = GuardedDatastore(str(studies), auto_reload=True, read_only=False)
    write_series(tmp_path / "later", SLICES)
    (studies / "later").mkdir()
    for file in sorted((tmp_path / "later").iterdir()):
        (studies / "later" / file.name).write_bytes(file.read_bytes())
    datastore.refresh()  # a file's creation may be seen before the folder is watched
    wait_until(lambda: "later" in datastore.list_images(), 60, what="the new case")


def test_of_a_linked_series_only_the_link_is_removed(studies: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "archive", SLICES)
    (studies / "linked").symlink_to(tmp_path / "archive")
    datastore = opened(studies)
    datastore.remove_image("linked")
    assert "linked" not in datastore.list_images()
    assert len(list((tmp_path / "archive").iterdir())) == 3
