import numpy as np
import pytest
import torch

from sam_adapters.bases import PromptableNetwork, load_base
from sam_adapters.errors import PromptError
from sam_adapters.preprocess import SliceFit, prepare_mask
from sam_adapters.prompt_decoding import decode_prompts, to_network
from sam_adapters.prompts import SlicePrompts, tight_box


@pytest.fixture(scope="module")
def network() -> PromptableNetwork:
    return load_base("litemedsam", image_size=64)


def test_coordinates_at_the_inputs_own_size_are_unchanged() -> None:
    prompts = to_network(SlicePrompts(points=((3, 4, 1), (5, 6, 0)), box=(1, 2, 30, 40)), SliceFit((64, 64), 64))
    np.testing.assert_allclose(prompts.points, [[3, 4], [5, 6]])
    assert prompts.labels.tolist() == [1, 0]
    np.testing.assert_allclose(prompts.box, [1, 2, 30, 40])


def test_coordinates_in_an_enlarged_slice() -> None:
    # each pixel becomes 2 x 2: pixel 3 covers 6 and 7, with its centre between them
    prompts = to_network(SlicePrompts(points=((3, 0, 1),), box=(3, 4, 5, 4)), SliceFit((16, 32), 64))
    np.testing.assert_allclose(prompts.points, [[6.5, 0.5]])
    np.testing.assert_allclose(prompts.box, [6, 8, 11, 9])


def test_coordinates_in_a_shrunk_slice() -> None:
    prompts = to_network(SlicePrompts(points=((4, 6, 1),), box=(4, 8, 11, 8)), SliceFit((256, 128), 64))
    np.testing.assert_allclose(prompts.points, [[0.625, 1.125]])
    np.testing.assert_allclose(prompts.box, [1, 2, 2, 2])  # a row of a quarter pixel does not turn inside out


def test_the_box_of_a_mask_is_the_box_of_the_resized_mask() -> None:
    mask = np.zeros((20, 32), bool)
    mask[4:9, 10:30] = True
    box = to_network(SlicePrompts(box=tight_box(mask)), SliceFit(mask.shape, 64)).box
    np.testing.assert_allclose(box, tight_box(prepare_mask(mask, 64) >= 0.5))


def test_prompts_beside_the_slice_are_refused() -> None:
    with pytest.raises(PromptError, match="expected 0 to 31"):
        to_network(SlicePrompts(points=((40, 0, 1),)), SliceFit((16, 32), 64))


def test_a_mixed_batch_gives_what_each_slice_gives_alone(network: PromptableNetwork) -> None:
    fit = SliceFit((64, 64), 64)
    mask = np.linspace(-4, 4, 64 * 64, dtype=np.float32).reshape(64, 64)
    kinds = [
        SlicePrompts(box=(5, 5, 40, 50)),
        SlicePrompts(points=((20, 20, 1),)),
        SlicePrompts(),
        SlicePrompts(points=((20, 20, 1), (50, 50, 0)), box=(1, 2, 33, 44)),
        SlicePrompts(mask=mask),
        SlicePrompts(points=((1, 2, 0),)),
        SlicePrompts(points=((30, 31, 1),), mask=mask),
    ]
    prompts = [to_network(kind, fit) for kind in kinds]
    with torch.inference_mode():
        embeddings = network.encode(torch.rand(len(kinds), 3, 64, 64, generator=torch.Generator().manual_seed(2)))
        logits, iou = decode_prompts(network, embeddings, prompts)
        for row, item in enumerate(prompts):
            alone, score = decode_prompts(network, embeddings[row : row + 1], [item])
            torch.testing.assert_close(logits[row : row + 1], alone, rtol=0, atol=1e-3)
            torch.testing.assert_close(iou[row : row + 1], score, rtol=0, atol=1e-4)


def test_gradients_reach_every_slice_of_a_mixed_batch(network: PromptableNetwork) -> None:
    fit = SliceFit((64, 64), 64)
    embeddings = torch.zeros(3, 256, 16, 16, requires_grad=True)
    kinds = [SlicePrompts(points=((2, 2, 1),)), SlicePrompts(box=(0, 0, 9, 9)), SlicePrompts(points=((3, 3, 1),))]
    decode_prompts(network, embeddings, [to_network(kind, fit) for kind in kinds])[0].sum().backward()
    assert embeddings.grad is not None
    assert (embeddings.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
