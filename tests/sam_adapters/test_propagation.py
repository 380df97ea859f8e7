"""Propagation: its rules by hand, and the whole of it with a network that is a table."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from sam_adapters.errors import PromptError
from sam_adapters.prompts import SlicePrompts
from sam_adapters.propagation import DEFAULT_RULE, Neighbour, PropagationRule, end_reason, enlarged, next_prompts, propagate
from sam_adapters.segmenter import Decoded, Segmenter

RULE = PropagationRule(enlarge=0.1, enlarge_pixels=1.0, mask=True, least_overlap=0.5, least_iou=0.3, largest_growth=2.0, least_pixels=4)


def square(side: int, at: int = 10, size: int = 40) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    mask[at : at + side, at : at + side] = True
    return mask


def test_the_box_grows_by_a_fraction_or_by_a_pixel_and_stays_inside() -> None:
    assert enlarged((10, 10, 29, 14), RULE, (40, 40)) == (8.0, 9.0, 31.0, 15.0)  # a tenth of 20 columns, at least 1 of 5 rows
    assert enlarged((0, 1, 39, 39), RULE, (40, 40)) == (0.0, 0.0, 39.0, 39.0)


def test_prompts_of_the_next_slice() -> None:
    known = Neighbour(square(10), np.zeros((16, 16), np.float32))
    both = next_prompts(known, replace(RULE, box=True, mask=True))
    assert both.box == (9.0, 9.0, 20.0, 20.0)
    assert both.mask is known.low_res
    assert next_prompts(known, replace(RULE, box=True, mask=False)).mask is None
    assert next_prompts(known, replace(RULE, box=False, mask=True)).box is None
    with pytest.raises(PromptError):
        next_prompts(Neighbour(square(0), known.low_res), RULE)


@pytest.mark.parametrize(
    ("after", "iou", "reason"),
    [
        (square(10), 0.9, None),
        (square(8), 0.9, None),  # 64 of 100: Dice 128 / 164 = 0.78
        (square(0), 0.9, "nothing is left"),
        (square(1), 0.9, "nothing is left"),  # 1 pixel of the 4 at least
        (square(15), 0.9, "grows 2.2 times"),  # 225 / 100
        (square(5), 0.9, "Dice 0.40"),  # 25 of 100: 50 / 125
        (square(10, at=25), 0.9, "Dice 0.00"),
        (square(10), 0.2, "expected IoU 0.20"),
    ],
)
def test_when_the_structure_ends(after: NDArray[np.bool_], iou: float, reason: str | None) -> None:
    found = end_reason(square(10), after, iou, RULE)
    assert (found is None) if reason is None else (found is not None and reason in found)


class TableNetwork:
    """Answers with the mask that a table has for the slice, and remembers what it was asked."""

    def __init__(self, masks: Mapping[int, NDArray[np.bool_]]) -> None:
        self.masks = masks
        self.asked: list[tuple[int, SlicePrompts]] = []

    def encode(self, pixels: NDArray[Any], **_: object) -> Any:
        return SimpleNamespace(index=int(pixels[0, 0]))

    def decode(self, embedding: Any, prompts: SlicePrompts, **_: object) -> Decoded:
        self.asked.append((embedding.index, prompts))
        mask = self.masks.get(embedding.index, square(0))
        return Decoded(np.where(mask, 1, -1).astype(np.float32), 0.9, np.full((4, 4), embedding.index, np.float32))


def walk(network: TableNetwork, start: int, within: range, rule: PropagationRule = RULE) -> list[int]:
    array = np.broadcast_to(np.arange(20)[:, None, None], (20, 40, 40))  # every slice holds its own number
    known = Neighbour(network.masks[start], np.full((4, 4), start, np.float32))
    return [index for index, _ in propagate(cast(Segmenter, network), array, "k", start, known, within, rule=rule)]


def test_it_goes_both_ways_nearest_first_and_ends_with_the_structure() -> None:
    network = TableNetwork({index: square(10) for index in range(7, 13)})
    assert walk(network, 9, range(20)) == [10, 8, 11, 7, 12]
    assert [index for index, _ in network.asked] == [10, 8, 11, 7, 12, 6, 13]  # the two ends were looked at, and not given out


def test_each_slice_is_prompted_by_its_neighbour() -> None:
    network = TableNetwork({9: square(10), 10: square(12), 11: square(12), 8: square(9)})
    walk(network, 9, range(20))
    prompts = dict(network.asked)
    assert prompts[10].box == (9.0, 9.0, 20.0, 20.0)
    assert prompts[11].box == pytest.approx((8.8, 8.8, 22.2, 22.2))  # around the 12 of slice 10, a tenth larger
    assert prompts[11].mask is not None
    assert (prompts[11].mask == 10).all()
    assert prompts[8].box == (9.0, 9.0, 20.0, 20.0)


def test_it_stays_within_the_slices_it_may_fill() -> None:
    network = TableNetwork({index: square(10) for index in range(20)})
    assert walk(network, 5, range(4, 8)) == [6, 4, 7]
    assert walk(network, 19, range(18, 20)) == [18]
    assert walk(network, 0, range(1)) == []


def test_one_direction_goes_on_when_the_other_has_ended() -> None:
    network = TableNetwork({index: square(10) for index in range(9, 15)})
    assert walk(network, 10, range(20)) == [11, 9, 12, 13, 14]


def test_an_empty_mask_leads_nowhere() -> None:
    assert walk(TableNetwork({3: square(0)}), 3, range(20), DEFAULT_RULE) == []
