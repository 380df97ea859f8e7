import dataclasses
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_adapters import segmenter as segmenter_module
from sam_adapters.adapters import attach_adapters
from sam_adapters.bases import load_base
from sam_adapters.embedding_cache import EmbeddingCache, SliceKey
from sam_adapters.errors import ImageError, PromptError, SegmentationCancelledError, SettingError
from sam_adapters.loading import adapter_settings, load_adapted, load_segmenter, site_schema, write_untuned
from sam_adapters.prompts import Axis, SlicePrompts, prompts_by_slice, take_slice
from sam_adapters.runner import TorchRunner
from sam_adapters.segmenter import Segmenter, mean_entropy, resolve_device, segment_volume
from sam_adapters.settings import SiteSettings

SIZE = 64
SETTINGS = SiteSettings(image_size=SIZE, device="cpu")


def disc(size: tuple[int, int] = (48, 60), centre: tuple[float, float] = (24, 30), radius: float = 12) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on dark ground (rows, columns), and its mask."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = (x - centre[1]) ** 2 + (y - centre[0]) ** 2 <= radius**2
    return (40 + 160 * mask + 3 * np.sin(x) * np.cos(y)).astype(np.float32), mask


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter(SETTINGS, None, "base")


@pytest.fixture
def counted(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of slices of each call of the encoder."""
    calls: list[int] = []
    encode = segmenter.adapted.network.encode

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(segmenter.adapted.network, "encode", counting)
    return calls


def test_a_box_finds_the_disc_on_the_slices_own_pixels(segmenter: Segmenter) -> None:
    pixels, mask = disc()
    decoded = segmenter.decode(segmenter.encode(pixels), SlicePrompts(box=(18, 12, 42, 36)))
    assert decoded.logits.shape == (48, 60)
    assert decoded.logits.dtype == np.float32
    assert decoded.low_res.shape == (SIZE, SIZE)
    assert dice(decoded.mask, mask) > 0.9
    assert 0 < decoded.iou < 1.2


def test_each_kind_of_prompt_gives_another_answer(segmenter: Segmenter) -> None:
    embedding = segmenter.encode(disc()[0])
    first = segmenter.decode(embedding, SlicePrompts(points=((30, 24, 1),)))
    kinds = [
        SlicePrompts(),
        SlicePrompts(points=((30, 24, 1), (2, 2, 0))),
        SlicePrompts(box=(18, 12, 42, 36)),
        SlicePrompts(points=((30, 24, 1),), box=(18, 12, 42, 36)),
        SlicePrompts(points=((30, 24, 1),), mask=first.low_res),
        SlicePrompts(mask=first.low_res),
    ]
    answers = [segmenter.decode(embedding, kind).logits for kind in kinds]
    assert all(np.isfinite(answer).all() for answer in answers)
    assert all(not np.allclose(one, other, atol=1e-3) for place, one in enumerate(answers) for other in answers[:place])


def test_many_at_once_are_what_each_is_alone(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter.runner, "batch", 3)
    slices = [disc((48, 60))[0], disc((60, 20))[0], disc((64, 64))[0], disc((100, 30))[0]]
    prompts = [SlicePrompts(box=(1, 2, 18, 19)), SlicePrompts(points=((5, 5, 1),)), SlicePrompts(), SlicePrompts(points=((7, 50, 0),))]
    together = segmenter.decode_many(list(zip(segmenter.encode_many(slices), prompts, strict=True)))
    for pixels, item, decoded in zip(slices, prompts, together, strict=True):
        alone = segmenter.decode(segmenter.encode(pixels), item)
        assert decoded.logits.shape == pixels.shape
        np.testing.assert_allclose(decoded.logits, alone.logits, rtol=0, atol=1e-3)
        assert decoded.iou == pytest.approx(alone.iou, abs=1e-4)


def test_the_second_look_at_a_slice_does_not_encode(segmenter: Segmenter, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "cache", EmbeddingCache())
    pixels = disc()[0]
    first = segmenter.encode(pixels, key=SliceKey("image", "k", 3))
    assert segmenter.encode(pixels, key=SliceKey("image", "k", 3)) is first
    segmenter.encode(pixels, key=SliceKey("image", "k", 4))
    segmenter.encode(pixels)
    segmenter.encode(pixels)
    assert sum(counted) == 4
    monkeypatch.setattr(segmenter, "version", "another version")
    assert segmenter.encode(pixels, key=SliceKey("image", "k", 3)) is not first


def test_cached_and_new_slices_keep_their_order(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "cache", EmbeddingCache())
    slices = [disc(radius=radius)[0] for radius in (4, 8, 12)]
    keys = [SliceKey("image", "k", index) for index in range(3)]
    segmenter.encode(slices[1], key=keys[1])
    for embedding, pixels in zip(segmenter.encode_many(slices, keys=keys), slices, strict=True):
        torch.testing.assert_close(embedding.features, segmenter.encode(pixels).features, rtol=0, atol=1e-4)


def test_bad_slices_and_prompts_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(ImageError):
        segmenter.encode(np.zeros((3, 4, 5, 6)))
    embedding = segmenter.encode(np.zeros((20, 30)))
    with pytest.raises(PromptError, match="expected 0 to 29"):
        segmenter.decode(embedding, SlicePrompts(points=((30, 0, 1),)))
    with pytest.raises(PromptError, match=r"expected \[64, 64\]"):
        segmenter.decode(embedding, SlicePrompts(mask=np.zeros((20, 30), np.float32)))


@pytest.mark.parametrize("axis", ["k", "j", "i"])
def test_a_volume_is_segmented_on_prompted_slices_only(segmenter: Segmenter, axis: Axis) -> None:
    k, j, i = np.mgrid[:20, :24, :28]
    ball = (k - 10) ** 2 + (j - 12) ** 2 + (i - 14) ** 2 <= 49
    volume = np.where(ball, 900, 100).astype(np.int16)
    prompts = {
        index: item
        for index, item in prompts_by_slice(roi=[7, 21, 5, 19, 3, 17], axis=axis, shape_kji=volume.shape).items()
        if index % 3 == 0
    }
    result = segment_volume(segmenter, volume, prompts, axis=axis)
    assert (result.mask.shape, result.mask.dtype) == (volume.shape, np.uint8)
    assert set(result.iou) == set(result.uncertainty) == set(prompts)
    touched = {index for index in range(volume.shape["kji".index(axis)]) if take_slice(result.mask, axis, index).any()}
    assert touched <= set(prompts)
    middle = {"k": 9, "j": 12, "i": 15}[axis]
    assert dice(take_slice(result.mask, axis, middle) > 0, take_slice(ball, axis, middle)) > 0.8


def test_without_prompts_every_slice_is_segmented(segmenter: Segmenter, counted: list[int]) -> None:
    picture = np.zeros((3, 20, 24, 3), np.uint8)
    picture[:, 5:15, 5:15] = (200, 90, 30)
    seen: list[tuple[int, int]] = []
    result = segment_volume(segmenter, picture, None, progress=lambda done, total: seen.append((done, total)))
    assert result.mask.shape == (3, 20, 24)
    assert list(result.iou) == [0, 1, 2]
    assert sum(counted) == 3
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_volumes_use_the_cache_under_the_images_name(segmenter: Segmenter, counted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmenter, "cache", EmbeddingCache())
    volume = np.stack([disc()[0]] * 2)
    prompts = {0: SlicePrompts(), 1: SlicePrompts(points=((3, 3, 1),))}
    for _ in range(2):
        segment_volume(segmenter, volume, prompts, content_hash="hash")
    assert sum(counted) == 2
    segment_volume(segmenter, volume, prompts)
    assert sum(counted) == 4


def test_cancelling_stops_before_the_next_slice(segmenter: Segmenter, counted: list[int]) -> None:
    done: list[int] = []
    with pytest.raises(SegmentationCancelledError, match="after 2 of 5 slices"):
        segment_volume(
            segmenter, np.zeros((5, 8, 8)), None, progress=lambda now, _: done.append(now), cancelled=lambda: bool(done) and done[-1] == 2
        )
    assert sum(counted) == 2


def test_a_bad_prompt_is_found_before_anything_is_computed(segmenter: Segmenter, counted: list[int]) -> None:
    for prompts in ({0: SlicePrompts(), 9: SlicePrompts()}, {0: SlicePrompts(), 1: SlicePrompts(points=((99, 0, 1),))}):
        with pytest.raises(PromptError):
            segment_volume(segmenter, np.zeros((3, 8, 8)), prompts)
    assert not counted


def test_threads_share_a_segmenter(segmenter: Segmenter) -> None:
    slices = [disc(radius=radius)[0] for radius in (5, 9, 13)]
    expected = [segmenter.decode(segmenter.encode(pixels), SlicePrompts(box=(15, 10, 45, 40))).logits for pixels in slices]
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        for _ in range(3):
            found[number] = segmenter.decode(segmenter.encode(slices[number]), SlicePrompts(box=(15, 10, 45, 40))).logits

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for number, logits in enumerate(expected):
        np.testing.assert_allclose(found[number], logits, rtol=0, atol=1e-3)


def test_uncertainty_is_entropy_in_bits() -> None:
    assert mean_entropy(np.zeros((3, 3), np.float32)) == pytest.approx(1)
    assert mean_entropy(np.full((3, 3), 1e4, np.float32)) == pytest.approx(0)
    p = 1 / (1 + np.exp(-2.0))
    one = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    assert mean_entropy(np.array([[2, -2], [0, -1e4]], np.float32)) == pytest.approx((2 * one + 1) / 4)


def test_bfloat16_encodes_nearly_the_same(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, mask = disc()
    exact = segmenter.encode(pixels).features
    monkeypatch.setattr(segmenter, "runner", TorchRunner(segmenter.adapted.network, torch.device("cpu"), bf16=True))
    coarse = segmenter.encode(pixels)
    assert coarse.features.dtype == exact.dtype == torch.float16
    assert 0 < (coarse.features.float() - exact.float()).abs().max() < 0.3
    assert dice(segmenter.decode(coarse, SlicePrompts(box=(18, 12, 42, 36))).mask, mask) > 0.9


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:99"])
def test_devices_that_are_not_there_are_refused(device: str) -> None:
    with pytest.raises(SettingError, match="Device"):
        resolve_device(device)


def test_auto_takes_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(segmenter_module.torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(segmenter_module.torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_answers_like_the_cpu(segmenter: Segmenter) -> None:
    pixels, _ = disc()
    on_cuda = load_segmenter(dataclasses.replace(SETTINGS, device="cuda"), None, "base")
    prompts = SlicePrompts(box=(18, 12, 42, 36), points=((30, 24, 1),))
    one, other = (each.decode(each.encode(pixels), prompts) for each in (segmenter, on_cuda))
    assert dice(one.mask, other.mask) > 0.97


def test_a_version_is_served_as_it_was_saved(tmp_path: Path) -> None:
    tuned = load_adapted(SETTINGS)
    assert not tuned.merged
    with torch.no_grad():
        for parameter in tuned.trainable_parameters():
            parameter += 0.03
    tuned.save(tmp_path / "version")
    segmenter = load_segmenter(SETTINGS, tmp_path / "version", "v1", cache=(cache := EmbeddingCache()))
    assert (segmenter.version, segmenter.base, segmenter.image_size) == ("v1", "litemedsam", SIZE)
    assert segmenter.cache is cache
    direct = Segmenter(tuned, version="v1")
    pixels, prompts = disc()[0], SlicePrompts(box=(18, 12, 42, 36))
    one, other = (each.decode(each.encode(pixels), prompts).logits for each in (segmenter, direct))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-4 * float(np.abs(other).max()))  # merged and unmerged products round apart


def test_the_untuned_adapter_is_written_without_the_weights(tmp_path: Path) -> None:
    schema = write_untuned(SETTINGS, tmp_path / "untuned")
    assert schema == site_schema(SETTINGS)
    attached = attach_adapters(load_base("litemedsam", image_size=SIZE), adapter_settings(SETTINGS), seed=SETTINGS.seed)
    assert attached.schema == schema
    attached.save(tmp_path / "attached")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "untuned" / name).read_bytes() == (tmp_path / "attached" / name).read_bytes()


def test_threads_are_set_where_the_site_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    load_adapted(dataclasses.replace(SETTINGS, threads=3))
    load_adapted(SETTINGS)
    assert chosen == [3]
