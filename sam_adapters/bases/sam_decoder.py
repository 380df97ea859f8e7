"""Calling transformers' SamPromptEncoder and SamMaskDecoder for a batch of slices with one prompt set each. Pure functions."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PointGroup:
    """Rows of a batch that have the same number n of real points; `points` (R, n, 2) and `labels` (R, n) are None where n = 0."""

    rows: Tensor
    points: Tensor | None
    labels: Tensor | None


def group_by_points(points: Tensor, labels: Tensor) -> list[PointGroup]:
    """Split padded points (B, N, 2) with labels (B, N) into groups of rows that need no padding.

    Neither of SAM's two paddings is neutral: label -1 becomes a learned token, label -10 a zero token that still takes its share of
    every attention. So rows with different numbers of points cannot go through the decoder together and stay what they are alone.
    """
    real = labels >= 0
    counts = real.sum(dim=1)
    groups = []
    for count in torch.unique(counts).tolist():
        rows = torch.nonzero(counts == count).flatten()
        if count == 0:
            groups.append(PointGroup(rows, None, None))
            continue
        chosen = real[rows]
        groups.append(PointGroup(rows, points[rows][chosen].view(len(rows), count, 2), labels[rows][chosen].view(len(rows), count)))
    return groups


def decode_prompt_group(
    prompt_encoder: nn.Module,
    mask_decoder: nn.Module,
    embedding: Tensor,
    dense_position: Tensor,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """One mask for each of B slices with the same kinds and numbers of prompts.

    Args:
        embedding: (B, 256, e, e).
        dense_position: (1, 256, e, e).
        points: (B, N, 2), labels: (B, N) of 1 and 0, boxes: (B, 4), masks: (B, 1, 4e, 4e); each may be None.

    Returns:
        Logits (B, 1, 4e, 4e) and predicted IoU (B, 1), float32.
    """
    # coordinates turn into phases of many turns, which bfloat16 cannot tell apart: never under autocast
    with torch.autocast(embedding.device.type, enabled=False):
        # transformers' second dimension counts prompt sets of one image; here it is always 1
        sparse, dense = prompt_encoder(
            input_points=None if points is None else points.float().unsqueeze(1),
            input_labels=None if labels is None else labels.unsqueeze(1),
            input_boxes=None if boxes is None else boxes.float().unsqueeze(1),
            input_masks=None if masks is None else masks.float(),
        )
    logits, iou = mask_decoder(
        image_embeddings=embedding,
        image_positional_embeddings=dense_position.expand(embedding.shape[0], -1, -1, -1),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[:, 0].float(), iou[:, 0].float()


def dense_position_encoding(positional_embedding: nn.Module, size: int) -> Tensor:
    """Positional encoding of a size x size grid of cell centres: (1, 256, size, size).

    Args:
        positional_embedding: transformers' SamPositionalEmbedding, which takes x and y in 0..1.
    """
    centres = (torch.arange(size, dtype=torch.float32) + 0.5) / size
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    with torch.no_grad():
        encoded: Tensor = positional_embedding(torch.stack([x, y], dim=-1))
    return encoded.permute(2, 0, 1).unsqueeze(0).contiguous()
