"""LoRA adapters on a base network, split into a shared and a local part.

The encoder's transformer blocks nearest the pixels carry the *shared* adapters: their down-projections A are frozen, with orthonormal
rows, the same at every site (`frozen_projection`), and only B is trained and sent. A module's weight change is then B A, linear in B:
averaging the B of several sites averages their models exactly. The adapters of the decoder's attention are shared in the same way where
`shared_decoder` says so. All others are *local*: both factors are trained, and they never leave the site. alpha equals the rank, so
PEFT's scaling is 1.

Nothing here takes a lock: `segmenter.Segmenter` and the tuning loop each own their network.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from sam_adapters import adapter_files
from sam_adapters.adapter_files import PEFT_PREFIX, Tensors
from sam_adapters.bases import base_skeleton
from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.errors import AdapterError, SettingError
from sam_adapters.frozen_projection import frozen_projection, starting_projection
from sam_adapters.schema import AdapterSchema, AdapterState, TensorSpec

_ADAPTER = "default"  # PEFT's name for a model's only adapter
_A_TOLERANCE = 1e-5  # frozen A of two machines agree up to float32 rounding


@dataclass(frozen=True)
class AdapterSettings:
    """Size and split of the adapters.

    Attributes:
        rank: LoRA rank r; alpha = r.
        shared_depth: fraction of encoder blocks, counted from the pixels, that is shared; at least one block is.
        shared_decoder: whether the decoder's attention is shared too.
    """

    rank: int = 8
    shared_depth: float = 1.0
    shared_decoder: bool = True

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise SettingError(f"LoRA rank {self.rank}, expected 1 or more.")
        if not 0 < self.shared_depth <= 1:
            raise SettingError(f"shared_depth {self.shared_depth}, expected above 0 and at most 1.")


@dataclass(frozen=True)
class AdaptedModule:
    """One linear layer that carries an adapter; `path` is its module path in the network."""

    path: str
    in_features: int
    out_features: int
    shared: bool

    @property
    def a_name(self) -> str:
        """Name of A (rank, in_features)."""
        return f"{self.path}.lora_A.weight"

    @property
    def b_name(self) -> str:
        """Name of B (out_features, rank)."""
        return f"{self.path}.lora_B.weight"


class AdaptedNetwork:
    """A base network with LoRA adapters attached in place; made by `attach_adapters`.

    Attributes:
        network: the network itself; `encode` and `decode` go through the adapters.
        peft_model: PEFT's wrapper around the same network.
        settings: size and split of the adapters.
        schema: layout of the shared part.
    """

    def __init__(
        self, network: PromptableNetwork, peft_model: PeftModel, settings: AdapterSettings, modules: tuple[AdaptedModule, ...], seed: int
    ) -> None:
        self.network = network
        self.peft_model = peft_model
        self.settings = settings
        self.schema = schema_of(network, modules, settings)
        self._modules = modules
        self._seed = seed
        self._factors = _factors(network, modules)
        self._trainable = [name for module in modules for name in _trained_names(module)]
        self._unmerged: dict[str, torch.Tensor] = {}
        for name, parameter in self._factors.items():
            parameter.requires_grad_(name in set(self._trainable))
        self.reset()

    def shared_state(self) -> AdapterState:
        """A copy of the shared part."""
        return AdapterState(self.schema, {spec.name: _to_numpy(self._factors[spec.name]) for spec in self.schema.tensors})

    def load_shared(self, state: AdapterState) -> None:
        """Replace the shared part.

        Raises:
            AdapterError: another schema, or values that are not finite.
        """
        if state.schema != self.schema:
            raise AdapterError(f"Shared adapter of schema {state.schema.id}, expected {self.schema.id}: other base, rank or depth.")
        adapter_files.check_finite(state.tensors)
        self._copy(state.tensors)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """The shared B, in schema order."""
        return {spec.name: self._factors[spec.name] for spec in self.schema.tensors}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What tuning trains: the shared B, and both factors of the local adapters."""
        return [self._factors[name] for name in self._trainable]

    def set_training(self, on: bool) -> None:
        """Training or evaluation mode; layers with running statistics stay frozen in both. Training mode unmerges."""
        if on:
            self.unmerge()
        self.peft_model.train(on)
        for module in self.network.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.eval()

    @property
    def merged(self) -> bool:
        """Whether the adapters are folded into the base's weights."""
        return bool(self._unmerged)

    def merge(self) -> None:
        """Fold the adapters into the base's weights: a quarter less time per slice on a CPU, and no gradients for the adapters.

        `load`, `load_shared` and `reset` keep working and leave the network merged.
        """
        if self.merged:
            return
        for module in self._modules:
            layer = self._lora_layer(module)
            self._unmerged[module.path] = layer.base_layer.weight.detach().clone()
            layer.merge()

    def unmerge(self) -> None:
        """Undo `merge`; the base's weights are then exactly what they were, without rounding left behind."""
        for module in self._modules:
            if module.path in self._unmerged:
                layer = self._lora_layer(module)
                layer.unmerge()
                with torch.no_grad():
                    layer.base_layer.weight.copy_(self._unmerged.pop(module.path))

    def reset(self) -> None:
        """Back to the start: every B is 0, so the network computes exactly what the base does."""
        self._copy(initial_tensors(self.schema.base, self._modules, self.settings, self._seed))

    def save(self, folder: Path) -> None:
        """Write a standard PEFT folder: adapter_config.json and adapter_model.safetensors, with bytes that depend on the adapter alone.

        Raises:
            AdapterError: a value is not finite.
        """
        tensors = {PEFT_PREFIX + name: _to_numpy(parameter) for name, parameter in self._factors.items()}
        adapter_files.write_adapter(folder, peft_settings(self.network, self.settings, self._modules), tensors, self.schema)

    def load(self, folder: Path) -> None:
        """Take over an adapter version, in place: the network then computes what it computed when the version was saved.

        On an error nothing has changed.

        Raises:
            AdapterError: the folder holds no adapter of this base and layout, or values that are not finite.
        """
        adapter_files.check_schema(adapter_files.read_schema(folder), self.schema, folder)
        config = adapter_files.read_config(folder)
        for key, expected in peft_settings(self.network, self.settings, self._modules).items():
            if config.get(key) != expected and key != "base_model_name_or_path":  # the schema holds the base's sha256
                raise AdapterError(f"{folder}: {key} is {config.get(key)!r}, expected {expected!r}.")
        tensors = {key.removeprefix(PEFT_PREFIX): array for key, array in adapter_files.read_tensors(folder).items()}
        self._check_tensors(tensors, folder)
        self._copy(tensors)

    def _check_tensors(self, tensors: Tensors, folder: Path) -> None:
        if set(tensors) != set(self._factors):
            odd = sorted(set(tensors) ^ set(self._factors))
            raise AdapterError(f"{folder} holds other tensors than this network's adapters, for one {odd[0]}.")
        for name, array in tensors.items():
            if array.shape != tuple(self._factors[name].shape):
                raise AdapterError(f"{folder}: {name} is {list(array.shape)}, expected {list(self._factors[name].shape)}.")
        for module in self._modules:
            if not module.shared:
                continue
            frozen = frozen_projection(self.schema.base, module.path, self.settings.rank, module.in_features)
            if not np.allclose(tensors[module.a_name], frozen, rtol=0, atol=_A_TOLERANCE):
                raise AdapterError(f"{folder}: {module.a_name} is not the frozen projection, so its B cannot be averaged with others.")

    def _copy(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        merged = self.merged
        self.unmerge()
        with torch.no_grad():
            for name, array in tensors.items():
                # a copy: the array may be read-only, which torch.from_numpy warns of
                self._factors[name].copy_(torch.from_numpy(np.array(array, np.float32)))
        if merged:
            self.merge()

    def _lora_layer(self, module: AdaptedModule) -> Any:
        """PEFT's layer in a module's place."""
        return self.network.get_submodule(module.path)


def attach_adapters(network: PromptableNetwork, settings: AdapterSettings | None = None, *, seed: int = 0) -> AdaptedNetwork:
    """Attach adapters to a network, in place. They start at B = 0: the network still computes what it did.

    Args:
        seed: draws where the local A start; the shared A do not depend on it.

    Raises:
        SettingError: the rank exceeds the inputs of a module.
        AdapterError: the network carries adapters already.
    """
    settings = settings or AdapterSettings()
    modules = adapted_modules(network, settings)
    values = peft_settings(network, settings, modules)
    base = values.pop("base_model_name_or_path")  # PEFT would replace it with a guess, and say so
    config = LoraConfig(**{key: value for key, value in values.items() if key not in ("peft_type", "inference_mode")})
    peft_model = get_peft_model(network, config)
    config.base_model_name_or_path = base
    return AdaptedNetwork(network, peft_model, settings, modules, seed)


def adapter_schema(spec: str, settings: AdapterSettings | None = None, image_size: int | None = None) -> AdapterSchema:
    """The layout of the shared adapters on a base, without loading its weights. It does not depend on the image size.

    Raises:
        SettingError, BaseModelError: as `bases.load_base`.
    """
    settings = settings or AdapterSettings()
    network = base_skeleton(spec, image_size=image_size)
    return schema_of(network, adapted_modules(network, settings), settings)


def shared_block_count(blocks: int, shared_depth: float) -> int:
    """Number of shared blocks: shared_depth * blocks rounded half up, at least 1."""
    return max(1, math.floor(shared_depth * blocks + 0.5))


def adapted_modules(network: PromptableNetwork, settings: AdapterSettings) -> tuple[AdaptedModule, ...]:
    """The linear layers that carry adapters: encoder blocks from the pixels on, then the decoder's attention.

    Raises:
        AdapterError: the network carries adapters already.
    """
    shared = set(network.blocks[: shared_block_count(len(network.blocks), settings.shared_depth)])
    found: list[AdaptedModule] = []
    for block in network.blocks:
        inside = dict(network.get_submodule(block).named_modules())
        for target in network.encoder_targets:
            paths = [path for path in inside if path.split(".")[-1] == target]
            found += [_module(f"{block}.{path}", inside[path], shared=block in shared) for path in paths]
    found += [_module(path, network.get_submodule(path), shared=settings.shared_decoder) for path in network.decoder_attention]
    return tuple(found)


def schema_of(network: PromptableNetwork, modules: tuple[AdaptedModule, ...], settings: AdapterSettings) -> AdapterSchema:
    """The layout of the shared part: the B of the shared modules, in their order."""
    tensors = tuple(TensorSpec(module.b_name, (module.out_features, settings.rank)) for module in modules if module.shared)
    return AdapterSchema(network.sha256, settings.rank, settings.shared_depth, tensors, settings.shared_decoder)


def initial_tensors(base_sha256: str, modules: tuple[AdaptedModule, ...], settings: AdapterSettings, seed: int) -> Tensors:
    """Where the adapters start: shared A frozen and orthonormal, local A drawn from `seed`, every B zero.

    Raises:
        SettingError: the rank exceeds the inputs of a shared module.
    """
    tensors: Tensors = {}
    for module in modules:
        tensors[module.a_name] = (
            frozen_projection(base_sha256, module.path, settings.rank, module.in_features)
            if module.shared
            else starting_projection(seed, module.path, settings.rank, module.in_features)
        )
        tensors[module.b_name] = np.zeros((module.out_features, settings.rank), np.float32)
    return tensors


def peft_settings(network: PromptableNetwork, settings: AdapterSettings, modules: tuple[AdaptedModule, ...]) -> dict[str, Any]:
    """PEFT's LoRA configuration as it stands in adapter_config.json, for `peft.PeftModel.from_pretrained` on a fresh base."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": f"{network.name}@sha256:{network.sha256}",
        "r": settings.rank,
        "lora_alpha": settings.rank,
        "lora_dropout": 0.0,
        # PEFT shortens long lists of names as it sees fit; a pattern it leaves alone
        "target_modules": "|".join(re.escape(module.path) for module in modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _module(path: str, layer: nn.Module, *, shared: bool) -> AdaptedModule:
    if not isinstance(layer, nn.Linear):
        raise AdapterError(f"{path} is a {type(layer).__name__}, expected a plain linear layer: adapters are attached to a network once.")
    return AdaptedModule(path, layer.in_features, layer.out_features, shared)


def _factors(network: PromptableNetwork, modules: tuple[AdaptedModule, ...]) -> dict[str, nn.Parameter]:
    """PEFT's A and B by our names."""
    factors: dict[str, nn.Parameter] = {}
    for module in modules:
        layer = network.get_submodule(module.path)
        factors[module.a_name] = layer.get_submodule(f"lora_A.{_ADAPTER}").get_parameter("weight")
        factors[module.b_name] = layer.get_submodule(f"lora_B.{_ADAPTER}").get_parameter("weight")
    return factors


def _trained_names(module: AdaptedModule) -> tuple[str, ...]:
    return (module.b_name,) if module.shared else (module.a_name, module.b_name)


def _to_numpy(parameter: nn.Parameter) -> NDArray[np.float32]:
    array: NDArray[np.float32] = parameter.detach().to("cpu", torch.float32).numpy().copy()
    return array
