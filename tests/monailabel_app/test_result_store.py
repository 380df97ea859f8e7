"""Results by reference: kept apart by owner, bounded in bytes, fair to those who hold little."""

from pathlib import Path

import numpy as np
import pytest

from monailabel_app.app_errors import NotFoundError
from monailabel_app.image_sources import ImageSource
from monailabel_app.result_store import Result, ResultOrigin, ResultStore
from sam_adapters.segmenter import Decoded

SOURCE = ImageSource("image", "case", Path("/studies/case.nii.gz"))


def result(owner: str = "ann", index: int = 0, size: tuple[int, int] = (5, 7)) -> Result:
    logits = np.where(np.indices(size).sum(axis=0) % 3 == 0, 1.5, -1).astype(np.float32)
    decoded = Decoded(logits, 0.875, np.linspace(-9, 9, 16, dtype=np.float32).reshape(4, 4))
    return ResultOrigin(owner, SOURCE, "hash", "k", "tumour", "base", "torch").result(index, decoded)


def test_a_result_keeps_mask_and_logits() -> None:
    found = result()
    assert found.size == (5, 7)
    assert (found.mask == (np.indices((5, 7)).sum(axis=0) % 3 == 0)).all()
    assert found.logits == pytest.approx(np.linspace(-9, 9, 16).reshape(4, 4), abs=0.01)
    assert (found.owner, found.label, found.index, found.iou) == ("ann", "tumour", 0, 0.875)


def test_another_owners_result_is_as_unknown_as_none() -> None:
    store = ResultStore(10**6)
    name = store.put(result("ann"))
    assert store.get(name, "ann").owner == "ann"
    sentences = set()
    for asked, owner in ((name, "bob"), ("0" * 32, "ann")):
        with pytest.raises(NotFoundError, match="expired") as refused:
            store.get(asked, owner)
        sentences.add(str(refused.value).replace(asked, "…"))
    assert len(sentences) == 1


def test_ids_are_long_and_never_the_same() -> None:
    store = ResultStore(10**7)
    names = {store.put(result()) for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 32 for name in names)


def test_what_was_used_longest_ago_goes_first() -> None:
    store = ResultStore(3 * result().nbytes)
    first, second, third = (store.put(result(index=index)) for index in range(3))
    store.get(first, "ann")
    fourth = store.put(result(index=3))
    with pytest.raises(NotFoundError):
        store.get(second, "ann")
    assert [store.get(name, "ann").index for name in (first, third, fourth)] == [0, 2, 3]
    assert store.nbytes == 3 * result().nbytes


def test_one_persons_volume_does_not_push_out_anothers_click() -> None:
    store = ResultStore(5 * result().nbytes)
    click = store.put(result("ann"))
    volume = [store.put(result("bob", index)) for index in range(50)]
    assert store.get(click, "ann").owner == "ann"
    assert [store.get(name, "bob").index for name in volume[-4:]] == [46, 47, 48, 49]
    assert len(store) == 5


def test_one_that_is_larger_than_the_store_can_still_be_used_once() -> None:
    store = ResultStore(1)
    name = store.put(result())
    assert store.get(name, "ann").index == 0
    store.put(result())
    with pytest.raises(NotFoundError):
        store.get(name, "ann")
