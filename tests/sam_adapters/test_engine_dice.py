"""Masks of the compiled engine against PyTorch's, as Dice with the truth: on virtual patients always, on real volumes where they are."""

import os
from pathlib import Path

import numpy as np
import pytest

from sam_adapters.dice import overlap
from sam_adapters.images import read_image, read_label
from sam_adapters.loading import load_segmenter
from sam_adapters.openvino_runner import OpenVinoRunner, openvino_installed
from sam_adapters.prompts import SlicePrompts, tight_box
from sam_adapters.segmenter import Segmenter
from sam_adapters.settings import SiteSettings
from tests.monailabel_app.server_process import blob

pytestmark = pytest.mark.skipif(not openvino_installed(), reason="OpenVINO is not installed")

VOLUMES = Path(os.environ.get("FEDSCA_DATA", Path(__file__).parents[3] / "shared" / "data")) / "volumes"
CASES = [("fedbca_t2", "c4_02", 1), ("spinalcord", "sct_t2", 1), ("totalsegmentator_ct", "ts_ct", 5), ("hippocampus", "hippocampus_040", 1)]
SIZE = 128
SLICES = 8
LARGEST_DIFFERENCE = 0.002


@pytest.fixture(scope="module")
def pair() -> tuple[Segmenter, Segmenter]:
    """PyTorch in float32, and what a server on this machine uses."""
    eager, compiled = (load_segmenter(SiteSettings(image_size=SIZE, device="cpu"), None, "base") for _ in range(2))
    compiled.runner = OpenVinoRunner(compiled.adapted.network)
    return eager, compiled


def volume_dice(segmenter: Segmenter, image: np.ndarray, target: np.ndarray) -> float:
    """Dice over the slices, each prompted with the box around the target."""
    found = [index for index in range(len(target)) if target[index].sum() >= 20]
    chosen = [found[place] for place in np.unique(np.linspace(0, len(found) - 1, SLICES).round().astype(int))]
    parts = [
        overlap(segmenter.decode(segmenter.encode(image[index]), SlicePrompts(box=tight_box(target[index]))).mask, target[index])
        for index in chosen
    ]
    return sum(parts[1:], parts[0]).dice


def test_on_a_virtual_volume(pair: tuple[Segmenter, Segmenter]) -> None:
    image, target = blob((6, 80, 96))
    eager, compiled = (volume_dice(segmenter, image, target) for segmenter in pair)
    assert eager > 0.9
    assert abs(eager - compiled) < LARGEST_DIFFERENCE


@pytest.mark.skipif(not VOLUMES.is_dir(), reason=f"no real volumes in {VOLUMES} (set FEDSCA_DATA)")
def test_on_real_volumes(pair: tuple[Segmenter, Segmenter]) -> None:
    differences = []
    for folder, case, value in CASES:
        studies = VOLUMES / folder / "studies"
        image = read_image(studies / f"{case}.nii.gz")
        target = read_label(studies / "labels" / "final" / f"{case}.nii.gz", like=image) == value
        eager, compiled = (volume_dice(segmenter, image.array, target) for segmenter in pair)
        differences.append(compiled - eager)
        assert abs(differences[-1]) < LARGEST_DIFFERENCE, f"{case}: {compiled:.4f} against {eager:.4f}"
    assert abs(np.mean(differences)) < LARGEST_DIFFERENCE / 2
