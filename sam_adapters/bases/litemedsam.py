"""Base `litemedsam`: the LiteMedSAM network, with the weights that `litemedsam_weights` finds and checks."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers.models.sam.configuration_sam import SamConfig, SamMaskDecoderConfig, SamPromptEncoderConfig
from transformers.models.sam.modeling_sam import SamMaskDecoder, SamPromptEncoder

from sam_adapters.bases import tiny_vit
from sam_adapters.bases.litemedsam_weights import NAME, SHA256, read_weights, weights_file
from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.bases.sam_decoder import dense_position_encoding
from sam_adapters.bases.tiny_vit_inference import TinyViTInference
from sam_adapters.errors import BaseModelError, SettingError

DEFAULT_IMAGE_SIZE = 256
_ATTENTIONS = [
    *(f"layers.{layer}.{name}" for layer in (0, 1) for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")),
    "final_attn_token_to_image",
]
# checkpoint's names -> transformers' names, applied in turn
_RENAMES = [
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2\.", r"\1.proj_out."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1\.", r"\1.layers.0."),
]


class LiteMedSam(PromptableNetwork):
    """LiteMedSAM: TinyViT encoder of our own, transformers' SAM prompt encoder and mask decoder."""

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.name = NAME
        self.sha256 = SHA256
        self.image_size = image_size
        self.embedding_size = image_size // tiny_vit.STRIDE
        self.blocks = tuple(f"image_encoder.{path}" for path in tiny_vit.block_paths())
        self.encoder_targets = ("qkv", "proj", "fc1", "fc2")
        self.decoder_attention = tuple(
            f"mask_decoder.transformer.{attention}.{projection}"
            for attention in _ATTENTIONS
            for projection in ("q_proj", "k_proj", "v_proj", "out_proj")
        )
        decoder = SamMaskDecoderConfig(layer_norm_eps=1e-5)
        decoder._attn_implementation = "sdpa"
        self.image_encoder = tiny_vit.TinyViT()
        self.prompt_encoder = SamPromptEncoder(
            SamConfig(prompt_encoder_config=SamPromptEncoderConfig(image_size=image_size, patch_size=tiny_vit.STRIDE))
        )
        self.mask_decoder = SamMaskDecoder(decoder)
        self.register_buffer("_dense_position", None, persistent=False)

    def encode_stem(self, pixels: Tensor) -> Tensor:
        return self.image_encoder.stem(pixels)

    def encode_from_stem(self, stem: Tensor) -> Tensor:
        return self.image_encoder.body(stem)

    def inference_encoder(self) -> nn.Module:
        return TinyViTInference(self.image_encoder).eval()

    @property
    def prompt_modules(self) -> tuple[nn.Module, nn.Module]:
        return self.prompt_encoder, self.mask_decoder

    @property
    def dense_position(self) -> Tensor:
        if not isinstance(self._dense_position, Tensor):
            raise BaseModelError("This LiteMedSAM is a skeleton without weights: load it with load_base().")
        return self._dense_position

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Take over a LiteMedSAM checkpoint, every tensor of it and nothing else.

        Raises:
            BaseModelError: names or shapes differ.
        """
        try:
            self.load_state_dict({renamed(key): value for key, value in weights.items()}, strict=True, assign=True)
        except RuntimeError as error:
            raise BaseModelError(f"These are not LiteMedSAM's weights: {error}") from error
        self._dense_position = dense_position_encoding(self.prompt_encoder.shared_embedding, self.embedding_size)


def renamed(key: str) -> str:
    """The name in our network of a tensor of LiteMedSAM's checkpoint."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def skeleton(image_size: int | None = None) -> LiteMedSam:
    """The network without weights (on torch's meta device): its structure, for next to nothing.

    Raises:
        SettingError: image_size is not a multiple of 8 from 56 to 1024.
    """
    size = DEFAULT_IMAGE_SIZE if image_size is None else image_size
    if size % 8 or not 56 <= size <= 1024:
        raise SettingError(f"image_size is {size}, expected a multiple of 8 from 56 to 1024.")
    with torch.device("meta"):
        return LiteMedSam(size)


def load(image_size: int | None = None) -> LiteMedSam:
    """The network with its weights, on the CPU, frozen.

    Raises:
        BaseModelError: the weights file is missing or is not the known one.
        SettingError: image_size cannot be used.
    """
    network = skeleton(image_size)
    network.load_weights(read_weights(weights_file()))
    return network.requires_grad_(False).eval()
