import math

import pytest
import torch

from sam_adapters.losses import cross_entropy_loss, segmentation_loss, soft_dice_loss


def square(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([[list(rows)]], dtype=torch.float32)


def test_soft_dice_by_hand() -> None:
    # p = (1/2, 1/2), target = (1, 0): 1 - (2 * 0.5 + 1) / (1 + 1 + 1)
    loss = soft_dice_loss(square([0.0, 0.0]), square([1.0, 0.0]), square([1.0, 1.0]))
    assert loss.tolist() == pytest.approx([1 - 2 / 3])


def test_cross_entropy_by_hand() -> None:
    # logits ln 3: p = 3/4
    logits = square([math.log(3), math.log(3)])
    loss = cross_entropy_loss(logits, square([1.0, 0.0]), square([1.0, 1.0]))
    assert loss.tolist() == pytest.approx([-(math.log(0.75) + math.log(0.25)) / 2])


def test_padding_never_counts() -> None:
    target, valid = square([1.0, 0.0, 0.0]), square([1.0, 1.0, 0.0])
    a = segmentation_loss(square([2.0, -1.0, 50.0]), target, valid)
    b = segmentation_loss(square([2.0, -1.0, -50.0]), target, valid)
    assert torch.equal(a, b)
    assert torch.allclose(a, segmentation_loss(square([2.0, -1.0]), square([1.0, 0.0]), square([1.0, 1.0])))


def test_no_gradient_flows_into_padding() -> None:
    logits = square([1.0, 1.0]).requires_grad_()
    segmentation_loss(logits, square([1.0, 0.0]), square([1.0, 0.0])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] != 0
    assert logits.grad[0, 0, 0, 1] == 0


def test_an_empty_target_is_content_with_an_empty_prediction() -> None:
    logits = torch.full((1, 1, 8, 8), -30.0)
    empty, valid = torch.zeros_like(logits), torch.ones_like(logits)
    assert segmentation_loss(logits, empty, valid).item() == pytest.approx(0, abs=1e-6)
    assert segmentation_loss(-logits, empty, valid).item() > 10


def test_samples_are_kept_apart_and_half_precision_is_widened() -> None:
    logits = torch.tensor([5.0, -5.0]).reshape(2, 1, 1, 1).to(torch.bfloat16)
    loss = segmentation_loss(logits, torch.ones((2, 1, 1, 1)), torch.ones((2, 1, 1, 1)))
    assert loss.shape == (2,)
    assert loss.dtype == torch.float32
    assert loss[0] < 0.1 < loss[1]
