"""What measures is right itself: percentiles, the clicks that are compared, the work of a simulated reader, and a short soak."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import clicks_to_accept, soak
from benchmarks.clicks import Click, spread_clicks
from benchmarks.published_encoder import as_published
from benchmarks.timing import Timing
from sam_adapters.bases.tiny_vit import ConvNorm, TinyViT
from sam_adapters.geometry import Geometry
from sam_adapters.images import MedicalImage
from sam_adapters.loading import load_segmenter, write_untuned
from sam_adapters.settings import SiteSettings
from tests.sam_adapters.test_segmenter import disc


def test_percentiles_are_linear_between_neighbours() -> None:
    timing = Timing("x", tuple(float(value) for value in range(1, 22)))
    assert (timing.percentile(50), timing.percentile(95)) == (11, 20)
    assert timing.to_dict()["max_ms"] == 21


def test_clicks_are_on_different_slices_and_inside_the_image() -> None:
    array = np.zeros((60, 40, 50), np.int16)
    geometry = Geometry((50, 40, 60), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    image = MedicalImage(array, geometry, "hash")
    clicks = spread_clicks(image, 20, seed=1)
    assert len({click.index for click in clicks}) == 20
    for click in clicks:
        click.prompts.check((40, 50))
        assert 6 <= click.index <= 53
    assert clicks == spread_clicks(image, 20, seed=1)
    with pytest.raises(ValueError, match="60 along k"):
        spread_clicks(image, 70, seed=1)


def test_a_click_is_the_same_for_the_segmenter_and_over_http() -> None:
    assert Click("k", 7, 30, 20, box=False).body("case")["foreground"] == [[30, 20, 7]]
    assert Click("k", 7, 30, 20, box=True).body("case")["roi"] == [0, 30, 0, 20, 7, 7]
    assert Click("k", 7, 30, 20, box=True).prompts.box == (0, 0, 30, 20)


def test_a_simulated_reader_works_until_the_mask_is_good() -> None:
    segmenter = load_segmenter(SiteSettings(image_size=64, device="cpu"), None, "base")
    pixels, mask = disc()
    target = clicks_to_accept.Target("site", "case", 1, 3, pixels, mask)
    work = clicks_to_accept.work_on(segmenter, target, "box", seed=0)
    assert work == clicks_to_accept.work_on(segmenter, target, "box", seed=0)
    assert work.clicks == next(number for number, value in enumerate(work.dice) if value >= clicks_to_accept.ACCEPTED)
    assert 0.5 < work.filled < 0.9  # a disc fills pi/4 of its box
    assert len(work.dice) <= 1 + clicks_to_accept.MOST_CLICKS
    clicked = clicks_to_accept.work_on(segmenter, target, "click", seed=0)
    assert clicked.clicks is None or clicked.dice[clicked.clicks - 1] >= clicks_to_accept.ACCEPTED


def test_half_a_minute_of_mixed_traffic(tmp_path: Path) -> None:
    """Clicks, saves, a tuning, volumes and bad requests at once: every answer as expected, no label lost, memory bounded."""
    conf = {"cpu_engine": "torch", "device": "cpu", "tune_steps": "2"}
    record, bound, status = soak.soak(tmp_path, minutes=0.5, users=2, image_size=64, conf=conf)
    assert record.wrong == []
    assert set(record.counts) >= {"open", "first click", "click", "undo", "save", "refused", "info"}
    sizes = [size for _, size in record.memory]
    assert max(sizes) - sizes[len(sizes) // 4] < bound
    assert status["labels"]["train"] + status["labels"]["validation"] == len(record.saved)


def test_the_encoder_as_published_computes_the_same_and_only_within_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    encoder = TinyViT().eval()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
            torch.nn.init.normal_(module.running_mean)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = encoder(pixels)
        with monkeypatch.context() as forbidden, as_published(encoder):
            forbidden.setattr(ConvNorm, "forward", None)  # within the block nothing is folded
            plain = encoder(pixels)
        again = encoder(pixels)
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, expected)


def test_a_version_of_another_layout_is_worked_with(tmp_path: Path) -> None:
    write_untuned(SiteSettings(image_size=64, rank=4, shared_depth=0.5, shared_decoder=False), tmp_path / "version")
    settings = clicks_to_accept._settings(tmp_path / "version", 64)
    assert (settings.rank, settings.shared_depth, settings.shared_decoder) == (4, 0.5, False)
    assert load_segmenter(settings, tmp_path / "version", "tuned").version == "tuned"
    assert clicks_to_accept._settings(None, 64) == SiteSettings(image_size=64)
