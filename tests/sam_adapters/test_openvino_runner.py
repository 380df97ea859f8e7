import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_adapters.adapters import attach_adapters
from sam_adapters.bases import load_base
from sam_adapters.embedding_cache import EmbeddingCache, SliceKey
from sam_adapters.errors import EncodeInterruptedError
from sam_adapters.loading import load_segmenter
from sam_adapters.openvino_runner import OpenVinoRunner, openvino_installed
from sam_adapters.priority_lock import Priority
from sam_adapters.prompts import SlicePrompts
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings
from tests.sam_adapters.test_sam_hf import tiny_sam
from tests.sam_adapters.test_segmenter import dice, disc

pytestmark = pytest.mark.skipif(not openvino_installed(), reason="OpenVINO is not installed")

SIZE = 64
SETTINGS = SiteSettings(image_size=SIZE, device="cpu")
DEADLINE = 60.0


@pytest.fixture(scope="module")
def pair() -> tuple[Segmenter, Segmenter]:
    """A tuned version through PyTorch, and the same through OpenVINO in float32."""
    segmenters = []
    for _ in range(2):
        segmenter = load_segmenter(SETTINGS, None, "base")
        segmenter.adapted.unmerge()
        torch.manual_seed(3)
        with torch.no_grad():
            for parameter in segmenter.adapted.trainable_parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        segmenter.adapted.merge()
        segmenters.append(segmenter)
    segmenters[1].runner = OpenVinoRunner(segmenters[1].adapted.network, precision="float32")
    return segmenters[0], segmenters[1]


LOW = np.linspace(-8, 8, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)


@pytest.mark.parametrize(
    "prompts",
    [
        SlicePrompts(),
        SlicePrompts(box=(18, 12, 42, 36)),
        SlicePrompts(points=((30, 24, 1),)),
        SlicePrompts(points=((30, 24, 1), (2, 2, 0), (40, 20, 1), (1, 40, 0), (33, 27, 1))),
        SlicePrompts(points=tuple((20 + k, 24 + k % 3, k % 2) for k in range(20))),  # more than the compiled decoder takes
        SlicePrompts(points=((30, 24, 1),), box=(18, 12, 42, 36)),
        SlicePrompts(mask=LOW),
        SlicePrompts(points=((30, 24, 1), (3, 3, 0)), box=(18, 12, 42, 36), mask=LOW),
    ],
)
def test_it_computes_what_pytorch_computes(pair: tuple[Segmenter, Segmenter], prompts: SlicePrompts) -> None:
    pixels = disc()[0]
    torch_answer, compiled_answer = (segmenter.decode(segmenter.encode(pixels), prompts) for segmenter in pair)
    assert [segmenter.engine_name for segmenter in pair] == ["torch-cpu-float32", "openvino-cpu-float32"]
    spread = float(np.abs(torch_answer.logits).max())
    np.testing.assert_allclose(compiled_answer.logits, torch_answer.logits, rtol=0, atol=2e-3 * spread)
    assert compiled_answer.iou == pytest.approx(torch_answer.iou, abs=2e-3)


def test_bfloat16_finds_the_same_disc() -> None:
    segmenter = load_segmenter(SETTINGS, None, "base")
    pixels, mask = disc()
    prompts = SlicePrompts(box=(18, 12, 42, 36))
    exact = segmenter.decode(segmenter.encode(pixels), prompts).mask
    segmenter.runner = OpenVinoRunner(segmenter.adapted.network, precision="bfloat16")
    rounded = segmenter.decode(segmenter.encode(pixels), prompts).mask
    assert dice(rounded, exact) > 0.98
    assert dice(rounded, mask) > 0.9


def test_answers_do_not_change_when_others_are_asked_meanwhile(pair: tuple[Segmenter, Segmenter]) -> None:
    segmenter = pair[1]
    slices = [disc(radius=radius)[0] for radius in (6, 9, 12, 15)]
    prompts = SlicePrompts(box=(18, 12, 42, 36))
    alone = [segmenter.decode(segmenter.encode(pixels), prompts) for pixels in slices]
    answers: list[list[np.ndarray]] = [[] for _ in slices]

    def ask(number: int) -> None:
        for _ in range(5):
            answers[number].append(segmenter.decode(segmenter.encode(slices[number]), prompts).logits)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(slices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=DEADLINE)
    for expected, found in zip(alone, answers, strict=True):
        assert len(found) == 5
        for logits in found:
            np.testing.assert_array_equal(logits, expected.logits)


def test_a_decode_does_not_wait_for_the_encode_in_flight(pair: tuple[Segmenter, Segmenter], monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = pair[1]
    embedding = segmenter.encode(disc()[0])
    inside, leave = threading.Event(), threading.Event()
    encode = segmenter.runner.encode

    def slow(pixels: np.ndarray) -> torch.Tensor:
        inside.set()
        assert leave.wait(DEADLINE)
        return encode(pixels)

    monkeypatch.setattr(segmenter.runner, "encode", slow)
    thread = threading.Thread(target=lambda: segmenter.encode(disc(radius=5)[0], priority=Priority.PREFETCH))
    thread.start()
    assert inside.wait(DEADLINE)
    assert segmenter.decode(embedding, SlicePrompts(box=(18, 12, 42, 36))).mask.any()
    assert not leave.is_set()
    leave.set()
    thread.join(timeout=DEADLINE)


def test_an_encode_gives_way_to_a_click_and_is_done_again(pair: tuple[Segmenter, Segmenter], monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = pair[1]
    pixels = disc(radius=7)[0]
    expected = segmenter.encode(pixels).features
    begun, tried = threading.Event(), []
    encode = segmenter.runner.encode

    def watched(values: np.ndarray) -> torch.Tensor:
        tried.append(1)
        begun.set()
        if len(tried) == 1:  # in place of an encode that takes long enough to be hit
            assert interrupted.wait(DEADLINE)
            raise EncodeInterruptedError("Somebody clicked.")
        return encode(values)

    interrupted = threading.Event()
    monkeypatch.setattr(segmenter.runner, "encode", watched)
    monkeypatch.setattr(segmenter.runner, "interrupt", interrupted.set)
    made: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: made.append(segmenter.encode(pixels, priority=Priority.PREFETCH).features))
    thread.start()
    assert begun.wait(DEADLINE)
    with segmenter.turns.click():
        assert interrupted.is_set()
    thread.join(timeout=DEADLINE)
    assert len(tried) == 2
    assert torch.equal(made[0], expected)


def test_a_cancelled_request_is_an_interruption() -> None:
    segmenter = load_segmenter(SiteSettings(image_size=256, device="cpu"), None, "base")
    runner = OpenVinoRunner(segmenter.adapted.network)
    pixels = np.random.default_rng(0).random((1, 3, 256, 256), np.float32)
    expected = runner.encode(pixels)
    stop = threading.Event()

    def interrupt() -> None:
        while not stop.wait(0.02):
            runner.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(EncodeInterruptedError):
        runner.encode(pixels)
    stop.set()
    thread.join(timeout=DEADLINE)
    assert torch.equal(runner.encode(pixels), expected)


def test_the_sam_family_is_compiled_too(tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path)
    network = load_base(f"sam:{tmp_path}")
    adapted = attach_adapters(network)
    adapted.merge()
    segmenter = Segmenter(adapted)
    pixels = disc()[0]
    prompts = SlicePrompts(box=(18, 12, 42, 36), points=((30, 24, 1),))
    expected = segmenter.decode(segmenter.encode(pixels), prompts)
    segmenter.runner = OpenVinoRunner(network, precision="float32")
    found = segmenter.decode(segmenter.encode(pixels), prompts)
    np.testing.assert_allclose(found.logits, expected.logits, rtol=0, atol=2e-3 * float(np.abs(expected.logits).max()))


def test_a_slice_that_is_being_encoded_is_not_encoded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = load_segmenter(SETTINGS, None, "base", EmbeddingCache())
    inside, leave, calls = threading.Event(), threading.Event(), []
    encode = segmenter.runner.encode

    def slow(pixels: np.ndarray) -> torch.Tensor:
        calls.append(len(pixels))
        inside.set()
        assert leave.wait(DEADLINE)
        return encode(pixels)

    monkeypatch.setattr(segmenter.runner, "encode", slow)
    pixels, key, made = disc()[0], SliceKey("image", "k", 1), []
    threads = [
        threading.Thread(target=lambda order=order: made.append(segmenter.encode(pixels, key=key, priority=order)))
        for order in (Priority.PREFETCH, Priority.CLICK)
    ]
    threads[0].start()
    assert inside.wait(DEADLINE)
    threads[1].start()
    leave.set()
    for thread in threads:
        thread.join(timeout=DEADLINE)
    assert calls == [1]
    assert made[0] is made[1]


def test_openvino_is_never_imported_with_its_telemetry() -> None:
    script = (
        "import sys; from sam_adapters.openvino_runner import _openvino; _openvino(); "
        "import openvino.tools.ovc.telemetry_utils as t; print(t.tm.__name__, sys.modules.get('openvino_telemetry'))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=120, check=True)
    assert answer.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]
