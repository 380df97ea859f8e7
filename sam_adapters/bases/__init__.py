"""The base networks, by name. Adding one means adding one file here and one line below.

A base is named by a *spec*: `litemedsam`, or `sam:<folder or hub id>` for anything that `transformers.SamModel` loads.
"""

from sam_adapters.bases.litemedsam_weights import NAME, SHA256
from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.errors import SettingError

__all__ = ["PromptableNetwork", "base_sha256", "base_skeleton", "load_base"]

SAM_PREFIX = "sam:"


def load_base(spec: str, *, image_size: int | None = None) -> PromptableNetwork:
    """Load a base network: on the CPU, weights frozen, evaluation mode.

    Args:
        spec: `litemedsam` or `sam:<folder or hub id>`.
        image_size: side of the square input in pixels, a multiple of 8 from 56 to 1024 (for `sam:` of 32 and of
            its patches, from 64); None takes the base's own.

    Raises:
        SettingError: an unknown base or an unusable image size.
        BaseModelError: the weights are missing, altered or do not fit.
    """
    if spec.startswith(SAM_PREFIX):
        from sam_adapters.bases import sam_hf

        return sam_hf.load(spec.removeprefix(SAM_PREFIX), image_size)
    _check(spec)
    from sam_adapters.bases import litemedsam

    return litemedsam.load(image_size)


def base_skeleton(spec: str, *, image_size: int | None = None) -> PromptableNetwork:
    """The structure of a base without its weights (on torch's meta device), quickly. Raises as `load_base` does."""
    if spec.startswith(SAM_PREFIX):
        from sam_adapters.bases import sam_hf

        return sam_hf.skeleton(spec.removeprefix(SAM_PREFIX), image_size)
    _check(spec)
    from sam_adapters.bases import litemedsam

    return litemedsam.skeleton(image_size)


def base_sha256(spec: str) -> str:
    """sha256 (hex) that names the weights of a base. Raises as `load_base` does.

    For `litemedsam` it is known beforehand (and checked at loading); for `sam:` it is computed once per file and process.
    """
    if spec.startswith(SAM_PREFIX):
        from sam_adapters.bases import sam_hf

        return sam_hf.weights_sha256(spec.removeprefix(SAM_PREFIX))
    _check(spec)
    return SHA256


def _check(spec: str) -> None:
    if spec != NAME:
        raise SettingError(f"Unknown base {spec!r}: expected {NAME} or sam:<folder or hub id>.")
