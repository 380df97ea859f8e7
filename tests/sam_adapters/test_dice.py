import numpy as np
import pytest

from sam_adapters.dice import Overlap, dice, overlap


def test_dice_by_hand() -> None:
    prediction = np.array([[1, 1, 0], [0, 1, 0]])
    target = np.array([[1, 0, 0], [0, 2, 2]])
    assert overlap(prediction, target) == Overlap(both=2, predicted=3, target=3)
    assert dice(prediction, target) == pytest.approx(4 / 6)


def test_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    empty, full = np.zeros((2, 2)), np.ones((2, 2))
    assert dice(empty, empty) == 1
    assert dice(empty, full) == 0
    assert dice(full, empty) == 0


def test_counts_of_slices_add_up_to_those_of_the_volume() -> None:
    rng = np.random.default_rng(0)
    prediction, target = rng.random((2, 4, 5, 6)) > 0.5
    total = sum((overlap(p, t) for p, t in zip(prediction, target, strict=True)), Overlap())
    assert total == overlap(prediction, target)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[2, 3\].*\[3, 2\]"):
        dice(np.zeros((2, 3)), np.zeros((3, 2)))
