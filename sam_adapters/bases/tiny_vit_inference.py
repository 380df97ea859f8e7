"""TinyViT arranged for an inference engine: the weights and numbers of `tiny_vit`, with fewer copies between the layers.

What differs, none of it in value beyond rounding: tokens stay a list (B, H * W, C) between the layers, where an engine finds nothing to
rearrange; queries, keys and values are three products, which an engine's attention takes as they are; the padding of the last windows is
cut away before the projection that follows the attention; and the embedding comes out with its channels last. On two cores OpenVINO needs a
fifth less time for it (docs/speed.md). Training keeps `tiny_vit`, whose linear layers carry the adapters.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_adapters.bases.tiny_vit import AttentionBlock, AttentionStage, ChannelNorm, TinyViT, WindowAttention, from_windows, to_windows


class TinyViTInference(nn.Module):
    """Pixels (B, 3, S, S) to the embedding (B, S / 4 * S / 4, 256), positions row by row.

    Args:
        encoder: whose weights are used; adapters must have been merged into its linear layers.
    """

    def __init__(self, encoder: TinyViT) -> None:
        super().__init__()
        self.patch_embed = encoder.patch_embed
        self.first = encoder.layers[0]
        layers: Any = encoder.layers[1:]
        self.stages = nn.ModuleList(_Stage(stage) for stage in layers)
        self.neck: Any = encoder.neck

    def forward(self, pixels: Tensor) -> Tensor:
        """All stages and the neck."""
        x = self.first(self.patch_embed(pixels))
        for stage in self.stages:
            x = stage(x)
        first, norm, second, last_norm = self.neck
        size = x.shape[2:]
        x = _grid(_norm(norm, _tokens(first(x))), size)
        return _norm(last_norm, _tokens(second(x)))


class SplitAttention(nn.Module):
    """`tiny_vit.WindowAttention` up to its last projection, with three products for queries, keys and values instead of one."""

    weights: Tensor
    biases: Tensor
    distance_bias: Tensor

    def __init__(self, attention: WindowAttention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.norm = attention.norm
        width = attention.qkv.in_features
        # each head's query, key and value lie side by side: sort the rows by part
        weights = attention.qkv.weight.detach().view(self.heads, 3, -1, width).transpose(0, 1).reshape(3, width, width)
        biases = attention.qkv.bias.detach().view(self.heads, 3, -1).transpose(0, 1).reshape(3, width)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("biases", biases, persistent=False)
        self.register_buffer("distance_bias", attention.attention_biases.detach()[:, attention.bias_index].unsqueeze(0), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(windows, N, width), unchanged in shape; not yet projected."""
        windows, count, width = tokens.shape
        tokens = self.norm(tokens)
        query, key, value = (
            functional.linear(tokens, self.weights[part], self.biases[part]).view(windows, count, self.heads, -1).transpose(1, 2)
            for part in range(3)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.distance_bias)
        return mixed.transpose(1, 2).reshape(windows, count, width)


class _Stage(nn.Module):
    """`tiny_vit.AttentionStage`: (B, C, H, W) in and out."""

    def __init__(self, stage: AttentionStage) -> None:
        super().__init__()
        blocks: Any = stage.blocks
        self.blocks = nn.ModuleList(_Block(block) for block in blocks)
        self.downsample = stage.downsample

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        tokens = _tokens(x)
        for block in self.blocks:
            tokens = block(tokens, size)
        x = _grid(tokens, size)
        return x if self.downsample is None else self.downsample(x)


class _Block(nn.Module):
    """`tiny_vit.AttentionBlock` for tokens (B, H * W, C) of a grid of this size (H, W)."""

    def __init__(self, block: AttentionBlock) -> None:
        super().__init__()
        self.window = block.window
        self.attention = SplitAttention(block.attn)
        self.proj = block.attn.proj
        self.local_conv = block.local_conv
        self.mlp = block.mlp

    def forward(self, tokens: Tensor, size: torch.Size) -> Tensor:
        shape = torch.Size((tokens.shape[0], *size, tokens.shape[2]))
        mixed = self.attention(to_windows(tokens.view(shape), self.window))
        tokens = tokens + self.proj(from_windows(mixed, self.window, shape).reshape(tokens.shape))
        tokens = _tokens(self.local_conv(_grid(tokens, size)))
        changed: Tensor = tokens + self.mlp(tokens)
        return changed


def _tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W, C)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _grid(tokens: Tensor, size: torch.Size) -> Tensor:
    """(B, H * W, C) to (B, C, H, W)."""
    return tokens.view(tokens.shape[0], *size, tokens.shape[2]).permute(0, 3, 1, 2)


def _norm(norm: ChannelNorm, tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, norm.weight.shape, norm.weight, norm.bias, 1e-6)
