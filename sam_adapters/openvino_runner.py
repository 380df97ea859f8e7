"""The network through OpenVINO: on a CPU several times quicker than eager PyTorch.

OpenVINO is optional. Its wheel reports its own import to its makers if the package `openvino_telemetry` is beside it; that package is
deliberately not installed, and is kept from being imported here should somebody install it.

Threads: a runner is made in one thread and may then be used from others; encode and decode may overlap, and `interrupt` may come from any.
"""

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sam_adapters.bases.network import PromptableNetwork
from sam_adapters.errors import EncodeInterruptedError, SettingError
from sam_adapters.folded_decoder import MOST_TOKENS, FoldedMaskDecoder
from sam_adapters.prompt_decoding import NetworkPrompts, decode_prompts
from sam_adapters.runner import BATCH_CPU, FEATURES_DTYPE

Precision = Literal["float32", "bfloat16"]
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def openvino_installed() -> bool:
    """Whether OpenVINO can be imported; it is not imported here."""
    return importlib.util.find_spec("openvino") is not None


class OpenVinoRunner:
    """Encoder and mask decoder compiled for this machine's CPU. The prompt encoder, a matter of microseconds, stays with PyTorch.

    Making one traces and compiles the network: some seconds, and for a moment about three times the network's memory.

    Args:
        network: on the CPU, with its adapters merged; its weights are copied, so later changes of it do not reach the runner.
        precision: float32 gives PyTorch's masks. bfloat16 takes half the time on processors that have it, and changes masks: the Dice of
            single volumes by up to 0.015 (docs/speed.md).
        threads: CPU threads; 0 leaves OpenVINO's default (all cores).

    Raises:
        SettingError: OpenVINO is not installed.
    """

    def __init__(self, network: PromptableNetwork, *, precision: Precision = "float32", threads: int = 0) -> None:
        ov = _openvino()
        core = ov.Core()
        self.name = f"openvino-cpu-{precision}"
        self.overlapping = True
        self.batch = BATCH_CPU
        self._network = network
        self._interrupted = False
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _HINTS[precision]}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        mask_decoder: Any = network.prompt_modules[1]
        self._own_tokens: int = mask_decoder.num_mask_tokens + 1
        encoder, decoder = _convert_encoder(ov, network), _convert_decoder(ov, network)
        self._encode_request = core.compile_model(encoder, "CPU", settings).create_infer_request()
        self._decode_request = core.compile_model(decoder, "CPU", settings).create_infer_request()

    def encode(self, pixels: NDArray[np.float32]) -> Tensor:
        side = self._network.embedding_size
        positions = np.stack([self._encode_one(pixels[row : row + 1]) for row in range(len(pixels))])
        # seen as (B, 256, e, e), while in memory the channels stay last, as the decoder reads them
        return torch.from_numpy(positions).to(FEATURES_DTYPE).view(len(pixels), side, side, -1).permute(0, 3, 1, 2)

    def _encode_one(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        request = self._encode_request
        self._interrupted = False
        request.start_async({0: pixels}, share_inputs=True)
        try:
            request.wait()
        except RuntimeError as error:  # what OpenVINO raises for a cancelled request
            if self._interrupted:
                raise EncodeInterruptedError("Somebody clicked.") from error
            raise
        return np.array(request.get_output_tensor(0).data)  # a copy: the next call overwrites the request's own

    def interrupt(self) -> None:
        self._interrupted = True
        self._encode_request.cancel()

    def decode(self, features: Sequence[Tensor], prompts: Sequence[NetworkPrompts]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        answers = [self._decode_one(item, one) for item, one in zip(features, prompts, strict=True)]
        return np.stack([logits for logits, _ in answers]), np.array([iou for _, iou in answers], np.float32)

    def _decode_one(self, features: Tensor, prompts: NetworkPrompts) -> tuple[NDArray[np.float32], float]:
        with torch.inference_mode():
            sparse, dense = _prompt_embeddings(self._network, prompts)
            if self._own_tokens + len(sparse) > MOST_TOKENS:  # more prompts than the compiled decoder is made for
                low_res, score = decode_prompts(self._network, features.float()[None], [prompts])
                return low_res[0, 0].numpy(), float(score[0, 0])
            image = _positions(features.float()) + _positions(dense[0])
        outputs = self._decode_request.infer({0: image.numpy(), 1: sparse.numpy()}, share_inputs=True, share_outputs=True)
        return np.array(outputs[0]), float(outputs[1][0])  # a copy: the next call overwrites the request's own


def _prompt_embeddings(network: PromptableNetwork, prompts: NetworkPrompts) -> tuple[Tensor, Tensor]:
    """Sparse (N, 256; N may be 0) and dense (1, 256, e, e) prompt embeddings of one slice."""
    points = torch.from_numpy(prompts.points)[None, None] if len(prompts.labels) else None
    labels = torch.from_numpy(prompts.labels)[None, None] if len(prompts.labels) else None
    box = None if prompts.box is None else torch.from_numpy(prompts.box)[None, None]
    mask = None if prompts.mask is None else torch.from_numpy(np.ascontiguousarray(prompts.mask))[None, None]
    sparse, dense = network.prompt_modules[0](input_points=points, input_labels=labels, input_boxes=box, input_masks=mask)
    if sparse is None:
        sparse = torch.zeros(1, 1, 0, dense.shape[1])
    return sparse[0, 0].contiguous(), dense


def _positions(features: Tensor) -> Tensor:
    """(256, e, e) to (e * e, 256); without a copy where the channels already lie last in memory."""
    return features.permute(1, 2, 0).flatten(0, 1)


def _convert_encoder(ov: Any, network: PromptableNetwork) -> Any:
    size = network.image_size
    return _convert(ov, _OneSlice(network.inference_encoder()), torch.zeros(1, 3, size, size), [(1, 3, size, size)])


def _convert_decoder(ov: Any, network: PromptableNetwork) -> Any:
    positions, channels = network.embedding_size**2, network.dense_position.shape[1]
    decoder = FoldedMaskDecoder(network.prompt_modules[1], network.dense_position)
    example = (torch.zeros(positions, channels), torch.zeros(3, channels))
    return _convert(ov, decoder, example, [(positions, channels), (-1, channels)])


class _OneSlice(nn.Module):
    """An encoder for one slice: (1, 3, S, S) to (e * e, 256)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        positions: Tensor = self.encoder(pixels)
        return positions[0]


def _convert(ov: Any, module: nn.Module, example: Any, shapes: list[tuple[int, ...]]) -> Any:
    """Trace a module for inputs of these shapes; -1 is any number."""
    with warnings.catch_warnings(), torch.inference_mode():
        # OpenVINO takes torch.jit's traces; torch.export, which is to follow, cannot yet take 0 and many prompts through one graph
        warnings.simplefilter("ignore")  # of that, of names that transformers has replaced, and of traced branches
        # unchecked: torch would run everything twice more; tests compare what comes out with PyTorch
        traced = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        return ov.convert_model(traced, example_input=example, input=shapes)


def _openvino() -> Any:
    if not openvino_installed():
        raise SettingError("OpenVINO is not installed: `pip install --no-deps openvino` (without openvino-telemetry), or serve with torch.")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes its import fail: nothing is reported
    import openvino

    return openvino
