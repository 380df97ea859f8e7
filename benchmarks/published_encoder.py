"""LiteMedSAM's encoder computed layer by layer as it was published: what eager PyTorch is to whoever loads the checkpoint.

The product's own PyTorch path is quicker (`sam_adapters.bases.tiny_vit`: batch norms folded into convolutions, channels last, fused
attention). A comparison with that alone would hide what was gained there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from sam_adapters.bases.tiny_vit import ConvNorm, TinyViT, WindowAttention


@contextmanager
def as_published(encoder: TinyViT) -> Iterator[None]:
    """Within the block the encoder computes layer by layer as published: the same weights, the same result but for rounding."""
    replaced: list[Any] = [encoder]
    vars(encoder)["stem"] = partial(_stem, encoder)
    for module in encoder.modules():
        if (plain := _PLAIN.get(type(module))) is not None:
            vars(module)["forward"] = partial(plain, module)
            replaced.append(module)
    try:
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)
            vars(module).pop("stem", None)


def _stem(encoder: TinyViT, pixels: Tensor) -> Tensor:
    """Channels first, as an image comes."""
    features: Tensor = encoder.layers[0](encoder.patch_embed(pixels))
    return features


def _conv_norm(module: ConvNorm, x: Tensor) -> Tensor:
    """Two layers, one after the other."""
    normed: Tensor = module.bn(module.c(x))
    return normed


def _attention(module: WindowAttention, tokens: Tensor) -> Tensor:
    """Softmax(q kᵀ / √d + bias) v, written out."""
    windows, count, width = tokens.shape
    qkv: Tensor = module.qkv(module.norm(tokens)).view(windows, count, module.heads, 3, width // module.heads)
    query, key, value = qkv.permute(3, 0, 2, 1, 4).unbind(0)
    weights = query @ key.transpose(-2, -1) * (width // module.heads) ** -0.5 + module.attention_biases[:, module.bias_index]
    projected: Tensor = module.proj((weights.softmax(-1) @ value).transpose(1, 2).reshape(windows, count, width))
    return projected


_PLAIN: dict[type, Callable[..., Tensor]] = {ConvNorm: _conv_norm, WindowAttention: _attention}
