from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sam_adapters.bases import load_base
from sam_adapters.bases.tiny_vit import TinyViT, WindowAttention
from sam_adapters.bases.tiny_vit_inference import SplitAttention, TinyViTInference
from tests.sam_adapters.test_folded_decoder import unlike_its_start
from tests.sam_adapters.test_sam_hf import tiny_sam


def pixels(size: int, batch: int = 1) -> Tensor:
    return torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(size))


# 64: the last stages' windows (7 and 14) stick out of their grid of 16; 112: stages with windows of 7 divide, the one with 14 does too
@pytest.mark.parametrize(("size", "batch"), [(64, 1), (112, 1), (96, 2)])
def test_it_computes_what_the_trained_network_computes(size: int, batch: int) -> None:
    torch.manual_seed(4)
    encoder = TinyViT().eval()
    for module in encoder.modules():
        if isinstance(module, WindowAttention):
            with torch.no_grad():
                module.attention_biases.normal_()
                module.norm.bias.normal_()  # padding passes through the norm: only then does it show
    with torch.inference_mode():
        expected = encoder(pixels(size, batch))
        positions = TinyViTInference(encoder)(pixels(size, batch))
    assert positions.shape == (batch, (size // 4) ** 2, 256)
    torch.testing.assert_close(positions, expected.flatten(2).transpose(1, 2), rtol=1e-4, atol=1e-4)


def test_split_attention_sorts_queries_keys_and_values_of_every_head() -> None:
    torch.manual_seed(5)
    attention: Any = unlike_its_start(WindowAttention(20, 5, 3))
    tokens = torch.randn(4, 9, 20)
    with torch.inference_mode():
        torch.testing.assert_close(attention.proj(SplitAttention(attention)(tokens)), attention(tokens), rtol=1e-5, atol=1e-5)


def test_a_base_without_a_form_of_its_own_gives_its_plain_encoder(tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path)
    network = load_base(f"sam:{tmp_path}")
    image = pixels(network.image_size)
    with torch.inference_mode():
        torch.testing.assert_close(network.inference_encoder()(image), network.encode(image).flatten(2).transpose(1, 2))
