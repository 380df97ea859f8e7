"""Base `sam:<folder or hub id>`: anything that transformers' SamModel loads, such as SAM and MedSAM ViT-B.

Weights are read from safetensors files only. A base that lies in a folder is named after the folder, never by its path on this machine.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.sam.configuration_sam import SamConfig
from transformers.models.sam.modeling_sam import SamModel

from sam_adapters.bases.network import EMBEDDING_CHANNELS, PromptableNetwork
from sam_adapters.bases.sam_decoder import dense_position_encoding
from sam_adapters.errors import BaseModelError, SettingError

_CONFIG_FILE = "config.json"
_PREPROCESSOR_FILE = "preprocessor_config.json"
# SAM's own, on pixels in 0..1; used where the checkpoint brings no preprocessor_config.json
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class HuggingFaceSam(PromptableNetwork):
    """A SamModel at a chosen input size.

    At another size than the checkpoint's own, absolute position embeddings are resampled; the relative ones of global attention are
    interpolated by transformers at every call.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self, config: SamConfig, *, name: str, sha256: str, image_size: int, normalisation: tuple[list[float], list[float]]
    ) -> None:
        super().__init__()
        vision = config.vision_config
        self.name = name
        self.sha256 = sha256
        self.image_size = image_size
        self.embedding_size = image_size // vision.patch_size
        self.blocks = tuple(f"sam.vision_encoder.layers.{layer}" for layer in range(vision.num_hidden_layers))
        self.encoder_targets = ("qkv", "proj", "lin1", "lin2")
        self.decoder_attention = _decoder_attention(config.mask_decoder_config.num_hidden_layers)
        self.sam = SamModel(config)
        mean, std = normalisation
        self.register_buffer("_mean", torch.tensor(mean, device="cpu").view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(std, device="cpu").view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_dense_position", None, persistent=False)

    def encode_stem(self, pixels: Tensor) -> Tensor:
        encoder = self.sam.vision_encoder
        patches: Tensor = encoder.patch_embed((pixels - self._mean) / self._std)
        return patches if encoder.pos_embed is None else patches + encoder.pos_embed

    def encode_from_stem(self, stem: Tensor) -> Tensor:
        encoder = self.sam.vision_encoder
        for layer in encoder.layers:
            stem = layer(stem)
        embedding: Tensor = encoder.neck(stem)
        return embedding

    @property
    def prompt_modules(self) -> tuple[nn.Module, nn.Module]:
        return self.sam.prompt_encoder, self.sam.mask_decoder

    @property
    def dense_position(self) -> Tensor:
        if not isinstance(self._dense_position, Tensor):
            raise BaseModelError("This SAM is a skeleton without weights: load it with load_base().")
        return self._dense_position

    def load_weights(self, folder: Path) -> None:
        """Take over the weights in `folder` and fit them to the input size.

        Raises:
            BaseModelError: they cannot be read or do not fit the configuration.
        """
        try:
            self.sam, report = SamModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise BaseModelError(f"The SAM weights in {folder} cannot be loaded: {error}") from error
        odd = {key: sorted(map(str, report.get(key, ()))) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
        if any(odd.values()):
            raise BaseModelError(f"The SAM weights in {folder} do not fit its {_CONFIG_FILE}: {odd}.")
        self._fit_to_image_size()

    def _fit_to_image_size(self) -> None:
        encoder, prompt_encoder = self.sam.vision_encoder, self.sam.prompt_encoder
        size = (self.embedding_size, self.embedding_size)
        encoder.patch_embed.image_size = (self.image_size, self.image_size)
        prompt_encoder.input_image_size = self.image_size
        prompt_encoder.image_embedding_size = size
        if encoder.pos_embed is not None and encoder.pos_embed.shape[1:3] != size:
            grid = encoder.pos_embed.detach().permute(0, 3, 1, 2)
            resampled = functional.interpolate(grid, size, mode="bicubic", align_corners=False, antialias=True)
            encoder.pos_embed = nn.Parameter(resampled.permute(0, 2, 3, 1).contiguous())
        self._dense_position = dense_position_encoding(prompt_encoder.shared_embedding, self.embedding_size)


def skeleton(location: str, image_size: int | None = None) -> HuggingFaceSam:
    """The network without weights (on torch's meta device). Raises as `load`."""
    folder = resolve(location)
    config = _read_config(folder)
    size = _checked_size(config, image_size)
    with torch.device("meta"):
        return HuggingFaceSam(
            config, name=_name(location), sha256=weights_sha256(location), image_size=size, normalisation=_normalisation(folder)
        )


def load(location: str, image_size: int | None = None) -> HuggingFaceSam:
    """The network with its weights, on the CPU, frozen.

    Args:
        location: a folder with config.json and safetensors weights, or an id on the Hugging Face hub.
        image_size: side of the input; None takes the configuration's own.

    Raises:
        BaseModelError: the checkpoint is missing, incomplete, or not a SAM with embeddings of 256 channels.
        SettingError: image_size cannot be used.
    """
    network = skeleton(location, image_size)
    network.load_weights(resolve(location))
    return network.requires_grad_(False).eval()


def resolve(location: str) -> Path:
    """The folder of a checkpoint; one named by hub id is downloaded once, then taken from the hub's local cache.

    Raises:
        BaseModelError: there is no such folder and no such checkpoint.
    """
    folder = Path(location).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if folder.is_absolute() or location.startswith(".") or location.count("/") != 1:
        raise BaseModelError(f"Base sam:{location}: there is no such folder, and it is not a hub id (owner/name).")
    return _hub_folder(location)


def weights_sha256(location: str) -> str:
    """sha256 (hex) of the weights file; of several shards, the sha256 over their names and sha256s.

    Computed once per process and file as long as size and time of change stay the same.

    Raises:
        BaseModelError: no safetensors weights.
    """
    folder = resolve(location)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BaseModelError(f"{folder} has no safetensors weights: save the model with save_pretrained(), which writes them.")
    sums = [(path.name, _file_sha256(path.resolve(), path.stat().st_size, path.stat().st_mtime_ns)) for path in files]
    if len(sums) == 1:
        return sums[0][1]
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in sums).encode()).hexdigest()


@functools.lru_cache(maxsize=8)
def _hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [_CONFIG_FILE, _PREPROCESSOR_FILE, "*.safetensors", "*.safetensors.index.json"]
    try:
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise BaseModelError(
            f"Base sam:{repository} is neither a folder nor on the hub ({error}). Download it and name its folder."
        ) from error


@functools.lru_cache(maxsize=32)
def _file_sha256(path: Path, size: int, changed_ns: int) -> str:
    """`size` and `changed_ns` are there to tell a file that was replaced from the one seen before."""
    del size, changed_ns
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_config(folder: Path) -> SamConfig:
    if not (folder / _CONFIG_FILE).is_file():  # transformers would quietly take its defaults
        raise BaseModelError(f"{folder} has no {_CONFIG_FILE}: it is not a SAM checkpoint.")
    try:
        config = SamConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{folder} has an unusable {_CONFIG_FILE}: {error}") from error
    if config.model_type != "sam" or config.vision_config.output_channels != EMBEDDING_CHANNELS:
        raise BaseModelError(
            f"{folder} holds a {config.model_type} with {config.vision_config.output_channels} embedding channels, "
            f"expected sam with {EMBEDDING_CHANNELS}."
        )
    # what SamModel.from_pretrained would choose
    config._attn_implementation = "sdpa"
    return config


def _checked_size(config: SamConfig, image_size: int | None) -> int:
    size, patch = int(config.vision_config.image_size) if image_size is None else image_size, int(config.vision_config.patch_size)
    if size % 32 or size % patch or not 64 <= size <= 1024:
        raise SettingError(f"image_size is {size}, expected a multiple of 32 and of this base's patches ({patch}) from 64 to 1024.")
    return size


def _normalisation(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel that the checkpoint's preprocessing takes pixels in 0..1 by."""
    path = folder / _PREPROCESSOR_FILE
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise BaseModelError(f"{path} is not JSON: {error}.") from error
    if not value.get("do_normalize", True):
        return [0.0] * 3, [1.0] * 3
    mean, std = (list(map(float, value.get(key, default))) for key, default in (("image_mean", _MEAN), ("image_std", _STD)))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise BaseModelError(f"{path} has mean {mean} and std {std}, expected three numbers each, std above 0.")
    return mean, std


def _name(location: str) -> str:
    folder = Path(location).expanduser()
    return f"sam:{folder.resolve().name if folder.is_dir() else location}"


def _decoder_attention(layers: int) -> tuple[str, ...]:
    attentions = [
        f"layers.{layer}.{name}"
        for layer in range(layers)
        for name in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token")
    ]
    return tuple(
        f"sam.mask_decoder.transformer.{attention}.{projection}"
        for attention in [*attentions, "final_attn_token_to_image"]
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj")
    )
