import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.embedding_cache import Embedding, EmbeddingCache, EmbeddingKey, SliceKey
from sam_adapters.embedding_disk import EmbeddingDisk
from sam_adapters.preprocess import SliceFit

DEADLINE = 60.0


def features(value: float, side: int = 8) -> torch.Tensor:
    return torch.full((256, side, side), value, dtype=torch.float16)


def key(index: int, version: str = "base") -> EmbeddingKey:
    return EmbeddingKey(SliceKey("image", "k", index), "sha", version, 32)


def test_embeddings_outlive_the_process_that_made_them(tmp_path: Path) -> None:
    disk = EmbeddingDisk(tmp_path / "embeddings", 2**20)
    disk.put("a", features(0.5), (30, 40))
    assert disk.flush(DEADLINE)
    found = EmbeddingDisk(tmp_path / "embeddings", 2**20).get("a")
    assert found is not None
    assert torch.equal(found[0], features(0.5))
    assert found[0].dtype == torch.float16
    assert found[1] == (30, 40)
    assert disk.get("b") is None
    assert (tmp_path / "embeddings").stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    one = 256 * 8 * 8 * 2
    disk = EmbeddingDisk(tmp_path, int(2.5 * one))
    for name, age in (("a", 300), ("b", 200)):
        disk.put(name, features(1), (8, 8))
        assert disk.flush(DEADLINE)
        path = disk._path(name)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    assert disk.get("a") is not None  # now used later than b
    disk.put("c", features(1), (8, 8))
    assert disk.flush(DEADLINE)
    assert [disk.get(name) is not None for name in "abc"] == [True, False, True]
    assert disk.nbytes <= int(2.5 * one)


def test_what_is_larger_than_all_room_is_not_kept(tmp_path: Path) -> None:
    disk = EmbeddingDisk(tmp_path, 1000)
    disk.put("a", features(1), (8, 8))
    assert disk.flush(DEADLINE)
    assert disk.get("a") is None
    assert list(tmp_path.iterdir()) == []


@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_never_used(tmp_path_factory: pytest.TempPathFactory, where: float, bit: int, cut: bool) -> None:
    folder = tmp_path_factory.mktemp("disk")
    disk = EmbeddingDisk(folder, 2**20)
    disk.put("a", features(0.5, side=2), (8, 8))
    assert disk.flush(DEADLINE)
    path = disk._path("a")
    data = bytearray(path.read_bytes())
    place = int(where * len(data))
    if cut:
        del data[place:]
    else:
        data[place] ^= 1 << bit
    path.write_bytes(data)
    found = disk.get("a")
    if found is None:
        assert not path.exists()
    else:  # a changed byte of the header that means the same, for instance a space
        assert torch.equal(found[0], features(0.5, side=2))


def test_a_cache_asks_the_disk_and_keeps_versions_apart(tmp_path: Path) -> None:
    disk = EmbeddingDisk(tmp_path, 2**24)
    first = EmbeddingCache(2**24, disk)
    first.put(key(3), Embedding(features(0.25), SliceFit((20, 30), 32)))
    assert disk.flush(DEADLINE)
    second = EmbeddingCache(2**24, EmbeddingDisk(tmp_path, 2**24))
    assert second.get(key(3, "another")) is None
    assert second.get(key(4)) is None
    found = second.get(key(3))
    assert found is not None
    assert found.fit == SliceFit((20, 30), 32)
    assert torch.equal(found.features, features(0.25))
    assert second.get(key(3)) is found
    assert (second.hits, second.disk_hits, second.misses) == (1, 1, 2)
