"""The stem of the encoder is computed once for all methods, and no figure changes by a bit."""

import torch
from torch import Tensor

from benchmarks.federated.stem_memory import MAX_BYTES, remember_stems
from sam_adapters.bases import litemedsam
from sam_adapters.bases.litemedsam import LiteMedSam


def _counted(max_bytes: int = MAX_BYTES) -> tuple[LiteMedSam, list[Tensor]]:
    """A network of a class of its own whose stem is remembered, and the pixels for which it was computed."""
    computed: list[Tensor] = []

    class Counted(LiteMedSam):
        def encode_stem(self, pixels: Tensor) -> Tensor:
            computed.append(pixels)
            return super().encode_stem(pixels)

    remember_stems(Counted, max_bytes)
    network = litemedsam.load(64)
    network.__class__ = Counted
    return network, computed


def test_a_slice_goes_through_the_stem_once_and_its_embedding_is_the_same_to_the_bit() -> None:
    network, computed = _counted()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():  # as scoring does, before anything is tuned on the slice
        first = network.encode(pixels)
    second = network.encode(pixels.clone())
    assert len(computed) == 1
    assert torch.equal(first, second)
    assert torch.equal(first, litemedsam.load(64).encode(pixels))


def test_what_was_kept_while_scoring_can_be_tuned_on() -> None:
    network, _ = _counted()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        network.encode(pixels)
    weight = network.get_submodule(network.blocks[0]).get_submodule("mlp.fc1").weight
    weight.requires_grad_(True)
    network.encode(pixels).sum().backward()  # type: ignore[no-untyped-call]
    plain = litemedsam.load(64)
    same = plain.get_submodule(plain.blocks[0]).get_submodule("mlp.fc1").weight
    same.requires_grad_(True)
    plain.encode(pixels).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert same.grad is not None
    assert torch.equal(weight.grad, same.grad)


def test_another_slice_is_another_and_the_bound_holds() -> None:
    one = LiteMedSam.encode_stem(litemedsam.load(64), torch.zeros(1, 3, 64, 64)).nbytes
    network, computed = _counted(2 * one)
    slices = [torch.full((1, 3, 64, 64), value) for value in (0.1, 0.2, 0.3)]
    for pixels in slices:
        network.encode_stem(pixels)
    network.encode_stem(slices[2])
    assert len(computed) == 3
    network.encode_stem(slices[0])  # made room for the third
    assert len(computed) == 4


def test_remembering_twice_is_remembering_once() -> None:
    class Twice(LiteMedSam):
        def encode_stem(self, pixels: Tensor) -> Tensor:
            return super().encode_stem(pixels)

    remember_stems(Twice)
    before = Twice.encode_stem
    remember_stems(Twice)
    assert Twice.encode_stem is before
