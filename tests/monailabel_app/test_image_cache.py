import threading
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from monailabel_app import image_cache
from monailabel_app.image_cache import ImageCache
from sam_adapters.errors import ImageError
from sam_adapters.images import MedicalImage, read_image

DEADLINE = 60.0


def volume(path: Path, value: int = 1, slices: int = 4) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(np.full((slices, 8, 8), value, np.uint8)), str(path))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    names: list[str] = []

    def counting(path: Path) -> MedicalImage:
        names.append(path.name)
        return read_image(path)

    monkeypatch.setattr(image_cache, "read_image", counting)
    return names


def test_the_least_recently_used_goes_first_and_a_changed_file_is_read_anew(tmp_path: Path, reads: list[str]) -> None:
    cache = ImageCache(2 * 4 * 64)
    a, b, c = (volume(tmp_path / f"{name}.nii") for name in "abc")
    for path in (a, b, a, c, a, b):
        cache.read(path)
    assert reads == ["a.nii", "b.nii", "c.nii", "b.nii"]
    volume(b, value=2, slices=3)
    assert cache.read(b).array.max() == 2
    with pytest.raises(ImageError):
        cache.read(tmp_path / "nothing.nii")


def test_an_image_larger_than_the_cache_is_read_once(tmp_path: Path, reads: list[str]) -> None:
    cache = ImageCache(100)
    large, other = volume(tmp_path / "large.nii"), volume(tmp_path / "other.nii")
    for path in (large, large, other, large):
        cache.read(path)
    assert reads == ["large.nii", "other.nii", "large.nii"]


def test_two_who_ask_at_once_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = volume(tmp_path / "a.nii"), ImageCache(2**20)
    inside, leave, calls, got = threading.Event(), threading.Event(), [], []

    def slow(asked: Path) -> MedicalImage:
        calls.append(asked)
        inside.set()
        assert leave.wait(DEADLINE)
        return read_image(asked)

    monkeypatch.setattr(image_cache, "read_image", slow)
    threads = [threading.Thread(target=lambda: got.append(cache.read(path))) for _ in range(3)]
    threads[0].start()
    assert inside.wait(DEADLINE)
    for thread in threads[1:]:
        thread.start()
    leave.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(calls) == 1
    assert len({id(image) for image in got}) == 1
