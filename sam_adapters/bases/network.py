"""What every base network offers: one interface, so that adapters, tuning and serving do not care which network they hold.

Networks are plain `nn.Module`s without locks of their own: `segmenter.Segmenter` serialises the calls of several threads.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from sam_adapters.bases.sam_decoder import decode_prompt_group, group_by_points
from sam_adapters.errors import PromptError

EMBEDDING_CHANNELS = 256


class PromptableNetwork(nn.Module, ABC):
    """A frozen promptable segmentation network: an encoder that sees the image once, a decoder that answers prompts.

    B is the batch size, S = `image_size` the side of the square input in pixels, e = `embedding_size` the side of the embedding,
    m = 4 e the side of the decoder's own (low-resolution) masks. All weights are frozen and the network is in evaluation mode.

    Attributes:
        name: the base's name, free of paths of this machine, e.g. `litemedsam`.
        sha256: sha256 (hex) of the weights file(s).
        image_size: S.
        embedding_size: e.
        blocks: module paths of the encoder's transformer blocks, from the pixels on.
        encoder_targets: names of the linear layers inside a block that get adapters.
        decoder_attention: module paths of the decoder's attention projections.
    """

    name: str
    sha256: str
    image_size: int
    embedding_size: int
    blocks: tuple[str, ...]
    encoder_targets: tuple[str, ...]
    decoder_attention: tuple[str, ...]

    @abstractmethod
    def encode_stem(self, pixels: Tensor) -> Tensor:
        """Everything before the first transformer block, where no adapter is attached: nothing here depends on the adapters.

        Args:
            pixels: (B, 3, S, S), 0..1.

        Returns:
            The input of `encode_from_stem`, batch first; its other dimensions are the base's own affair.
        """

    @abstractmethod
    def encode_from_stem(self, stem: Tensor) -> Tensor:
        """The rest of the encoder: `encode_stem`'s result to the embedding (B, 256, e, e)."""

    @property
    @abstractmethod
    def prompt_modules(self) -> tuple[nn.Module, nn.Module]:
        """The prompt encoder and the mask decoder, with the interface of transformers' SamPromptEncoder and SamMaskDecoder."""

    @property
    @abstractmethod
    def dense_position(self) -> Tensor:
        """Positional encoding of the embedding's grid: (1, 256, e, e)."""

    def encode(self, pixels: Tensor) -> Tensor:
        """Image embedding.

        Args:
            pixels: (B, 3, S, S), 0..1, as `preprocess.prepare_slice` makes them.

        Returns:
            (B, 256, e, e).
        """
        return self.encode_from_stem(self.encode_stem(pixels))

    def inference_encoder(self) -> nn.Module:
        """The encoder as an inference engine computes it best: pixels (B, 3, S, S) to positions (B, e * e, 256), row by row.

        Its numbers are those of `encode` (rounding apart); it shares the network's weights. For networks whose adapters are merged.
        """
        return _PositionsFirst(self)

    def decode(
        self,
        embedding: Tensor,
        *,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks for prompts; differentiable. Any prompts may be absent; without any the network segments automatically.

        Coordinates are pixel indices of the S x S input (x right, y down; a pixel's centre has whole coordinates).

        Args:
            embedding: (B, 256, e, e).
            points: (B, N, 2) x and y, with `labels`.
            labels: (B, N): 1 on the target, 0 beside it, -1 padding. A padded row gives exactly what it gives alone, unpadded:
                padding never reaches the network.
            boxes: (B, 4) x0, y0, x1, y1, inclusive.
            masks: (B, 1, m, m) logits of an earlier answer.

        Returns:
            Logits (B, 1, m, m) and predicted IoU (B, 1). Above 0 is target. `upscale` brings the logits to the input's size.

        Raises:
            PromptError: points without labels, or shapes that do not fit the embedding's batch.
        """
        self._check_prompts(embedding, points, labels, boxes, masks)
        if points is None or labels is None:
            return self._decode_group(embedding, None, None, boxes, masks)
        groups = group_by_points(points, labels)
        if len(groups) == 1:
            group = groups[0]
            return self._decode_group(embedding, group.points, group.labels, boxes, masks)
        parts = [
            self._decode_group(
                embedding[group.rows],
                group.points,
                group.labels,
                None if boxes is None else boxes[group.rows],
                None if masks is None else masks[group.rows],
            )
            for group in groups
        ]
        order = torch.argsort(torch.cat([group.rows for group in groups]))
        return torch.cat([logits for logits, _ in parts])[order], torch.cat([iou for _, iou in parts])[order]

    def upscale(self, low_res: Tensor) -> Tensor:
        """Bilinear: decoder masks (B, 1, m, m) to the input's size (B, 1, S, S)."""
        if low_res.shape[-1] == self.image_size:
            return low_res
        return functional.interpolate(low_res, (self.image_size, self.image_size), mode="bilinear", align_corners=False)

    def _decode_group(
        self, embedding: Tensor, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        prompt_encoder, mask_decoder = self.prompt_modules
        return decode_prompt_group(prompt_encoder, mask_decoder, embedding, self.dense_position, points, labels, boxes, masks)

    def _check_prompts(
        self, embedding: Tensor, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None, masks: Tensor | None
    ) -> None:
        batch, side = embedding.shape[0], 4 * self.embedding_size
        if (points is None) != (labels is None):
            raise PromptError("Points need labels, and labels need points: one of the two is missing.")
        if points is not None and labels is not None and (points.shape != (*labels.shape, 2) or labels.shape[0] != batch):
            raise PromptError(
                f"Points {list(points.shape)} with labels {list(labels.shape)}, expected [{batch}, N, 2] and [{batch}, N], one row a slice."
            )
        if boxes is not None and boxes.shape != (batch, 4):
            raise PromptError(f"Boxes of shape {list(boxes.shape)}, expected [{batch}, 4]: x0, y0, x1, y1 for every slice.")
        if masks is not None and masks.shape != (batch, 1, side, side):
            raise PromptError(
                f"Previous masks of shape {list(masks.shape)}, expected [{batch}, 1, {side}, {side}]: pass the low-resolution logits on."
            )


class _PositionsFirst(nn.Module):
    """A network's plain encoder, with its embedding's channels last."""

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.encode(pixels).flatten(2).transpose(1, 2)
