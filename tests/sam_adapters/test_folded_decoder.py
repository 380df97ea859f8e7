from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig
from transformers.models.sam.modeling_sam import SamAttention, SamMaskDecoder

from sam_adapters.folded_decoder import FoldedMaskDecoder, image_looks_at_tokens, tokens_look_at_image

SIDE = 5
WIDTH = 64


def config() -> SamMaskDecoderConfig:
    chosen = SamMaskDecoderConfig(hidden_size=WIDTH, mlp_dim=96, num_attention_heads=4, iou_head_hidden_dim=32)
    chosen._attn_implementation = "sdpa"
    return chosen


def unlike_its_start(module: nn.Module) -> nn.Module:
    """Every parameter away from zero and one: a forgotten bias or norm would show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def decoder() -> Any:
    torch.manual_seed(1)
    return unlike_its_start(SamMaskDecoder(config())).double()


@given(prompts=st.integers(0, 12), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_the_numbers_are_those_of_the_ordinary_decoder(decoder: Any, prompts: int, seed: int) -> None:
    image, position, sparse = draw(seed, 1, WIDTH, SIDE, SIDE), draw(seed + 1, 1, WIDTH, SIDE, SIDE), draw(seed + 2, prompts, WIDTH)
    with torch.inference_mode():
        logits, iou = decoder(
            image_embeddings=image,
            image_positional_embeddings=position,
            sparse_prompt_embeddings=sparse[None, None],
            dense_prompt_embeddings=torch.zeros(1, 1, 1, 1, dtype=torch.float64),
            multimask_output=False,
        )
        folded_logits, folded_iou = FoldedMaskDecoder(decoder, position)(image[0].flatten(1).t(), sparse)
    assert folded_logits.shape == (4 * SIDE, 4 * SIDE)
    torch.testing.assert_close(folded_logits, logits[0, 0, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(folded_iou, iou[0, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tokens", [1, 7])
def test_either_attention_is_the_ordinary_one(tokens: int) -> None:
    torch.manual_seed(2)
    attention: Any = unlike_its_start(SamAttention(config())).double()
    image, placed, query, value = draw(1, 30, WIDTH), draw(2, 30, WIDTH), draw(3, tokens, WIDTH), draw(4, tokens, WIDTH)
    with torch.inference_mode():
        ordinary = attention(query=query[None, None], key=placed[None, None], value=image[None, None])[0][0, 0]
        torch.testing.assert_close(tokens_look_at_image(attention, query, placed, image), ordinary, rtol=1e-9, atol=1e-9)
        ordinary = attention(query=placed[None, None], key=query[None, None], value=value[None, None])[0][0, 0]
        torch.testing.assert_close(image_looks_at_tokens(attention, placed, query, value), ordinary, rtol=1e-9, atol=1e-9)


def test_large_scores_do_not_overflow() -> None:
    torch.manual_seed(3)
    attention: Any = unlike_its_start(SamAttention(config()))
    image = 1e4 * draw(5, 30, WIDTH).float()
    with torch.inference_mode():
        assert torch.isfinite(tokens_look_at_image(attention, 1e4 * draw(6, 3, WIDTH).float(), image, image)).all()
