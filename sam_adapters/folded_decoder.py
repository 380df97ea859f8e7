"""SAM's mask decoder, rearranged for one slice and few prompts: the same numbers with less than half of the arithmetic.

A prompted slice has P = e^2 image positions (4,096 at 256 px) but only T = 6 to 16 tokens. SAM's decoder projects all positions to keys,
values and queries before they meet the few tokens; here the projection moves to the tokens' side (matrix products are associative), which
is cheaper as long as heads * T stays below the width of the projection. For one head, with token queries q, positions x and Wk (d, C):

    q (Wk x + bk) = (q Wk) x + q bk       where q bk is the same for all positions: softmax does not see it
    softmax(...) (Wv x + bv) = (softmax(...) x) Wv + bv       since a softmax's row sums to 1

Everything stays channels-last, so that nothing is transposed, and only the one mask that is asked for is computed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# above this number of tokens (5 of the decoder's own, and the prompts') the ordinary order is the cheaper one
MOST_TOKENS = 16


class FoldedMaskDecoder(nn.Module):
    """The single-mask path of a transformers SamMaskDecoder, whose weights it uses.

    Args:
        decoder: a transformers SamMaskDecoder.
        position: positional encoding of the embedding's grid, (1, C, e, e).
    """

    position: Tensor

    def __init__(self, decoder: nn.Module, position: Tensor) -> None:
        super().__init__()
        self.decoder: Any = decoder  # transformers is not typed
        self.side = position.shape[-1]
        self.register_buffer("position", position[0].flatten(1).t().contiguous(), persistent=False)

    def forward(self, image: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Decode one prompt set.

        Args:
            image: image embedding with the dense prompt added, (P, C), positions row by row.
            sparse: embedded points and box corners, (N, C).

        Returns:
            Logits (4e, 4e) and predicted IoU (1,).
        """
        decoder = self.decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight], dim=0)
        prompts = torch.cat([own, sparse], dim=0)
        tokens = prompts
        for layer in decoder.transformer.layers:
            tokens, image = self._layer(layer, tokens, image, prompts)
        final = decoder.transformer.final_attn_token_to_image
        tokens = tokens + tokens_look_at_image(final, tokens + prompts, image + self.position, image)
        tokens = decoder.transformer.layer_norm_final_attn(tokens)
        return self._mask(image, decoder.output_hypernetworks_mlps[0](tokens[1])), decoder.iou_prediction_head(tokens[0])[:1]

    def _layer(self, layer: Any, tokens: Tensor, image: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """One block of SAM's two-way transformer; (T, C) and (P, C), unchanged in shape."""
        own = tokens if layer.skip_first_layer_pe else tokens + prompts
        attended = layer.self_attn(query=own[None, None], key=own[None, None], value=tokens[None, None])[0][0, 0]
        tokens = layer.layer_norm1(attended if layer.skip_first_layer_pe else tokens + attended)
        placed = image + self.position
        tokens = layer.layer_norm2(tokens + tokens_look_at_image(layer.cross_attn_token_to_image, tokens + prompts, placed, image))
        tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
        image = layer.layer_norm4(image + image_looks_at_tokens(layer.cross_attn_image_to_token, placed, tokens + prompts, tokens))
        return tokens, image

    def _mask(self, image: Tensor, hyper: Tensor) -> Tensor:
        """(P, C) and the mask token's (C / 8,) to logits (4e, 4e)."""
        decoder = self.decoder
        first, second = decoder.upscale_conv1, decoder.upscale_conv2
        norm = decoder.upscale_layer_norm
        # a 2 x 2 transposed convolution of stride 2 is one linear layer with 4 results a position
        fine = _upscale(first, image).reshape(-1, first.out_channels)
        fine = decoder.activation(functional.layer_norm(fine, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        finest = decoder.activation(_upscale(second, fine)).reshape(-1, second.out_channels)
        logits: Tensor = (finest @ hyper).reshape(self.side, self.side, 2, 2, 2, 2)  # row, column, then halves: row, column, row, column
        return logits.permute(0, 2, 4, 1, 3, 5).reshape(4 * self.side, 4 * self.side)


def tokens_look_at_image(attention: Any, query: Tensor, placed: Tensor, image: Tensor) -> Tensor:
    """Cross attention of T tokens to P positions.

    Args:
        attention: a transformers SamAttention.
        query: (T, C).
        placed: (P, C), image with its positions: what the keys are made of.
        image: (P, C): what the values are made of.

    Returns:
        (T, C).
    """
    heads, width = attention.num_attention_heads, query.shape[1]
    asked = _heads(attention.q_proj(query), heads) * attention.scaling  # (heads, T, d)
    asked = asked @ attention.k_proj.weight.reshape(heads, -1, width)  # (heads, T, C)
    scores = asked.reshape(-1, width) @ placed.t()  # (heads * T, P)
    # a softmax whose division comes last: OpenVINO would make one attention of the ordinary form, and compute that on a single core
    share = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
    seen = (share @ image / share.sum(dim=-1, keepdim=True)).reshape(heads, -1, width)
    values = seen @ attention.v_proj.weight.reshape(heads, -1, width).transpose(1, 2)  # (heads, T, d)
    joined: Tensor = attention.out_proj(values.transpose(0, 1).reshape(-1, attention.internal_dim) + attention.v_proj.bias)
    return joined


def image_looks_at_tokens(attention: Any, placed: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Cross attention of P positions to T tokens.

    Args:
        attention: a transformers SamAttention.
        placed: (P, C).
        key, value: (T, C).

    Returns:
        (P, C).
    """
    heads, width = attention.num_attention_heads, placed.shape[1]
    keys = _heads(attention.k_proj(key), heads) * attention.scaling  # (heads, T, d)
    asking = keys @ attention.q_proj.weight.reshape(heads, -1, width)  # (heads, T, C)
    constant = keys @ attention.q_proj.bias.reshape(heads, -1, 1)  # (heads, T, 1)
    scores = functional.linear(placed, asking.reshape(-1, width), constant.reshape(-1))  # (P, heads * T)
    share = torch.softmax(scores.reshape(placed.shape[0], heads, -1), dim=-1).reshape(placed.shape[0], -1)
    values = _heads(attention.v_proj(value), heads)  # (heads, T, d)
    out = attention.out_proj.weight.t().reshape(heads, -1, width)  # (heads, d, C)
    joined: Tensor = share @ (values @ out).reshape(-1, width) + attention.out_proj.bias
    return joined


def _heads(x: Tensor, heads: int) -> Tensor:
    """(T, heads * d) to (heads, T, d)."""
    return x.reshape(x.shape[0], heads, -1).transpose(0, 1)


def _upscale(convolution: Any, x: Tensor) -> Tensor:
    """(N, inputs) to (N, 4 * outputs): the four outputs of a position lie row by row, each with its channels together."""
    weight = convolution.weight.permute(2, 3, 1, 0).reshape(-1, x.shape[1])  # (2 * 2 * outputs, inputs)
    return functional.linear(x, weight, convolution.bias.repeat(4))
