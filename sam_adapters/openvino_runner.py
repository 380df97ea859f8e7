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
from sam_adapters.prompt_decoding import NetworkPrompts
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
        encoder, decoder = _convert_encoder(ov, network), _convert_decoder(ov, network)
        self._encode_request = core.compile_model(encoder, "CPU", settings).create_infer_request()
        self._decode_request = core.compile_model(decoder, "CPU", settings).create_infer_request()

    def encode(self, pixels: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(np.concatenate([self._encode_one(pixels[row : row + 1]) for row in range(len(pixels))])).to(FEATURES_DTYPE)

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
            image = features.float()[None] + dense
        logits, iou = self._run(self._decode_request, {0: image.numpy(), 1: sparse.numpy()})
        return logits[0], float(iou[0])

    @staticmethod
    def _run(request: Any, inputs: dict[int, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        outputs = request.infer(inputs, share_inputs=True, share_outputs=True)
        return [np.array(outputs[place]) for place in range(len(outputs))]  # copies: the next call overwrites the request's own


class _Encoder(nn.Module):
    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.encode(pixels)


class _Decoder(nn.Module):
    """Mask decoder for one slice: image embedding with the dense prompt added (1, 256, e, e) and sparse prompts (1, 1, N, 256)."""

    def __init__(self, network: PromptableNetwork) -> None:
        super().__init__()
        self.decoder = network.prompt_modules[1]
        self.register_buffer("position", network.dense_position.contiguous(), persistent=False)
        self.register_buffer("nothing", torch.zeros(1, 1, 1, 1), persistent=False)

    def forward(self, image: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        logits, iou = self.decoder(
            image_embeddings=image,
            image_positional_embeddings=self.position,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=self.nothing,
            multimask_output=False,
        )
        return logits[:, 0, 0], iou[:, 0, 0]


def _prompt_embeddings(network: PromptableNetwork, prompts: NetworkPrompts) -> tuple[Tensor, Tensor]:
    """Sparse (1, 1, N, 256; N may be 0) and dense (1, 256, e, e) prompt embeddings of one slice."""
    points = torch.from_numpy(prompts.points)[None, None] if len(prompts.labels) else None
    labels = torch.from_numpy(prompts.labels)[None, None] if len(prompts.labels) else None
    box = None if prompts.box is None else torch.from_numpy(prompts.box)[None, None]
    mask = None if prompts.mask is None else torch.from_numpy(np.ascontiguousarray(prompts.mask))[None, None]
    sparse, dense = network.prompt_modules[0](input_points=points, input_labels=labels, input_boxes=box, input_masks=mask)
    if sparse is None:
        sparse = torch.zeros(1, 1, 0, dense.shape[1])
    return sparse.contiguous(), dense


def _convert_encoder(ov: Any, network: PromptableNetwork) -> Any:
    size = network.image_size
    return _convert(ov, _Encoder(network), torch.zeros(1, 3, size, size), [(1, 3, size, size)])


def _convert_decoder(ov: Any, network: PromptableNetwork) -> Any:
    side = network.embedding_size
    channels = network.dense_position.shape[1]
    example = (torch.zeros(1, channels, side, side), torch.zeros(1, 1, 3, channels))
    return _convert(ov, _Decoder(network), example, [(1, channels, side, side), (1, 1, -1, channels)])


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
