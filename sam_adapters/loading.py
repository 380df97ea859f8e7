"""From a site's settings to a segmenter, and to the adapter that everything starts from."""

from pathlib import Path

import torch

from sam_adapters import adapter_files
from sam_adapters.adapter_files import PEFT_PREFIX
from sam_adapters.adapters import (
    AdaptedNetwork,
    AdapterSettings,
    adapted_modules,
    attach_adapters,
    initial_tensors,
    peft_settings,
    schema_of,
)
from sam_adapters.bases import base_skeleton, load_base
from sam_adapters.embedding_cache import EmbeddingCache
from sam_adapters.schema import AdapterSchema
from sam_adapters.segmenter import Segmenter, Turns
from sam_adapters.settings import SiteSettings


def adapter_settings(settings: SiteSettings) -> AdapterSettings:
    """The adapter part of a site's settings."""
    return AdapterSettings(settings.rank, settings.shared_depth, settings.shared_decoder)


def load_adapted(settings: SiteSettings, adapter_folder: Path | None = None) -> AdaptedNetwork:
    """The site's base with an adapter version, or untuned where `adapter_folder` is None; on the CPU.

    Sets torch's CPU threads if the site's settings do.

    Raises:
        SettingError, BaseModelError: as `bases.load_base`.
        AdapterError: as `AdaptedNetwork.load`.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    adapted = attach_adapters(load_base(settings.base, image_size=settings.image_size), adapter_settings(settings), seed=settings.seed)
    if adapter_folder is not None:
        adapted.load(adapter_folder)
    return adapted


def load_segmenter(
    settings: SiteSettings, adapter_folder: Path | None, version: str, cache: EmbeddingCache | None = None, turns: Turns | None = None
) -> Segmenter:
    """A segmenter that serves one adapter version; the version is folded into the base's weights, which makes a click quicker.

    Args:
        adapter_folder: the version's folder; None for the untuned base.
        version: the version's id, or `base`.
        turns: locks shared with the machine's other segmenters.

    Raises:
        SettingError, BaseModelError, AdapterError: as `load_adapted` and `Segmenter`.
    """
    adapted = load_adapted(settings, adapter_folder)
    adapted.merge()
    return Segmenter(adapted, version=version, device=settings.device, cache=cache, bf16=settings.bf16, turns=turns)


def site_schema(settings: SiteSettings) -> AdapterSchema:
    """The layout of the site's shared adapters, without loading the base's weights. Raises as `bases.load_base`."""
    network = base_skeleton(settings.base, image_size=settings.image_size)
    chosen = adapter_settings(settings)
    return schema_of(network, adapted_modules(network, chosen), chosen)


def write_untuned(settings: SiteSettings, folder: Path) -> AdapterSchema:
    """Write the adapter that every tuning starts from (B = 0: exactly the base), without loading the base's weights.

    It is what `adapter_files.write_mixture` takes as parent at a site that has no version of its own yet.

    Returns:
        The schema that it was written under.

    Raises:
        SettingError, BaseModelError: as `bases.load_base`.
    """
    network = base_skeleton(settings.base, image_size=settings.image_size)
    chosen = adapter_settings(settings)
    modules = adapted_modules(network, chosen)
    schema = schema_of(network, modules, chosen)
    tensors = initial_tensors(schema.base, modules, chosen, settings.seed)
    config = peft_settings(network, chosen, modules)
    adapter_files.write_adapter(folder, config, {PEFT_PREFIX + name: array for name, array in tensors.items()}, schema)
    return schema
